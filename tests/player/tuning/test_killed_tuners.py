"""Searches whose tuner is killed, or fails, go on where they were or say so."""

import fcntl
import os
import signal
import threading
import time

import psutil

from kennel_cli.platforms import records
from kennel_cli.platforms.records import Record
from tests.player.conftest import holder_of, open_files
from tests.player.tuning.conftest import RUNNING, log, refused, trials


def kill_tuner(sagemaker, name="search"):
    """Kill the process that holds the tuning job's lock, and nobody else."""
    tuner = holder_of(sagemaker.tuning_folder(name) / "keeper.lock")
    os.kill(tuner.pid, signal.SIGKILL)
    psutil.wait_procs([tuner], timeout=10)


def description_without_tuner(sagemaker):
    """The description of a search once it is Failed: a fork of the tuner may have its lock for a moment longer."""
    deadline = time.monotonic() + 20
    while True:
        described = sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="search")
        if described["HyperParameterTuningJobStatus"] == "Failed" or time.monotonic() > deadline:
            return described
        time.sleep(0.02)


def test_a_killed_tuner_goes_on_and_runs_no_trial_twice(sagemaker, search, finish):
    static = {"epochs": "4", "pause": "0.25"}
    sagemaker.create_hyper_parameter_tuning_job(**search(jobs=6, static=static, Strategy="Bayesian"))
    for pause in (0.5, 2.5, 1.5, 3.2):
        time.sleep(pause)
        described = sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="search")
        if described["HyperParameterTuningJobStatus"] not in RUNNING:
            break
        kill_tuner(sagemaker)
        described = description_without_tuner(sagemaker)
        assert described["HyperParameterTuningJobStatus"] == "Failed"
        assert "`kennel tune --resume search` goes on" in described["FailureReason"]
        sagemaker.resume_hyper_parameter_tuning_job("search")
    assert finish()["HyperParameterTuningJobStatus"] == "Completed"
    found = trials(sagemaker)
    assert [t["TrainingJobName"][:10] for t in found] == [f"search-{n:03}" for n in range(1, 7)]
    assert {t["TrainingJobStatus"] for t in found} == {"Completed"}
    for trial in found:
        assert log(sagemaker, trial).count("epoch 1: ") == 1


def test_the_trials_of_a_killed_tuner_run_to_their_ends(sagemaker, search):
    sagemaker.create_hyper_parameter_tuning_job(**search(jobs=2, static={"epochs": "30", "pause": "0.2"}))
    while not all("score=" in log(sagemaker, t) for t in trials(sagemaker)) or len(trials(sagemaker)) < 2:
        time.sleep(0.1)
    kill_tuner(sagemaker)
    for trial in trials(sagemaker):
        sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName=trial["TrainingJobName"])
    assert {t["TrainingJobStatus"] for t in trials(sagemaker)} == {"Completed"}


def test_a_tuner_that_fails_stops_its_trials_and_says_where_to_look(sagemaker, search, finish):
    sagemaker.create_hyper_parameter_tuning_job(**search(static={"epochs": "30", "pause": "0.2"}))
    while not any("score=" in log(sagemaker, t) for t in trials(sagemaker)):
        time.sleep(0.1)
    (sagemaker.tuning_folder("search") / "search.sqlite").write_bytes(b"no database")
    first = trials(sagemaker)[0]["TrainingJobName"]
    sagemaker.stop_training_job(TrainingJobName=first)
    described = finish()
    assert described["HyperParameterTuningJobStatus"] == "Failed"
    assert described["FailureReason"].startswith("InternalServerError: ")
    assert "keeper.log" in described["FailureReason"]
    deadline = time.monotonic() + 30
    while {t["TrainingJobStatus"] for t in trials(sagemaker)} != {"Stopped"}:
        assert time.monotonic() < deadline, trials(sagemaker)
        time.sleep(0.1)


def test_trials_that_were_lost_with_the_machine_do_not_fail_the_search(sagemaker, search, finish):
    static = {"epochs": "4", "pause": "2"}
    sagemaker.create_hyper_parameter_tuning_job(**search(jobs=5, parallel=4, static=static))
    while [bool(log(sagemaker, t)) for t in trials(sagemaker)] != [True] * 4:
        time.sleep(0.1)
    locks = [sagemaker.tuning_folder("search") / "keeper.lock"]
    locks += [sagemaker.training_folder(t["TrainingJobName"]) / "keeper.lock" for t in trials(sagemaker)]
    keepers = [
        p for p in psutil.process_iter() if {file.path for file in open_files(p)} & {str(lock) for lock in locks}
    ]
    for keeper in keepers:
        keeper.kill()
    psutil.wait_procs(keepers, timeout=10)
    sagemaker.resume_hyper_parameter_tuning_job("search")
    described = finish()
    assert described["HyperParameterTuningJobStatus"] == "Completed", described.get("FailureReason")
    counters = described["TrainingJobStatusCounters"]
    assert (counters["Completed"], counters["NonRetryableError"]) == (1, 4)


def test_a_search_whose_tuner_is_gone_can_be_stopped(sagemaker, search):
    sagemaker.create_hyper_parameter_tuning_job(**search(jobs=2, static={"epochs": "1000", "pause": "0.1"}))
    while not any("score=" in log(sagemaker, t) for t in trials(sagemaker)):
        time.sleep(0.1)
    kill_tuner(sagemaker)
    sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="search")
    described = sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="search")
    assert described["HyperParameterTuningJobStatus"] == "Stopped"
    for trial in trials(sagemaker):
        sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName=trial["TrainingJobName"])
    assert {t["TrainingJobStatus"] for t in trials(sagemaker)} == {"Stopped"}


def test_only_a_search_whose_tuner_is_gone_is_resumed(sagemaker, search, finish):
    sagemaker.create_hyper_parameter_tuning_job(**search(jobs=1))
    assert "needs no tuner" in refused(lambda: sagemaker.resume_hyper_parameter_tuning_job("search"))["Message"]
    finish()
    assert (
        "is Completed and needs no tuner"
        in refused(lambda: sagemaker.resume_hyper_parameter_tuning_job("search"))["Message"]
    )


def test_a_keeper_is_started_again_while_somebody_looks_whether_there_is_one(sagemaker, search, finish, monkeypatch):
    sagemaker.create_hyper_parameter_tuning_job(**search(jobs=1))
    finish()
    record = Record(sagemaker.tuning_folder("search"))
    while record.is_kept():
        time.sleep(0.05)
    started = []
    monkeypatch.setattr(records, "start_detached", lambda module, *rest: started.append(module))
    with (record.folder / "keeper.lock").open() as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        threading.Timer(0.3, lambda: fcntl.flock(look, fcntl.LOCK_UN)).start()
        record.restart("keeper")
    assert started == ["keeper"]

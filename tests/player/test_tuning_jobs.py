"""The local tuner, on two kinds of trials: quick scripts whose objective is known, and Kennel's own training."""

import fcntl
import json
import os
import re
import signal
import threading
import time
from datetime import datetime
from pathlib import Path

import psutil
import pytest
from botocore.exceptions import ClientError

from kennel_cli.platforms import records
from kennel_cli.platforms.records import Record
from kennel_cli.platforms.validation import service_model
from kennel_cli.requests import training_job
from kennel_cli.settings import LOCAL
from tests.player.conftest import SMALL_JOB

# prints `score` once an epoch, rising to the hyperparameter `level`, as slowly as `pause` says
SCRIPT = """
import argparse, time
parser = argparse.ArgumentParser()
parser.add_argument("--level", type=float)
parser.add_argument("--label", default="a")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--pause", type=float, default=0)
parser.add_argument("--fails", default="no")
options, _ = parser.parse_known_args()
if options.fails == "yes":
    raise SystemExit("this trial cannot be run")
for epoch in range(1, options.epochs + 1):
    print(f"epoch {epoch}: score={options.level * epoch / options.epochs:.6f};", flush=True)
    time.sleep(options.pause)
"""
X = {"ContinuousParameterRanges": [{"Name": "level", "MinValue": "0", "MaxValue": "1", "ScalingType": "Linear"}]}
LABELS = {
    "CategoricalParameterRanges": [{"Name": "level", "Values": ["0.1", "0.9"]}, {"Name": "label", "Values": ["a", "b"]}]
}
RUNNING = ("InProgress", "Stopping")


@pytest.fixture
def search(sagemaker, tmp_path):
    """Make the request of a search over scripts."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "script.py").write_text(SCRIPT)

    def make(name="search", ranges=X, jobs=4, parallel=2, static=(), **config):
        members = training_job("x", {"training": sagemaker.store.link(source, LOCAL.bucket)}, {}, LOCAL)
        members["AlgorithmSpecification"]["MetricDefinitions"] = [{"Name": "score", "Regex": r"score=([0-9.]+);"}]
        submitted = {"sagemaker_program": "script.py", "sagemaker_submit_directory": str(source)}
        limits = {"MaxParallelTrainingJobs": parallel, **({"MaxNumberOfTrainingJobs": jobs} if jobs else {})}
        return {
            "HyperParameterTuningJobName": name,
            "HyperParameterTuningJobConfig": {
                "Strategy": "Random",
                "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "score"},
                "ResourceLimits": limits,
                "ParameterRanges": ranges,
                "RandomSeed": 1,
                **config,
            },
            "TrainingJobDefinition": {
                "StaticHyperParameters": {**submitted, **dict(static)},
                **{k: v for k, v in members.items() if k not in ("TrainingJobName", "HyperParameters", "Tags")},
            },
        }

    return make


@pytest.fixture
def finish(sagemaker):
    """Wait for the end of a search and return its description."""

    def wait(name="search", limit=120):
        deadline = time.monotonic() + limit
        while True:
            described = sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
            if described["HyperParameterTuningJobStatus"] not in RUNNING:
                return described
            assert time.monotonic() < deadline, described
            time.sleep(0.1)

    return wait


def trials(sagemaker, name="search", **request):
    answer = sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(HyperParameterTuningJobName=name, **request)
    return answer["TrainingJobSummaries"]


def scores(sagemaker, name="search"):
    final = "FinalHyperParameterTuningJobObjectiveMetric"
    return [trial[final]["Value"] for trial in trials(sagemaker, name) if final in trial]


def refused(call, **request):
    with pytest.raises(ClientError) as caught:
        call(**request)
    return caught.value.response["Error"]


def test_a_search_finds_the_best_of_its_trials(sagemaker, search, finish):
    created = sagemaker.create_hyper_parameter_tuning_job(**search(jobs=5, Strategy="Bayesian"))
    assert created["HyperParameterTuningJobArn"].endswith(":hyper-parameter-tuning-job/search")
    described = finish()
    assert described["HyperParameterTuningJobStatus"] == "Completed"
    assert described["TrainingJobStatusCounters"] == {
        "Completed": 5,
        "InProgress": 0,
        "RetryableError": 0,
        "NonRetryableError": 0,
        "Stopped": 0,
    }
    assert described["ObjectiveStatusCounters"] == {"Succeeded": 5, "Pending": 0, "Failed": 0}
    best = described["BestTrainingJob"]
    assert best["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == max(scores(sagemaker))
    assert float(best["TunedHyperParameters"]["level"]) == pytest.approx(max(scores(sagemaker)), abs=1e-6)


def test_answers_have_the_members_and_types_of_the_services(sagemaker, search, finish):
    request = search(jobs=2)
    sagemaker.create_hyper_parameter_tuning_job(**request)
    described = finish()
    model = service_model("sagemaker")
    members = model.operation_model("DescribeHyperParameterTuningJob").output_shape.members
    assert set(described) - {"ResponseMetadata"} <= set(members)
    assert {name: described[name] for name in request} == request
    assert isinstance(described["HyperParameterTuningEndTime"], datetime)
    listed = model.operation_model("ListTrainingJobsForHyperParameterTuningJob").output_shape
    shape = listed.members["TrainingJobSummaries"].member
    for trial in trials(sagemaker):
        assert set(shape.required_members) <= set(trial) <= set(shape.members)
        assert isinstance(trial["TrainingEndTime"], datetime)
    [summary] = sagemaker.list_hyper_parameter_tuning_jobs()["HyperParameterTuningJobSummaries"]
    shape = model.operation_model("ListHyperParameterTuningJobs").output_shape
    shape = shape.members["HyperParameterTuningJobSummaries"].member
    assert set(shape.required_members) <= set(summary) <= set(shape.members)


def test_a_trial_gets_texts_and_the_objectives_name_b3_b4(sagemaker, search, finish):
    sagemaker.create_hyper_parameter_tuning_job(**search(jobs=1))
    finish()
    [trial] = trials(sagemaker)
    given = sagemaker.training_folder(trial["TrainingJobName"]) / "ml/input/config/hyperparameters.json"
    values = json.loads(given.read_text())
    assert values["_tuning_objective_metric"] == "score"
    assert all(isinstance(value, str) for value in values.values())
    assert values["level"] == trial["TunedHyperParameters"]["level"]
    assert re.fullmatch(r"search-001-[0-9a-f]{8}", trial["TrainingJobName"])


def test_no_more_trials_run_at_a_time_than_allowed_b11(sagemaker, search, finish):
    sagemaker.create_hyper_parameter_tuning_job(**search(jobs=5, parallel=2, static={"pause": "0.3"}))
    finish()
    spans = [(t["TrainingStartTime"], t["TrainingEndTime"]) for t in trials(sagemaker)]
    for begin, _ in spans:
        assert sum(other <= begin < end for other, end in spans) <= 2
    assert any(sum(other <= begin < end for other, end in spans) == 2 for begin, _ in spans)


def test_a_grid_tries_every_combination_once_b1(sagemaker, search, finish):
    sagemaker.create_hyper_parameter_tuning_job(**search(ranges=LABELS, jobs=None, Strategy="Grid"))
    assert finish()["HyperParameterTuningJobStatus"] == "Completed"
    tried = [(t["TunedHyperParameters"]["level"], t["TunedHyperParameters"]["label"]) for t in trials(sagemaker)]
    assert sorted(tried) == [("0.1", "a"), ("0.1", "b"), ("0.9", "a"), ("0.9", "b")]


def test_the_same_seed_draws_the_same_b11(sagemaker, search, finish):
    for name in ("one", "two"):
        sagemaker.create_hyper_parameter_tuning_job(**search(name))
        finish(name)
    drawn = [[t["TunedHyperParameters"] for t in trials(sagemaker, name)] for name in ("one", "two")]
    assert drawn[0] == drawn[1]


def test_the_last_value_in_the_log_is_the_objective_b5(sagemaker, search, finish):
    sagemaker.create_hyper_parameter_tuning_job(**search(jobs=1, static={"epochs": "7"}))
    finish()
    [trial] = trials(sagemaker)
    value = trial["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]
    assert value == pytest.approx(float(trial["TunedHyperParameters"]["level"]), abs=1e-6)


def test_early_stopping_ends_what_the_median_has_left_behind_b7(sagemaker, search, finish):
    values = ["0.5", "0.51", "0.52", "0.1"]
    ranges = {"CategoricalParameterRanges": [{"Name": "level", "Values": values}]}
    request = search(
        ranges=ranges,
        jobs=None,
        parallel=1,
        static={"epochs": "20", "pause": "0.2"},
        Strategy="Grid",
        TrainingJobEarlyStoppingType="Auto",
    )
    sagemaker.create_hyper_parameter_tuning_job(**request)
    described = finish()
    status = {t["TunedHyperParameters"]["level"]: t["TrainingJobStatus"] for t in trials(sagemaker)}
    assert status == {"0.5": "Completed", "0.51": "Completed", "0.52": "Completed", "0.1": "Stopped"}
    assert described["TrainingJobStatusCounters"]["Stopped"] == 1
    assert described["HyperParameterTuningJobStatus"] == "Completed"


def test_hyperband_stops_trials_that_fall_behind_b8(sagemaker, search, finish):
    request = search(jobs=6, parallel=2, static={"epochs": "9", "pause": "0.15"}, Strategy="Hyperband")
    sagemaker.create_hyper_parameter_tuning_job(**request)
    described = finish()
    assert described["HyperParameterTuningJobStatus"] == "Completed"
    counters = described["TrainingJobStatusCounters"]
    assert counters["Stopped"] >= 1
    assert counters["Completed"] >= 1
    stopped = [t for t in trials(sagemaker) if t["TrainingJobStatus"] == "Stopped"]
    assert described["BestTrainingJob"]["TrainingJobName"] not in {t["TrainingJobName"] for t in stopped}


def test_a_target_ends_the_search_b9(sagemaker, search, finish):
    ranges = {"CategoricalParameterRanges": [{"Name": "level", "Values": ["0.2", "0.8", "0.3", "0.4"]}]}
    criteria = {"TargetObjectiveMetricValue": 0.75}
    request = search(ranges=ranges, jobs=None, parallel=1, Strategy="Grid", TuningJobCompletionCriteria=criteria)
    sagemaker.create_hyper_parameter_tuning_job(**request)
    described = finish()
    assert described["HyperParameterTuningJobStatus"] == "Completed"
    assert scores(sagemaker) == [0.2, 0.8]


def test_a_search_that_gets_no_better_ends_b9(sagemaker, search, finish):
    ranges = {"CategoricalParameterRanges": [{"Name": "level", "Values": ["0.9", "0.1", "0.2", "0.3", "0.4", "0.5"]}]}
    criteria = {"BestObjectiveNotImproving": {"MaxNumberOfTrainingJobsNotImproving": 3}}
    request = search(ranges=ranges, jobs=None, parallel=1, Strategy="Grid", TuningJobCompletionCriteria=criteria)
    sagemaker.create_hyper_parameter_tuning_job(**request)
    described = finish()
    assert scores(sagemaker) == [0.9, 0.1, 0.2, 0.3]
    assert described["TuningJobCompletionDetails"]["NumberOfTrainingJobsObjectiveNotImproving"] == 3


def test_a_search_that_has_converged_ends_b9(sagemaker, search, finish):
    levels = ["0.9", *(f"0.{n}" for n in range(10, 25))]
    ranges = {
        "CategoricalParameterRanges": [
            {"Name": "level", "Values": levels},
            {"Name": "label", "Values": ["a", "b", "c"]},
        ]
    }
    criteria = {"ConvergenceDetected": {"CompleteOnConvergence": "Enabled"}}
    request = search(
        ranges=ranges,
        jobs=None,
        parallel=2,
        static={"epochs": "1"},
        Strategy="Grid",
        TuningJobCompletionCriteria=criteria,
    )
    sagemaker.create_hyper_parameter_tuning_job(**request)
    described = finish()
    assert described["HyperParameterTuningJobStatus"] == "Completed"
    assert isinstance(described["TuningJobCompletionDetails"]["ConvergenceDetectedTime"], datetime)
    assert 31 <= len(trials(sagemaker)) < 48


def test_a_search_begins_with_what_its_parent_found_b10(sagemaker, search, finish):
    sagemaker.create_hyper_parameter_tuning_job(**search("parent", jobs=3))
    best = finish("parent")["BestTrainingJob"]
    child = search(
        "child",
        jobs=2,
        ranges={"ContinuousParameterRanges": [{**X["ContinuousParameterRanges"][0], "MaxValue": "0.01"}]},
    )
    child["WarmStartConfig"] = {
        "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "parent"}],
        "WarmStartType": "IdenticalDataAndAlgorithm",
    }
    sagemaker.create_hyper_parameter_tuning_job(**child)
    described = finish("child")
    assert described["OverallBestTrainingJob"]["TrainingJobName"] == best["TrainingJobName"]
    assert described["BestTrainingJob"]["TuningJobName"] == "child"
    names = [t["TrainingJobName"].rsplit("-", 1)[0] for t in trials(sagemaker, "child")]
    assert names == ["child-001", "child-002"]


def test_parents_that_cannot_be_started_from_are_refused_b10(sagemaker, search, finish):
    sagemaker.create_hyper_parameter_tuning_job(**search("parent", static={"pause": "1"}))

    def problem(parent, **changes):
        child = search("child", **changes)
        child["WarmStartConfig"] = {
            "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": parent}],
            "WarmStartType": "TransferLearning",
        }
        return refused(sagemaker.create_hyper_parameter_tuning_job, **child)["Message"]

    assert "there is no tuning job nobody" in problem("nobody")
    assert "parent is InProgress; a parent has to have ended" in problem("parent", static={"pause": "1"})
    sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="parent")
    finish("parent")
    assert "has other hyperparameters (pause)" in problem("parent")
    objective = {"Type": "Minimize", "MetricName": "score"}
    assert "has the objective" in problem("parent", static={"pause": "1"}, HyperParameterTuningJobObjective=objective)


def test_a_stopped_search_stops_its_trials_a1_9(sagemaker, search, finish):
    sagemaker.create_hyper_parameter_tuning_job(**search(static={"epochs": "1000", "pause": "0.1"}))
    while not any("score=" in log(sagemaker, t) for t in trials(sagemaker)):
        time.sleep(0.1)
    sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="search")
    described = sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="search")
    assert described["HyperParameterTuningJobStatus"] in ("Stopping", "Stopped")
    assert finish()["HyperParameterTuningJobStatus"] == "Stopped"
    assert {t["TrainingJobStatus"] for t in trials(sagemaker)} == {"Stopped"}
    error = refused(sagemaker.stop_hyper_parameter_tuning_job, HyperParameterTuningJobName="search")
    assert "in status Stopped" in error["Message"]


def test_a_trial_that_has_ended_since_somebody_looked_is_not_stopped(sagemaker, search, finish):
    sagemaker.create_hyper_parameter_tuning_job(**search(jobs=1))
    finish()
    [trial] = trials(sagemaker)
    sagemaker.stop_unless_ended(trial["TrainingJobName"])
    assert trials(sagemaker) == [trial]


def log(sagemaker, trial):
    file = sagemaker.training_log(trial["TrainingJobName"])
    return file.read_text() if file.exists() else ""


def test_a_metric_that_never_appears_fails_the_search_with_the_last_lines(sagemaker, search, finish):
    request = search()
    request["TrainingJobDefinition"]["AlgorithmSpecification"]["MetricDefinitions"][0]["Regex"] = r"nothing=(\d+)"
    sagemaker.create_hyper_parameter_tuning_job(**request)
    described = finish()
    assert described["HyperParameterTuningJobStatus"] == "Failed"
    assert "its log holds no value of score" in described["FailureReason"]
    assert "epoch 3: score=" in described["FailureReason"]
    assert described["TrainingJobStatusCounters"]["Completed"] < 4


def test_a_search_whose_trials_all_fail_gives_up_and_says_why(sagemaker, search, finish):
    sagemaker.create_hyper_parameter_tuning_job(**search(jobs=8, static={"fails": "yes"}))
    described = finish()
    assert described["HyperParameterTuningJobStatus"] == "Failed"
    assert "this trial cannot be run" in described["FailureReason"]
    assert 3 <= described["TrainingJobStatusCounters"]["NonRetryableError"] <= 5


def test_trials_that_fail_do_not_end_a_search(sagemaker, search, finish):
    ranges = {
        "CategoricalParameterRanges": [
            {"Name": "fails", "Values": ["no", "yes"]},
            {"Name": "label", "Values": ["a", "b"]},
        ]
    }
    sagemaker.create_hyper_parameter_tuning_job(
        **search(ranges=ranges, jobs=None, static={"level": "0.5"}, Strategy="Grid")
    )
    described = finish()
    assert described["HyperParameterTuningJobStatus"] == "Completed"
    assert described["ObjectiveStatusCounters"] == {"Succeeded": 2, "Pending": 0, "Failed": 2}


def test_names_are_unique_and_unknown_searches_are_not_found(sagemaker, search, finish):
    sagemaker.create_hyper_parameter_tuning_job(**search(jobs=1))
    assert refused(sagemaker.create_hyper_parameter_tuning_job, **search(jobs=1))["Code"] == "ResourceInUse"
    finish()
    error = refused(sagemaker.describe_hyper_parameter_tuning_job, HyperParameterTuningJobName="nobody")
    assert error["Code"] == "ResourceNotFound"


def test_trials_are_listed_by_name_time_or_objective_in_pages(sagemaker, search, finish):
    sagemaker.create_hyper_parameter_tuning_job(**search(jobs=4))
    finish()
    by_name = [t["TrainingJobName"] for t in trials(sagemaker)]
    assert by_name == sorted(by_name)
    ranked = trials(sagemaker, SortBy="FinalObjectiveMetricValue", SortOrder="Descending")
    values = [t["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for t in ranked]
    assert values == sorted(values, reverse=True)
    first = sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName="search", MaxResults=3
    )
    assert [t["TrainingJobName"] for t in first["TrainingJobSummaries"]] == by_name[:3]
    assert [t["TrainingJobName"] for t in trials(sagemaker, NextToken=first["NextToken"])] == by_name[3:]
    assert trials(sagemaker, StatusEquals="Failed") == []
    named = sagemaker.list_hyper_parameter_tuning_jobs(NameContains="sea", StatusEquals="Completed")
    assert len(named["HyperParameterTuningJobSummaries"]) == 1
    assert sagemaker.list_hyper_parameter_tuning_jobs(NameContains="x")["HyperParameterTuningJobSummaries"] == []


# The tuner is killed


def kill_tuner(sagemaker, name="search"):
    """Kill the process that holds the tuning job's lock, and nobody else."""
    lock = sagemaker.tuning_folder(name) / "keeper.lock"
    holders = []
    for process in psutil.process_iter():
        try:
            if any(file.path == str(lock) for file in process.open_files()):
                holders.append(process)
        except psutil.Error:
            continue
    assert len(holders) == 1, holders
    os.kill(holders[0].pid, signal.SIGKILL)
    psutil.wait_procs(holders, timeout=10)


def test_a_killed_tuner_goes_on_and_runs_no_trial_twice(sagemaker, search, finish):
    static = {"epochs": "4", "pause": "0.25"}
    sagemaker.create_hyper_parameter_tuning_job(**search(jobs=6, static=static, Strategy="Bayesian"))
    for pause in (0.5, 2.5, 1.5, 3.2):
        time.sleep(pause)
        described = sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="search")
        if described["HyperParameterTuningJobStatus"] not in RUNNING:
            break
        kill_tuner(sagemaker)
        described = sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="search")
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
    sagemaker.create_hyper_parameter_tuning_job(**search(jobs=2, static={"epochs": "10", "pause": "0.2"}))
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
    keepers = [p for p in psutil.process_iter() if {file.path for file in _files(p)} & {str(lock) for lock in locks}]
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


# Kennel's own training


@pytest.fixture
def heads(sagemaker, colour_images, resnet18_weights):
    """Make the request of a search over heads on the colour images."""

    def make(name="search", ranges=None, jobs=3, **static):
        channels = {
            "training": sagemaker.store.link(colour_images, LOCAL.bucket),
            "pretrained": sagemaker.store.link(resnet18_weights, LOCAL.bucket),
        }
        members = training_job("x", channels, {}, LOCAL)
        rate = {"Name": "learning_rate", "MinValue": "1e-4", "MaxValue": "1e-2", "ScalingType": "Logarithmic"}
        return {
            "HyperParameterTuningJobName": name,
            "HyperParameterTuningJobConfig": {
                "Strategy": "Bayesian",
                "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "valid_accuracy"},
                "ResourceLimits": {"MaxParallelTrainingJobs": 2, "MaxNumberOfTrainingJobs": jobs},
                "ParameterRanges": ranges or {"ContinuousParameterRanges": [rate]},
            },
            "TrainingJobDefinition": {
                "StaticHyperParameters": {**SMALL_JOB, "weights": "pretrained", **static},
                **{k: v for k, v in members.items() if k not in ("TrainingJobName", "HyperParameters", "Tags")},
            },
        }

    return make


def test_trials_share_one_pass_also_when_they_start_at_the_same_moment(sagemaker, heads, finish):
    sagemaker.create_hyper_parameter_tuning_job(**heads())
    assert finish()["HyperParameterTuningJobStatus"] == "Completed"
    lines = "".join(log(sagemaker, t) for t in trials(sagemaker))
    for work in ("step=decode; split=train", "step=features (original)", "step=features (mirrored)", "step=test"):
        assert lines.count(f"progress {work}") == 1, work


def test_trials_that_differ_in_what_matters_do_not_share(sagemaker, heads, finish):
    sizes = {"CategoricalParameterRanges": [{"Name": "image_size", "Values": ["32", "40"]}]}
    request = heads(ranges=sizes)
    del request["TrainingJobDefinition"]["StaticHyperParameters"]["image_size"]
    request["HyperParameterTuningJobConfig"] |= {"Strategy": "Grid", "ResourceLimits": {"MaxParallelTrainingJobs": 2}}
    sagemaker.create_hyper_parameter_tuning_job(**request)
    finish()
    for trial in trials(sagemaker):
        assert "progress step=decode; split=train" in log(sagemaker, trial)


def test_trial_1_is_the_defaults(sagemaker, heads, finish):
    sagemaker.create_hyper_parameter_tuning_job(**heads(jobs=1))
    finish()
    [trial] = trials(sagemaker)
    assert trial["TunedHyperParameters"] == {"learning_rate": "0.0005"}


def test_a_warm_trials_script_sees_nothing_of_the_users_environment_b12(sagemaker, search, finish, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-tell")
    sagemaker.create_hyper_parameter_tuning_job(**search(jobs=1, static={"pause": "1"}))
    while not any("score=" in log(sagemaker, t) for t in trials(sagemaker)):
        time.sleep(0.05)
    programs = [p for p in psutil.process_iter() if _environment(p).get("TRAINING_JOB_NAME", "").startswith("search-")]
    assert programs
    assert all("AWS_SECRET_ACCESS_KEY" not in _environment(p) for p in programs)
    finish()


def test_a_script_does_not_wait_for_torch(sagemaker, search, finish):
    """It is a program of its own, started by a fork of the tuner: what these two import is of no use to it."""
    sagemaker.create_hyper_parameter_tuning_job(**search("light", jobs=1, static={"pause": "1"}))
    while not (scripts := [p for p in psutil.process_iter() if _is_script(_environment(p), "light")]):
        time.sleep(0.05)
    loaded = {Path(file.path).name for file in scripts[0].parent().memory_maps()}
    assert any(name.startswith(("python", "libpython")) for name in loaded)
    assert not any(name.startswith("libtorch") for name in loaded)
    finish("light")


def _is_script(environment, search):
    return environment.get("TRAINING_JOB_NAME", "").startswith(f"{search}-") and "SM_MODULE_NAME" in environment


def test_a_warm_trial_is_a_job_like_any_other_b12(sagemaker, heads, finish):
    sagemaker.create_hyper_parameter_tuning_job(**heads(jobs=2, epochs="1000"))
    while not (first := next((t for t in trials(sagemaker) if "epoch=2 " in log(sagemaker, t)), None)):
        time.sleep(0.05)
    sagemaker.stop_training_job(TrainingJobName=first["TrainingJobName"])
    finish()
    stopped = sagemaker.describe_training_job(TrainingJobName=first["TrainingJobName"])
    assert stopped["TrainingJobStatus"] in ("Stopped", "Completed")
    assert sagemaker.store.path(stopped["ModelArtifacts"]["S3ModelArtifacts"]).is_file()
    assert "\nbest_epoch=" in log(sagemaker, first)


def _environment(process):
    try:
        return process.environ()
    except psutil.Error:
        return {}


def test_a_warm_trial_that_is_killed_says_why(sagemaker, heads, finish):
    sagemaker.create_hyper_parameter_tuning_job(**heads(jobs=1, epochs="1000"))
    while not any("epoch=2 " in log(sagemaker, t) for t in trials(sagemaker)):
        time.sleep(0.05)
    [trial] = trials(sagemaker)
    keeper = trial["TrainingJobName"]
    leaves = [p for p in psutil.process_iter() if any(keeper in file.path for file in _files(p)) and not p.children()]
    for leaf in leaves:
        leaf.kill()
    described = finish()
    assert described["HyperParameterTuningJobStatus"] == "Failed"
    assert "was killed by SIGKILL" in described["FailureReason"]


def _files(process):
    try:
        return process.open_files()
    except psutil.Error:
        return []

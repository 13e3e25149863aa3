"""Contract A2.2, A5.8, A6.8, A6.9, B6, for the real `train` in several processes and on several hosts.

A host is a box with an address of its own on this machine's loopback interface; the toolkit's port is the same for all
jobs, so only one job of several hosts runs at a time.
"""

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from kennel.model.artifact import load_artifact
from tests.contract.box import SCRATCH, SIGTERM_WITHOUT_MODEL, SMALL_JOB, Box

TWO = {"sagemaker_mpi_num_of_processes_per_host": "2"}
HOSTS = ("127.0.0.2", "127.0.0.3")
ENDING = 40  # seconds in which all processes have to be gone when one is dead

pytestmark = pytest.mark.process_only


@pytest.fixture
def job(box: Box, colour_images: Path) -> Box:
    """A box that is ready to train in two processes."""
    box.prepare({**SCRATCH, **TWO}, training=colour_images)
    return box


@pytest.fixture
def hosts(box: Box, tmp_path: Path) -> Iterator[Callable[..., list[Box]]]:
    """Make a box for each of two hosts, with the same hyperparameters and data."""
    boxes: list[Box] = []

    def make(
        hyperparameters: Any, *data: Path | None, groups: tuple[str, ...] = ("all", "all"), **more: Any
    ) -> list[Box]:
        members = {name: [h for h, g in zip(HOSTS, groups, strict=True) if g == name] for name in groups}
        for host, group, folder in zip(HOSTS, groups, data, strict=True):
            one = Box(box.runner, tmp_path / host)
            one.variables["KENNEL_CACHE"] = str(one.folder / "cache")
            channels = {"training": folder} if folder else {}
            one.prepare(hyperparameters, **channels)
            named = [{"instance_group_name": n, "instance_type": "ml.m5.large", "hosts": m} for n, m in members.items()]
            resources = {"current_host": host, "hosts": HOSTS, "network_interface_name": "lo", **more}
            one.config("resourceconfig.json", {**resources, "current_group_name": group, "instance_groups": named})
            one.config("inputdataconfig.json", {"training": {"TrainingInputMode": "File"}})
            boxes.append(one)
        return boxes

    yield make
    for one in boxes:
        if one.program is not None and one.program.poll() is None:
            for process in reversed(psutil.Process(one.program.pid).children(recursive=True)):
                process.kill()
            one.wait(30)


def metric_lines(box: Box) -> list[dict[str, float]]:
    """The numbers of each line of metrics."""
    lines = [line for line in box.log.splitlines() if "epoch=" in line]
    return [{name: float(value) for name, value in re.findall(r"(\w+)=([\d.]+)", line)} for line in lines]


def ranks(box: Box) -> list[psutil.Process]:
    """The processes that torchrun has started for a box, in the order of ranks."""
    found = {}
    assert box.program is not None
    for process in psutil.Process(box.program.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended
            if "torchrun" not in " ".join(process.cmdline()) and "RANK" in process.environ():
                found[int(process.environ()["RANK"])] = process
    return [found[rank] for rank in sorted(found)]


def assert_equal_lines(one: list[dict[str, float]], other: list[dict[str, float]]) -> None:
    assert len(one) == len(other)
    for mine, theirs in zip(one, other, strict=True):
        assert mine == pytest.approx(theirs, abs=1.5e-4)  # lines have four decimals


def test_two_processes_give_the_figures_of_one_and_leave_nothing_a5_8_a6_7_b6_b12(box, colour_images, resnet18_weights):
    hyperparameters = {
        **SMALL_JOB,
        "backbone": "resnet18",  # with norms, whose statistics each process has of its own
        "epochs": "2",
        "unfreeze": "all",
        "fine_tune_epochs": "2",
        "augment": "randaugment",
        "precision": "float32",
        "class_weights": "balanced",
        "dropout": "0",  # each process has random numbers of its own
    }
    channels = {"training": colour_images, "pretrained": resnet18_weights}
    temporary = box.folder / "temporary"
    temporary.mkdir()
    box.variables["TMPDIR"] = str(temporary)
    box.prepare({**hyperparameters, **TWO}, **channels)
    assert box.train() == 0, box.log
    alone = Box(box.runner, box.folder / "alone", {"KENNEL_CACHE": str(box.folder / "cache-alone")})
    alone.prepare(hyperparameters, **channels)
    assert alone.train() == 0
    assert_equal_lines(metric_lines(box), metric_lines(alone))
    assert sorted(entry.name for entry in (box.tree / "model").iterdir()) == ["kennel.json", "model.safetensors"]
    both = [load_artifact(one.tree / "model")[0].state_dict() for one in (box, alone)]
    assert all(torch.allclose(mine, both[1][name], atol=1e-4) for name, mine in both[0].items())
    assert box.failure == ""
    assert list(temporary.iterdir()) == []  # a6.7, b12


def test_what_two_processes_measure_is_the_model_that_is_saved_a5_8(job):
    more = {"epochs": "3", "precision": "float32", "ema_decay": "0.5"}
    job.config("hyperparameters.json", {**SCRATCH, **TWO, "backbone": "resnet18", **more})
    assert job.train() == 0, job.log
    *epochs, saved = metric_lines(job)
    best = epochs[int(saved["best_epoch"]) - 1]
    assert saved["valid_loss"] == pytest.approx(best["valid_loss"], abs=1.5e-4)  # each has its own running statistics


def test_two_processes_that_are_killed_go_on_where_they_were_a6_2(job):
    job.config("hyperparameters.json", {**SCRATCH, **TWO, "epochs": "24", "checkpoint_seconds": "0"})
    (job.tree / "checkpoints").mkdir()
    job.start("train")
    job.wait_for("epoch=3 ")
    both = ranks(job)
    both[0].kill()
    assert job.wait(ENDING) == 1
    assert job.train() == 0, job.log
    assert "resume checkpoint=" in job.log
    ended = metric_lines(job)[-1]
    for file in (job.tree / "checkpoints").iterdir():
        file.unlink()
    assert job.train() == 0
    assert metric_lines(job)[-1] == ended


def test_a_reason_that_a_process_gives_is_the_jobs_a1_5(job, tmp_path):
    (tmp_path / "empty").mkdir()
    job.config("inputdataconfig.json", {"training": {}, "pretrained": {}})
    (job.tree / "input" / "data" / "training").unlink()
    (job.tree / "input" / "data" / "training").symlink_to(tmp_path / "empty")
    assert job.train() == 1
    assert job.failure.startswith("no `train` split: the channel `training`")
    assert "Traceback" not in job.failure


def test_a_bad_hyperparameter_is_said_before_processes_are_started_a1_5(job):
    job.config("hyperparameters.json", {**SCRATCH, **TWO, "epochs": "many"})
    assert job.train() == 1
    assert job.failure.startswith("bad hyperparameters: epochs=many") or "epochs=many" in job.failure
    assert "torchrun" not in job.log


def test_a_number_of_processes_that_is_none_is_refused_a5_8(job):
    job.config("hyperparameters.json", {**SCRATCH, "sagemaker_mpi_num_of_processes_per_host": "0"})
    assert job.train() == 1
    assert job.failure.startswith("sagemaker_mpi_num_of_processes_per_host is 0; it should be a whole number")


def test_sigterm_reaches_all_processes_and_keeps_the_best_model_a1_9_a5_8(job):
    job.config("hyperparameters.json", {**SCRATCH, **TWO, "epochs": "1000"})
    job.start("train")
    job.wait_for("epoch=2 ")
    assert job.stop(limit=60) == 0, job.log
    assert (job.tree / "model" / "kennel.json").exists()
    assert job.failure == ""
    assert "SignalException" not in job.log


def test_sigterm_while_processes_start_says_that_there_is_no_model_a1_10_a5_8(job):
    job.start("train")
    deadline = time.monotonic() + 60
    while not ranks(job):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert job.stop(limit=30) == SIGTERM_WITHOUT_MODEL
    assert job.failure.startswith("Stopped by SIGTERM")
    assert "SignalException" not in job.failure


def test_a_process_that_is_killed_ends_the_job_with_its_rank_a1_8_a5_8(job):
    job.config("hyperparameters.json", {**SCRATCH, **TWO, "epochs": "1000"})
    job.start("train")
    job.wait_for("epoch=1 ")
    both = ranks(job)
    assert len(both) == 2
    both[1].kill()
    assert job.wait(ENDING) == 1
    assert job.failure.startswith("The process of rank 1 was killed by SIGKILL (signal 9)")
    assert not any(process.is_running() for process in both)


def test_when_torchrun_is_killed_its_processes_end_too_a1_10(job):
    job.config("hyperparameters.json", {**SCRATCH, **TWO, "epochs": "1000"})
    job.start("train")
    job.wait_for("epoch=1 ")
    both = ranks(job)
    both[0].parent().kill()
    assert job.wait(ENDING) != 0
    assert not any(process.is_running() for process in both)


def test_two_hosts_train_one_model_which_the_first_one_writes_a2_2_a2_8_a6_9_b6(hosts, colour_images):
    first, second = hosts(SCRATCH, colour_images, colour_images)
    second.start("train")
    first.start("train")
    assert [one.wait(100) for one in (first, second)] == [0, 0], first.log + second.log
    assert [line.get("best_epoch") for line in metric_lines(first)] == [None, 1.0]
    assert metric_lines(second) == []
    assert (first.tree / "model" / "kennel.json").exists()
    assert list((second.tree / "model").iterdir()) == []


def test_a_host_without_data_gets_what_another_has_a2_7(hosts, colour_images):
    first, second = hosts({**SCRATCH, "epochs": "1"}, None, colour_images)
    first.start("train")
    second.start("train")
    assert [one.wait(100) for one in (first, second)] == [0, 0], first.log + second.log
    assert "channels are split over hosts: 42 files were sent between 2 hosts" in first.log
    assert "images classes=3; train=24; valid=9; test=9" in first.log
    assert (first.tree / "model" / "kennel.json").exists()
    assert list((first.folder / "cache" / "shards").iterdir()) == []


def test_a_host_that_fails_says_why_and_the_other_that_it_lost_it_a6_9(hosts, colour_images, small_weights):
    first, second = hosts({**SCRATCH, "epochs": "1"}, colour_images, colour_images, network_interface_name="ethwe")
    second.config("hyperparameters.json", {**SCRATCH, "weights": "/nowhere.pth"})
    first.start("train")
    second.start("train")
    assert [one.wait(100) for one in (first, second)] == [1, 1]
    assert "there is no network interface ethwe here" in first.log  # and one that is there was taken
    assert "/nowhere.pth" in second.failure.splitlines()[0]
    assert first.failure.startswith("lost the connection to the processes that train together")


def test_a_host_outside_the_group_that_trains_has_nothing_to_do_a6_8(hosts, colour_images):
    hyperparameters = {**SCRATCH, "sagemaker_distribution_instance_groups": '["gpus"]'}
    outside, inside = hosts(hyperparameters, colour_images, colour_images, groups=("cpus", "gpus"))
    assert outside.train() == 0
    assert f"nothing to do: {HOSTS[0]} is none of the hosts that train, {HOSTS[1]}" in outside.log
    assert list((outside.tree / "model").iterdir()) == []
    assert inside.train() == 0
    assert (inside.tree / "model" / "kennel.json").exists()


def test_several_groups_of_which_none_is_named_are_refused_a6_8(hosts, colour_images):
    first, _ = hosts(SCRATCH, colour_images, colour_images, groups=("cpus", "gpus"))
    assert first.train() == 1
    assert first.failure.startswith("the job has the instance groups cpus, gpus; say which of them trains")


def test_a_search_in_one_job_on_several_hosts_is_refused_a2_2(hosts, colour_images):
    first, _ = hosts({**SCRATCH, "search": "{}"}, colour_images, colour_images)
    assert first.train() == 1
    assert first.failure.startswith("a search in one job runs on one host, not on 2")


def test_a_script_of_the_users_runs_under_torchrun_and_its_failure_fails_the_job_a5_8(box):
    box.submit(
        "import os, sys\n"
        "print('rank', os.environ['RANK'], 'of', os.environ['WORLD_SIZE'], flush=True)\n"
        "if os.environ['RANK'] == '1':\n"
        "    raise ValueError('the reason of it all')\n",
        sagemaker_torch_distributed_enabled="true",
        **TWO,
    )
    assert box.train() == 1
    assert "rank 0 of 2" in box.log
    assert box.failure.splitlines()[0].endswith("ValueError: the reason of it all")

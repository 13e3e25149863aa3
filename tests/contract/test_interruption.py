"""Contract A2.10, A6.1 to A6.3, B13: what an interrupted job leaves, and how the next start goes on from it."""

import json
import re

import pytest

from kennel.engines.torch_engine import TorchEngine
from kennel.model.artifact import load_artifact
from tests.contract.box import SMALL_JOB, TRAINING_LIMIT

EPOCHS = 12
FINE_TUNING = {
    **SMALL_JOB,
    "backbone": "shufflenet_v2_x0_5",
    "weights": "none",
    "epochs": str(EPOCHS),
    "fc_units": "16",
    "checkpoint_seconds": "0",
}


@pytest.fixture
def job(box, colour_images):
    """A box with a job that trains for some seconds, and a folder for its checkpoints."""
    box.prepare(FINE_TUNING, training=colour_images)
    box.variables["TRAINING_JOB_NAME"] = "job-1"
    (box.tree / "checkpoints").mkdir()
    return box


def checkpoints(box):
    return sorted(file.name for file in (box.tree / "checkpoints").iterdir())


def epochs(box):
    return [int(number) for number in re.findall(r"^epoch=(\d+) ", box.log, re.MULTILINE)]


def last_line(box):
    return next(line for line in reversed(box.log.splitlines()) if line.startswith("best_epoch="))


def test_a_job_that_is_killed_goes_on_where_it_was_a2_10_a6_1_a6_2_a6_3(job):
    job.start("train")
    job.wait_for("epoch=4 ")
    job.kill()
    seen = epochs(job)
    assert len(checkpoints(job)) in (2, 3)  # the last two, and perhaps one that was being written
    assert job.train() == 0, job.log
    resumed = re.search(r"resume checkpoint=kennel-\w+-\d+\.ckpt; phase=network; epoch=(\d+);", job.log)
    assert resumed
    assert 4 <= int(resumed[1]) <= seen[-1] + 1
    assert epochs(job)[len(seen) :] == list(range(int(resumed[1]), EPOCHS + 1))
    ended = last_line(job)
    for file in (job.tree / "checkpoints").iterdir():
        file.unlink()
    assert job.train() == 0
    assert epochs(job)[-EPOCHS:] == list(range(1, EPOCHS + 1))
    assert last_line(job) == ended


@pytest.mark.process_only
def test_another_jobs_checkpoints_and_broken_ones_are_named_and_left_alone_a6_1_b13(job):
    job.config("hyperparameters.json", {**FINE_TUNING, "epochs": "2"})
    assert job.train() == 0
    first = checkpoints(job)
    contents = {name: (job.tree / "checkpoints" / name).read_bytes() for name in first}
    job.variables["TRAINING_JOB_NAME"] = "job-2"  # a tuning job gives all trials one folder (contract B13)
    job.config("hyperparameters.json", {**FINE_TUNING, "epochs": "2", "backbone": "squeezenet1_0", "image_size": "64"})
    assert job.train() == 0
    assert "resume" not in job.log
    assert f"checkpoints of other jobs or settings are left alone and not used: {first[0]}" in job.log
    assert {name: (job.tree / "checkpoints" / name).read_bytes() for name in first} == contents
    second = [name for name in checkpoints(job) if name not in first]
    newest = job.tree / "checkpoints" / second[-1]
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    cut = newest.read_bytes()
    assert job.train() == 0
    assert f"the checkpoint {newest.name} cannot be read and is left alone: " in job.log
    assert f"resume checkpoint={second[-2]};" in job.log
    assert newest.read_bytes() == cut


@pytest.mark.process_only
def test_a_stopped_job_keeps_model_and_checkpoint_and_goes_on_a1_9_a6_2(job):
    job.start("train")
    job.wait_for("epoch=4 ")
    assert job.stop(limit=20) == 0
    classifier, manifest = load_artifact(job.tree / "model")
    answers = TorchEngine(classifier, manifest.preprocessing)
    answers.warm_up()
    assert manifest.metrics["valid_accuracy"] > 0
    seen = epochs(job)
    assert job.train() == 0
    assert epochs(job)[len(seen)] in (seen[-1], seen[-1] + 1)
    assert epochs(job)[-1] == EPOCHS
    assert "test_accuracy" in json.loads((job.tree / "model" / "kennel.json").read_text())["metrics"]


@pytest.mark.process_only
def test_without_a_folder_for_checkpoints_none_are_written_a2_10(job):
    (job.tree / "checkpoints").rmdir()
    job.config("hyperparameters.json", {**FINE_TUNING, "epochs": "2"})
    job.start("train")
    assert job.wait(TRAINING_LIMIT) == 0
    assert not (job.tree / "checkpoints").exists()

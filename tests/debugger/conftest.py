"""Trainings for the debugger to look at: trial folders of smdebug's, and real jobs."""

import json
import logging
from types import SimpleNamespace

import pytest

from kennel.container.environment import Folders
from kennel.container.watching import watched
from kennel.errors import TrainingError
from kennel.hyperparameters import parse_hyperparameters
from kennel.training.job import Job
from kennel.training.progress import StopSignal
from kennel.training.run import run
from tests.debugger.trainings import Trials
from tests.samples import write_colour_images

SMALL = {"backbone": "resnet18", "image_size": "32", "epochs": "2", "batch_size": "8"}


@pytest.fixture(scope="session")
def healthy_images(tmp_path_factory):
    return write_colour_images(tmp_path_factory.mktemp("images") / "colours", train=30, valid=12, test=1, side=32)


@pytest.fixture
def train(healthy_images, resnet18_weights, tmp_path, caplog):
    """Train as a container does, and return what it said, left and gave back."""

    def run_job(data=healthy_images, name="job", **hyperparameters):
        caplog.clear()
        caplog.set_level(logging.INFO, logger="kennel")
        values = {**SMALL, "weights": str(resnet18_weights), **hyperparameters}
        output = tmp_path / name / "output"
        job = Job(
            hyperparameters=parse_hyperparameters(values),
            channels={"training": data},
            model_dir=tmp_path / name / "model",
            output_dir=output,
            cache_dir=tmp_path / "cache",
            weights_dir=tmp_path / "no weights",
        )
        stop, problem = StopSignal(), ""
        given = SimpleNamespace(folders=Folders(tmp_path / name / "ml"))
        try:
            with watched(job, given, stop) as watching:
                run(job, stop, watching=watching)
        except TrainingError as error:
            problem = str(error)
        model, file = job.model_dir / "model.safetensors", output / "debugger.json"
        return SimpleNamespace(
            lines=caplog.messages,
            model=model.read_bytes() if model.exists() else None,
            record=json.loads(file.read_text()) if file.exists() else None,
            problem=problem,
        )

    return run_job


@pytest.fixture(scope="session")
def trials(tmp_path_factory):
    return Trials(tmp_path_factory.mktemp("trials"))

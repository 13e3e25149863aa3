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
def trials(tmp_path_factory):
    return Trials(tmp_path_factory.mktemp("trials"))


@pytest.fixture(scope="session")
def healthy_images(tmp_path_factory):
    return write_colour_images(tmp_path_factory.mktemp("images") / "colours", train=30, valid=12, test=1, side=32)


@pytest.fixture(scope="session")
def run_job(resnet18_weights, tmp_path_factory):
    """Train as a container does, and return what that left."""
    cache = tmp_path_factory.mktemp("cache")

    def train(folder, data, **hyperparameters):
        output = folder / "output"
        job = Job(
            hyperparameters=parse_hyperparameters({**SMALL, "weights": str(resnet18_weights), **hyperparameters}),
            channels={"training": data},
            model_dir=folder / "model",
            output_dir=output,
            cache_dir=cache,
            weights_dir=folder / "no weights",
        )
        stop, problem = StopSignal(), ""
        try:
            with watched(job, SimpleNamespace(folders=Folders(folder / "ml")), stop) as watching:
                run(job, stop, watching=watching)
        except TrainingError as error:
            problem = str(error)
        model, file = job.model_dir / "model.safetensors", output / "debugger.json"
        return SimpleNamespace(
            model=model.read_bytes() if model.exists() else None,
            record=json.loads(file.read_text()) if file.exists() else None,
            problem=problem,
            tensors=folder / "ml" / "output" / "tensors",
        )

    return train


@pytest.fixture
def train(run_job, healthy_images, tmp_path, caplog):
    """Train as a container does, and return what that left and said."""

    def one_more(data=healthy_images, **hyperparameters):
        caplog.clear()
        caplog.set_level(logging.INFO, logger="kennel")
        job = run_job(tmp_path / "job", data, **hyperparameters)
        job.lines = list(caplog.messages)
        return job

    return one_more


@pytest.fixture(scope="session")
def alone(run_job, colour_images, tmp_path_factory):
    """The model of a training that nobody has watched."""
    job = run_job(tmp_path_factory.mktemp("alone"), colour_images, debugger="off", **TWO_PHASES)
    assert job.record is None
    return job.model


TWO_PHASES = {"unfreeze": "1", "epochs": "2", "fine_tune_epochs": "1", "batch_size": "16"}

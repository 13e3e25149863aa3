"""The command as a user types it, and a LocalSageMaker with small jobs in it."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from kennel_cli.platforms.local import LocalSageMaker
from kennel_cli.platforms.runtime import LocalSageMakerRuntime
from kennel_cli.requests import training_job
from kennel_cli.settings import LOCAL
from tests.samples import SMALL_BACKBONE

SMALL_JOB = {"backbone": SMALL_BACKBONE, "image_size": "32", "epochs": "1", "batch_size": "8", "weights": "none"}


def open_files(process):
    try:
        return process.open_files()
    except psutil.Error:
        return []


def holder_of(lock):
    """Return the process that has a keeper's lock; a fork of it, which closes the lock at once, is none."""
    holders = {p.pid: p for p in psutil.process_iter() if any(file.path == str(lock) for file in open_files(p))}
    [holder] = [process for process in holders.values() if _parent(process) not in (None, *holders)]
    return holder


def _parent(process):
    """Return the id of a process's parent; None when the process is gone."""
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return None


@pytest.fixture
def sagemaker(home):
    return LocalSageMaker(home)


@pytest.fixture
def runtime(home):
    return LocalSageMakerRuntime(home)


@pytest.fixture
def request_for(sagemaker, colour_images):
    """Make the request of a small job on the colour images."""

    def make(name="job", **hyperparameters):
        channels = {"training": sagemaker.store.link(colour_images, LOCAL.bucket)}
        return training_job(name, channels, {**SMALL_JOB, **hyperparameters}, LOCAL)

    return make


@pytest.fixture
def finish(sagemaker):
    """Wait for a job's end with boto3's own waiter and return its description."""

    def wait(name="job"):
        sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName=name)
        return sagemaker.describe_training_job(TrainingJobName=name)

    return wait


@pytest.fixture
def kennel(home):
    """Run the command and return how it ended; its output is free of terminal codes."""

    def run(*arguments, input=None):
        command = [str(Path(sys.executable).with_name("kennel")), *map(str, arguments)]
        return subprocess.run(command, check=False, capture_output=True, text=True, input=input, timeout=250)

    return run

import itertools
import json
import logging
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from kennel.container.environment import Folders, TrainingEnvironment
from kennel.container.watching import watched
from kennel.hyperparameters import parse_hyperparameters
from kennel.training.job import Job
from kennel.training.progress import StopSignal
from kennel.training.run import run
from tests.samples import write_colour_images

SMALL = {"backbone": "resnet18", "image_size": "32", "epochs": "10", "batch_size": "8", "debugger": "off"}
NETWORK = {"unfreeze": "1", "epochs": "2", "fine_tune_epochs": "4", "profile_start_step": "3"}


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory):
    """Images and features that all jobs here share, in another place than what they write."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def colours(tmp_path_factory):
    return write_colour_images(tmp_path_factory.mktemp("data") / "colours")


@pytest.fixture(scope="session")
def train_in(colours, resnet18_weights, shared_cache):
    """Run a whole job in a folder, watched as a container watches it, and return what came of it."""

    def job(folder, config=None, **hyperparameters):
        tree = Folders(folder / "ml")
        tree.config.mkdir(parents=True)
        if config is not None:
            text = config if isinstance(config, str) else json.dumps(config)
            (tree.config / "profilerconfig.json").write_text(text)
        hp = parse_hyperparameters({**SMALL, "weights": str(resnet18_weights), **hyperparameters})
        asked = Job(hp, {"training": colours}, tree.model, tree.output_data, shared_cache, folder / "no weights")
        given = TrainingEnvironment(tree, {}, {}, shared_cache, folder, "", None, None, frozenset())
        stop = StopSignal()
        with logged() as records, watched(asked, given, stop) as watching:
            run(asked, stop, watching=watching)
        summary = tree.output_data / "profiler.json"
        return SimpleNamespace(
            tree=tree,
            output=tree.output_data,
            model=(tree.model / "model.safetensors").read_bytes(),
            profile=json.loads(summary.read_text()) if summary.is_file() else None,
            warnings=[record.getMessage() for record in records if record.levelno == logging.WARNING],
            lines=[record.getMessage() for record in records],
        )

    return job


@pytest.fixture
def train(train_in, tmp_path):
    numbers = itertools.count()
    return lambda **given: train_in(tmp_path / f"job{next(numbers)}", **given)


@pytest.fixture(scope="session")
def head_job(train_in, tmp_path_factory):
    """A job on a frozen backbone in which nothing goes wrong."""
    return train_in(tmp_path_factory.mktemp("head") / "job")


@pytest.fixture(scope="session")
def network_job(train_in, tmp_path_factory):
    """A job that trains the head, and then some of the network, in which nothing goes wrong."""
    config = {"ProfilingIntervalInMilliseconds": 100}
    return train_in(tmp_path_factory.mktemp("network") / "job", config=config, **NETWORK)


@contextmanager
def logged():
    records = []

    class Keeper(logging.Handler):
        def emit(self, record):
            records.append(record)

    log, keeper = logging.getLogger("kennel"), Keeper()
    level = log.level
    log.addHandler(keeper)
    log.setLevel(logging.INFO)
    try:
        yield records
    finally:
        log.removeHandler(keeper)
        log.setLevel(level)

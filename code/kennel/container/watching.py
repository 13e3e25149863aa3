"""Who watches a training job: the debugger and the profiler, as its hyperparameters and configuration files ask."""

from collections.abc import Iterator
from contextlib import contextmanager

from kennel.container.environment import TrainingEnvironment
from kennel.container.inspecting import make_inspector
from kennel.container.profiling import profiled
from kennel.training.job import Job
from kennel.training.progress import StopSignal
from kennel.training.watching import UNWATCHED, Inspector, Watching


@contextmanager
def watched(job: Job, given: TrainingEnvironment, stop: StopSignal) -> Iterator[Watching]:
    """Watch what the block trains, and write what was seen at its end, whatever becomes of it."""
    with _inspected(job, given, stop) as inspector, profiled(job, given) as timer:
        yield Watching(inspector, timer)


@contextmanager
def _inspected(job: Job, given: TrainingEnvironment, stop: StopSignal) -> Iterator[Inspector]:
    if job.hyperparameters.debugger == "off":
        yield UNWATCHED.inspector
        return
    inspector = make_inspector(job, given, stop)
    try:
        yield inspector
    finally:
        inspector.end_training()  # if it has failed, nobody else says so

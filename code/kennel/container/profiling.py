"""The profiler that a job asks for: by its hyperparameters, and by SageMaker's configuration of one (contract D2.4)."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kennel.container.environment import Folders, TrainingEnvironment, variable
from kennel.harmless import harmless
from kennel.machine import share_of_cores
from kennel.profiler.monitor import INTERVAL
from kennel.profiler.profiler import Profiler, Settings
from kennel.training.job import Job
from kennel.training.watching import UNWATCHED, Timer

CONFIG = "SMPROFILER_CONFIG_PATH"  # smdebug's variable for another place of the file
SLOWEST, QUICKEST = 60.0, 0.1  # seconds between two samples (contract D2.5)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProfilerConfig:
    """What `profilerconfig.json` asks for."""

    is_on: bool = True
    interval: float = INTERVAL  # seconds between two samples
    local_path: str = ""  # where samples and the trace go; "" is the job's output


@contextmanager
def profiled(job: Job, given: TrainingEnvironment) -> Iterator[Timer]:
    """Profile what the block trains, unless the job is not to be; the result is written at the end of the block."""
    profiler = None
    with harmless("the profiler could not start", "the job goes on without it"):
        profiler = _start(job, given.folders)
    try:
        yield profiler.timer if profiler else UNWATCHED.timer
    finally:
        if profiler:
            profiler.end()


def _start(job: Job, tree: Folders) -> Profiler | None:
    config = read_config(Path(variable(CONFIG, str(tree.config / "profilerconfig.json"))))
    if job.hyperparameters.profiler == "off" or not config.is_on:
        return None
    bulk = tree.place(config.local_path) if config.local_path else job.output_dir
    return Profiler(job.hyperparameters, Settings(job.output_dir, bulk, share_of_cores(1), config.interval))


def read_config(file: Path) -> ProfilerConfig:
    """Return what the file asks for; one that is malformed is a warning, and counts as if it were not there.

    smdebug reads names in any case, and evaluates some values as Python, which this does not. What it configures
    beyond interval, folder and whether to profile at all is for its own framework profiling, which PyTorch 2 ended. The
    file is read once: a change while the job runs is not looked for.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ProfilerConfig()
    except (OSError, UnicodeDecodeError) as error:
        return _malformed(file, str(error))
    try:
        config = _lower(json.loads(text.strip() or "{}"))
        inner = _lower(config.get("profilingparameters") or {})
        interval = config.get("profilingintervalinmilliseconds", config.get("profilingintervalinmillis"))
        seconds = INTERVAL if interval is None else float(interval) / 1000
        path = inner.get("localpath", config.get("localpath")) or ""
        if not QUICKEST <= seconds <= SLOWEST:
            raise ValueError(f"an interval of {interval} ms is not within {QUICKEST * 1000:g} and {SLOWEST * 1000:g}")
        if not isinstance(path, str):
            raise TypeError(f"LocalPath is {path!r}, no text")
        is_off = str(config.get("disableprofiler", False)).lower() == "true"
        return ProfilerConfig(not is_off, seconds, path)
    except (TypeError, ValueError) as error:
        return _malformed(file, str(error))


def _malformed(file: Path, reason: str) -> ProfilerConfig:
    log.warning("%s is malformed: %s; the profiler goes by its defaults", file, reason)
    return ProfilerConfig()


def _lower(value: Any) -> Mapping[str, Any]:
    """Return the object with its names in lower case. Raises TypeError for what is none."""
    if not isinstance(value, dict):
        raise TypeError(f"it holds {type(value).__name__}, where an object should be")
    return {str(name).lower(): inner for name, inner in value.items()}

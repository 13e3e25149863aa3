"""Reads a folder in which smdebug saved the tensors of a training: one of ours, or one from an old job on AWS."""

import json
import math
import struct
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from kennel.debugger.measures import Array, Summary
from kennel.debugger.quiet import quiet_smdebug
from kennel.debugger.series import Collection, Measurements, Mode, StoredSeries
from kennel.errors import TrialError

END_MARKER = "training_job_end.ts"  # contract D2.2
_WALL_TIME = 0x09  # the tag before an event's first field, its time as a double


def read_trial(folder: Path) -> Measurements:
    """Return the series of tensors in a folder (contract D2.2), also of a training that still runs or was killed.

    Nothing is waited for: what is there now is what there is. Tensors are read when a rule asks for them; of several
    workers the first one's are taken. Raises TrialError for a folder that holds no trial, or one that is damaged.
    """
    _refuse_what_smdebug_would_wait_for(folder)
    moments = _moments(folder)
    with quiet_smdebug():
        trial = _open(folder)
        series = _series(trial, {step for step, _ in moments})
    collections = {
        name: Collection(frozenset(collection.tensor_names), tuple(collection.include_regex))
        for name, collection in trial.collections().items()
    }
    return Measurements(
        series=series,
        collections=collections,
        moments=moments,
        ended=(folder / END_MARKER).exists(),
        now=time.time(),
    )


def _refuse_what_smdebug_would_wait_for(folder: Path) -> None:
    if not folder.is_dir():
        raise TrialError(f"{folder} is no folder; give the one that holds collections/, index/ and events/")
    described = sorted(folder.glob("collections/*/*collections.json"))
    if not described:
        inside = ", ".join(sorted(entry.name for entry in folder.iterdir())[:5]) or "nothing"
        raise TrialError(
            f"{folder} holds no saved tensors: collections/, index/ and events/ of smdebug should be in it, and there "
            f"is {inside}"
        )
    try:
        workers = int(json.loads(described[0].read_text(encoding="utf-8"))["_meta"]["num_workers"])
    except (ValueError, KeyError, TypeError) as error:
        raise TrialError(f"{described[0]} does not describe the collections of a trial: {error}") from error
    if len(described) < workers:
        raise TrialError(
            f"{folder} holds tensors of {len(described)} of {workers} workers; download the files of the others too"
        )
    if not any(folder.glob("index/*/*.json")):
        raise TrialError(f"{folder} holds no step yet: its index/ is empty")


def _open(folder: Path) -> Any:
    try:
        from smdebug.trials import create_trial  # noqa: PLC0415 - brings torch, so only where it is asked for
    except ImportError as error:
        raise TrialError(
            f"reading saved tensors needs the packages of the image ({error}): pip install '.[image]'"
        ) from error
    try:
        trial = create_trial(str(folder))
    except Exception as error:  # smdebug raises whatever a damaged file makes it raise
        raise TrialError(f"{folder} is damaged: {type(error).__name__}: {error}") from error
    trial.loaded_all_steps = True  # else each question lists the whole folder again, and waits a second at the end
    trial.index_reader.event_file_retry_limit = 0  # else a file that a killed training owes is waited for 200 seconds
    return trial


def _series(trial: Any, saved: set[int]) -> list[StoredSeries]:
    """Return the series of a trial; a step that a killed training announced and never `saved` is left out."""
    found = []
    for name in trial.tensor_names():
        tensor = trial.tensor(name)
        by_mode: dict[Mode, dict[int, int]] = {}
        for global_step in saved.intersection(tensor.steps()):
            mode, step = trial.mode_modestep(global_step)
            by_mode.setdefault(Mode(mode.name), {})[int(step)] = int(global_step)
        for mode, steps in by_mode.items():
            ordered = dict(sorted(steps.items()))
            found.append(
                StoredSeries(name, mode, ordered, partial(_load, tensor, ordered), partial(_reduced, tensor, ordered))
            )
    return found


def _load(tensor: Any, global_steps: Mapping[int, int], step: int) -> Array | None:
    from smdebug.exceptions import TensorUnavailableForStep  # noqa: PLC0415 - as above

    with quiet_smdebug():
        try:
            value: Array = tensor.value(global_steps[step])
        except TensorUnavailableForStep:  # only reductions of it were saved, or its file is not there
            return None
        except Exception as error:  # as above
            raise TrialError(f"{tensor.name} of step {step} is damaged: {type(error).__name__}: {error}") from error
    return value


def _reduced(tensor: Any, global_steps: Mapping[int, int], step: int) -> Summary:
    """Return what smdebug's reductions of a tensor tell."""
    with quiet_smdebug():
        values: dict[tuple[str, bool], Any] = tensor.reduction_values(global_steps[step])
    numbers = {key: float(value) for key, value in values.items() if value is not None}
    if not numbers:
        return Summary()
    deviation = numbers.get(("std", False))
    return Summary(
        mean=numbers.get(("mean", False)),
        mean_abs=numbers.get(("mean", True)),
        variance=numbers.get(("variance", False), None if deviation is None else deviation**2),
        min=numbers.get(("min", False)),
        max=numbers.get(("max", False)),
        norm=numbers.get(("l2", False)),
        nans=float(any(math.isnan(number) for number in numbers.values())),
        infinities=float(any(math.isinf(number) for number in numbers.values())),
    )


def _moments(folder: Path) -> list[tuple[int, float]]:
    """Return when each step was saved, by the time inside its file, which a download keeps; else by the file's."""
    moments: dict[int, float] = {}
    for file in sorted(folder.glob("events/*/*.tfevents")):
        step = int(file.parent.name)
        moments[step] = max(moments.get(step, 0.0), _time_of(file))
    return sorted(moments.items())


def _time_of(file: Path) -> float:
    """Return the time in Unix seconds of the first event, which follows a length (8 bytes) and its checksum (4)."""
    with file.open("rb") as stream:
        head = stream.read(21)
    if len(head) == 21 and head[12] == _WALL_TIME:
        seconds: float = struct.unpack("<d", head[13:])[0]
        return seconds
    return file.stat().st_mtime

"""What a search leaves in `tuning.json`, read and checked."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kennel.errors import ReportError

STATUSES = ("Completed", "Stopped", "Failed", "InProgress")
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")  # XML has no way to write them


@dataclass(frozen=True)
class Range:
    """What a hyperparameter was chosen from: a range of numbers, or `choices` when there are any."""

    low: float
    high: float
    logarithmic: bool
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """One job of the search."""

    number: int
    job: str  # "" when none was started
    status: str
    hyperparameters: Mapping[str, str]  # the tuned ones
    objective: float | None
    metrics: Mapping[str, float]
    started: float  # seconds after the search began
    seconds: float | None
    curve: tuple[float, ...]  # the objective after each epoch
    reason: str  # why it failed, or ""


@dataclass(frozen=True)
class Best:
    """The trial that won."""

    number: int
    job: str
    objective: float
    hyperparameters: Mapping[str, str]  # all of them


@dataclass(frozen=True)
class Tuning:
    """A whole search."""

    name: str
    status: str
    reason: str
    strategy: str
    metric: str
    goal: str  # Maximize or Minimize
    seconds: float
    static: Mapping[str, str]
    ranges: Mapping[str, Range]
    best: Best | None
    importance: Mapping[str, float]  # shares of 1; empty when there are too few trials to tell
    trials: tuple[Trial, ...]


def read_tuning(path: Path) -> Tuning:
    """Return what `path` holds. Raises ReportError when it is missing or is no search's record."""
    try:
        return _tuning(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ReportError(f"{path} cannot be read ({error.strerror}); give the folder of a tuning job") from error
    except KeyError as error:
        raise ReportError(f"{path} is not the record of a tuning job: it lacks {error}") from error
    except (AttributeError, OverflowError, TypeError, ValueError) as error:
        raise ReportError(f"{path} is not the record of a tuning job: {error}") from error


def _tuning(value: Mapping[str, Any]) -> Tuning:
    best = value["best"]
    return Tuning(
        name=_text(value["name"]),
        status=_one_of(value["status"], *STATUSES),
        reason=_text(value["reason"]),
        strategy=_text(value["strategy"]),
        metric=_text(value["objective"]["metric"]),
        goal=_one_of(value["objective"]["goal"], "Maximize", "Minimize"),
        seconds=_number(value["seconds"]),
        static=_texts(value["static"]),
        ranges={_text(name): _range(given) for name, given in value["ranges"].items()},
        best=None if best is None else _best(best),
        importance=_numbers(value["importance"]),
        trials=tuple(sorted(map(_trial, value["trials"]), key=lambda trial: trial.number)),
    )


def _best(value: Mapping[str, Any]) -> Best:
    return Best(
        number=int(value["number"]),
        job=_text(value["job"]),
        objective=_number(value["objective"]),
        hyperparameters=_texts(value["hyperparameters"]),
    )


def _trial(value: Mapping[str, Any]) -> Trial:
    objective, seconds = value["objective"], value["seconds"]
    return Trial(
        number=int(value["number"]),
        job=_text(value["job"]),
        status=_one_of(value["status"], *STATUSES),
        hyperparameters=_texts(value["hyperparameters"]),
        objective=None if objective is None else _number(objective),
        metrics=_numbers(value["metrics"]),
        started=_number(value["started"]),
        seconds=None if seconds is None else _number(seconds),
        curve=tuple(map(_number, value["curve"])),
        reason=_text(value["reason"]),
    )


def _range(value: Mapping[str, Any]) -> Range:
    if "choices" in value:
        return Range(0, 0, False, tuple(map(_text, value["choices"])))
    return Range(_number(value["low"]), _number(value["high"]), value["scaling"] == "Logarithmic", ())


def _texts(value: Mapping[str, Any]) -> dict[str, str]:
    return {_text(name): _text(text) for name, text in value.items()}


def _numbers(value: Mapping[str, Any]) -> dict[str, float]:
    return {_text(name): _number(number) for name, number in value.items()}


def _text(value: Any) -> str:
    """Return a string that any page can hold: half characters and control characters become question marks."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no string")
    return UNPRINTABLE.sub("?", value.encode(errors="replace").decode())


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no finite number")
    return float(value)


def _one_of(value: Any, *known: str) -> str:
    if value not in known:
        raise ValueError(f"{value!r} is none of {', '.join(known)}")
    return str(value)

"""What a search leaves in `tuning.json`, read and checked."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kennel.errors import ReportError
from kennel.report.values import number, numbers, one_of, text, texts

STATUSES = ("Completed", "Stopped", "Failed", "InProgress")


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
        name=text(value["name"]),
        status=one_of(value["status"], *STATUSES),
        reason=text(value["reason"]),
        strategy=text(value["strategy"]),
        metric=text(value["objective"]["metric"]),
        goal=one_of(value["objective"]["goal"], "Maximize", "Minimize"),
        seconds=number(value["seconds"]),
        static=texts(value["static"]),
        ranges={text(name): _range(given) for name, given in value["ranges"].items()},
        best=None if best is None else _best(best),
        importance=numbers(value["importance"]),
        trials=tuple(sorted(map(_trial, value["trials"]), key=lambda trial: trial.number)),
    )


def _best(value: Mapping[str, Any]) -> Best:
    return Best(
        number=int(value["number"]),
        job=text(value["job"]),
        objective=number(value["objective"]),
        hyperparameters=texts(value["hyperparameters"]),
    )


def _trial(value: Mapping[str, Any]) -> Trial:
    objective, seconds = value["objective"], value["seconds"]
    return Trial(
        number=int(value["number"]),
        job=text(value["job"]),
        status=one_of(value["status"], *STATUSES),
        hyperparameters=texts(value["hyperparameters"]),
        objective=None if objective is None else number(objective),
        metrics=numbers(value["metrics"]),
        started=number(value["started"]),
        seconds=None if seconds is None else number(seconds),
        curve=tuple(map(number, value["curve"])),
        reason=text(value["reason"]),
    )


def _range(value: Mapping[str, Any]) -> Range:
    if "choices" in value:
        return Range(0, 0, False, tuple(map(text, value["choices"])))
    return Range(number(value["low"]), number(value["high"]), value["scaling"] == "Logarithmic", ())

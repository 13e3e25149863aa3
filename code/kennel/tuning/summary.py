"""What a search found: one object, and the files that tell it to people and to other programs."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kennel.atomic import replacing, write_json, write_text
from kennel.errors import SearchError

JSON = "tuning.json"
_MEMBERS = {"name", "status", "best", "trials"}  # of every summary


@dataclass(frozen=True)
class Trial:
    """One set of hyperparameters that was tried."""

    number: int  # from 1, in the order of the starts
    status: str  # as SageMaker calls it: InProgress, Stopping, Completed, Stopped, Failed
    hyperparameters: Mapping[str, str]  # the tuned ones
    job: str = ""  # its training job; empty when the whole search is one job
    objective: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)  # the last value of each
    started: float = 0.0  # seconds after the search began
    seconds: float | None = None  # from its start to its end; None as long as it runs
    curve: Sequence[float] = ()  # the objective after each epoch
    reason: str = ""  # why it failed

    @property
    def is_rated(self) -> bool:
        """Whether it has an objective that can be compared with others: it has ended, and has not failed."""
        return self.objective is not None and self.status in ("Completed", "Stopped")


@dataclass(frozen=True)
class Summary:
    """A whole search."""

    name: str
    status: str  # as SageMaker calls it: InProgress, Stopping, Completed, Stopped, Failed
    strategy: str
    metric: str  # the objective
    maximize: bool
    seconds: float  # from the start of the search to its end, or until now
    static: Mapping[str, str]  # the hyperparameters that every trial shares
    ranges: Mapping[str, Mapping[str, Any]]  # {"low", "high", "scaling"} or {"choices"} for each tuned hyperparameter
    trials: Sequence[Trial]
    reason: str = ""  # why the search failed
    importance: Mapping[str, float] = field(default_factory=dict)  # shares of 1; empty when too few trials tell

    @property
    def best(self) -> Trial | None:
        """The trial with the best objective, the earliest among equals; None when no trial has one."""
        sign = 1 if self.maximize else -1
        rated = [trial for trial in self.trials if trial.is_rated]
        return max(rated, key=lambda trial: (sign * (trial.objective or 0.0), -trial.number), default=None)

    def to_json(self) -> dict[str, Any]:
        """Return the content of `tuning.json`."""
        best = self.best
        return {
            "name": self.name,
            "status": self.status,
            "reason": self.reason,
            "strategy": self.strategy,
            "objective": {"metric": self.metric, "goal": "Maximize" if self.maximize else "Minimize"},
            "seconds": round(self.seconds, 1),
            "best": best
            and {
                "number": best.number,
                "job": best.job,
                "objective": best.objective,
                "hyperparameters": {**self.static, **best.hyperparameters},
            },
            "static": dict(self.static),
            "ranges": {name: dict(given) for name, given in self.ranges.items()},
            "importance": dict(self.importance),
            "trials": [asdict(trial) for trial in self.trials],
        }


def write_summary(folder: Path, summary: Summary) -> None:
    """Write `tuning.json`, `tuning.csv` (one line a trial) and `tuning.md` (the table, best first) into `folder`."""
    write_json(folder / JSON, summary.to_json())
    tuned = list(summary.ranges)
    metrics = sorted({name for trial in summary.trials for name in trial.metrics})
    with replacing(folder / "tuning.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("trial", "job", "status", *tuned, "objective", "seconds", *metrics, "reason"))
        for t in summary.trials:
            values = [t.hyperparameters.get(name, "") for name in tuned]
            measured = [t.metrics.get(name, "") for name in metrics]
            writer.writerow((t.number, t.job, t.status, *values, t.objective, t.seconds, *measured, t.reason))
    write_text(folder / "tuning.md", markdown(summary))


def markdown(summary: Summary) -> str:
    """Return the search as Markdown: one sentence, and the table of its trials, best first."""
    best = summary.best
    lines = [f"# {summary.name}", ""]
    done = f"{len(summary.trials)} trials in {summary.seconds:.1f} s, {summary.strategy}: {summary.status}."
    lines += [f"{done} {summary.reason}".strip(), ""]
    if best:
        values = ", ".join(f"{name}={value}" for name, value in best.hyperparameters.items())
        lines += [f"Best: trial {best.number}, {summary.metric} {best.objective:.4f}, with {values}.", ""]
    head = columns(summary)
    lines += [_line(head), "|---" * len(head) + "|", *(_line(row(summary, trial)) for trial in ranked(summary))]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def columns(summary: Summary) -> list[str]:
    """Return the heads of the table of trials."""
    return ["trial", "status", *summary.ranges, summary.metric, "seconds"]


def row(summary: Summary, trial: Trial) -> list[str]:
    """Return one line of the table of trials."""
    objective = "" if trial.objective is None else f"{trial.objective:.4f}"
    seconds = "" if trial.seconds is None else f"{trial.seconds:.1f}"
    tuned = [trial.hyperparameters.get(name, "") for name in summary.ranges]
    return [str(trial.number), trial.status, *tuned, objective, seconds]


def ranked(summary: Summary) -> list[Trial]:
    """Return the trials, the best first, and last those that failed or have no objective yet."""
    sign = -1 if summary.maximize else 1
    return sorted(summary.trials, key=lambda t: (not t.is_rated, sign * (t.objective or 0.0), t.number))


def read_summary(folder: Path) -> Summary:
    """Return the search that `write_summary` wrote into `folder`. Raises SearchError when there is none."""
    found = _read(folder)
    return Summary(
        name=found["name"],
        status=found["status"],
        strategy=found["strategy"],
        metric=found["objective"]["metric"],
        maximize=found["objective"]["goal"] == "Maximize",
        seconds=found["seconds"],
        static=found["static"],
        ranges=found["ranges"],
        trials=[Trial(**trial) for trial in found["trials"]],
        reason=found["reason"],
        importance=found["importance"],
    )


def read_best(folder: Path) -> dict[str, str]:
    """Return all hyperparameters of the best trial in a `tuning.json`. Raises SearchError when there is none."""
    found = _read(folder)
    if not found["best"]:
        raise SearchError(f"the search {found['name']} is {found['status']} and has no best trial yet")
    values: dict[str, str] = found["best"]["hyperparameters"]
    return values


def _read(folder: Path) -> dict[str, Any]:
    file = folder / JSON
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SearchError(f"there is no summary of a search {folder.name} ({file}); see `kennel jobs`") from None
    except (OSError, ValueError) as error:
        raise SearchError(f"{file} is no summary of a search: {error}") from error
    if not isinstance(found, dict) or not found.keys() >= _MEMBERS:
        raise SearchError(f"{file} is no summary of a search: it has not all of {', '.join(sorted(_MEMBERS))}")
    return found

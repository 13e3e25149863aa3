"""What the rules of debugger and profiler said of a job, read and checked; each leaves a file of its own."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kennel.report.values import number, one_of, text

FILES = {"debugger": "debugger.json", "profiler": "profiler.json"}
FOUND = "IssuesFound"
STATUSES = (FOUND, "Error", "InProgress", "NoIssuesFound")


@dataclass(frozen=True)
class EvidenceCurve:
    """A series of numbers that a finding rests on."""

    name: str
    quantity: str
    points: Sequence[tuple[float, float]]  # step and value
    thresholds: Sequence[float]


@dataclass(frozen=True)
class RuleFinding:
    """One thing that is wrong at one step."""

    step: int
    message: str
    advice: str
    curves: Sequence[EvidenceCurve]


@dataclass(frozen=True)
class RuleResult:
    """What one rule said."""

    kind: str  # `debugger` or `profiler`
    rule: str
    status: str
    reason: str  # of an error
    parameters: Mapping[str, str]
    times: int  # how often it fired
    findings: Sequence[RuleFinding]  # the first and the last of them, where there were many


@dataclass(frozen=True)
class Judged:
    """What all rules said."""

    results: Sequence[RuleResult] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)  # rules that did not judge, and why
    problems: Sequence[str] = ()  # why measuring ended before the training did

    @property
    def found(self) -> list[RuleResult]:
        """The rules that found something."""
        return [result for result in self.results if result.status == FOUND]


def read_judged(folder: Path) -> Judged:
    """Return what the rules said of the job whose output lies in `folder`; nothing where none was asked.

    Raises ValueError, KeyError, TypeError or AttributeError for a file that is not what a job writes.
    """
    results: list[RuleResult] = []
    left_out: dict[str, str] = {}
    problems: list[str] = []
    for kind, name in FILES.items():
        try:
            value = json.loads((folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        results += [_result(kind, result) for result in value["rules"]]
        left_out |= {text(rule): text(reason) for rule, reason in value["left_out"].items()}
        if value.get("problem"):
            problems.append(text(f"the {kind} gave up: {value['problem']}"))
    return Judged(tuple(sorted(results, key=lambda result: STATUSES.index(result.status))), left_out, problems)


def _result(kind: str, value: Mapping[str, Any]) -> RuleResult:
    curves = [_curve(curve) for curve in value["curves"]]
    findings = tuple(
        RuleFinding(
            step=int(finding["step"]),
            message=text(finding["message"]),
            advice=text(finding["advice"]),
            curves=tuple(curves[index] for index in finding["curves"]),
        )
        for finding in value["findings"]
    )
    return RuleResult(
        kind=kind,
        rule=text(value["rule"]),
        status=one_of(value["status"], *STATUSES),
        reason=text(value["reason"]),
        parameters={text(name): text(str(given)) for name, given in value["parameters"].items()},
        times=int(value.get("times", len(findings))),
        findings=findings,
    )


def _curve(value: Mapping[str, Any]) -> EvidenceCurve:
    return EvidenceCurve(
        name=text(value["name"]),
        quantity=text(value["quantity"]),
        points=tuple(_points(value["points"])),
        thresholds=tuple(number(threshold) for threshold in value["thresholds"] if _is_finite(threshold)),
    )


def _points(points: Sequence[Sequence[Any]]) -> Iterator[tuple[float, float]]:
    """Yield the points that a chart can show; NaN and infinity stand there as text."""
    return ((number(step), number(value)) for step, value in points if _is_finite(value))


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)

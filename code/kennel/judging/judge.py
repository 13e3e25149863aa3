"""Lets rules judge what was measured of a training: a status each, in AWS's words, and no rule stops another."""

import dataclasses
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from kennel.errors import KennelError, NothingToJudge
from kennel.judging.rule import Evidence, Finding, Rule

log = logging.getLogger(__name__)


class Status(StrEnum):
    """What became of a rule (contract D2.7)."""

    IN_PROGRESS = "InProgress"  # no issue so far, and the training has not said that it ended
    NO_ISSUES = "NoIssuesFound"
    ISSUES = "IssuesFound"
    ERROR = "Error"


@dataclass(frozen=True)
class Result:
    """What one rule says."""

    rule: str
    parameters: dict[str, Any]
    status: Status
    findings: tuple[Finding, ...] = ()
    reason: str = ""  # of an error

    def as_json(self) -> dict[str, Any]:
        """Return the result as JSON has it: curves that findings share stand there once, NaN and infinity as text."""
        curves = list(dict.fromkeys(curve for finding in self.findings for curve in finding.curves))
        value = {
            "rule": self.rule,
            "parameters": self.parameters,
            "status": str(self.status),
            "reason": self.reason,
            "findings": [
                {
                    "step": finding.step,
                    "message": finding.message,
                    "evidence": dict(finding.evidence),
                    "advice": finding.advice,
                    "curves": [curves.index(curve) for curve in finding.curves],
                }
                for finding in self.findings
            ],
            "curves": [dataclasses.asdict(curve) for curve in curves],
        }
        finite: dict[str, Any] = _finite(value)
        return finite


@dataclass(frozen=True)
class Judgement:
    """What all rules say; `left_out` has the rules without what they need, and what that is."""

    results: tuple[Result, ...]
    left_out: dict[str, str]


def judge(rules: Iterable[Rule[Evidence]], evidence: Evidence, *, ended: bool, asked_for: bool) -> Judgement:
    """Return what each rule says.

    Until the training has `ended`, no rule says that there are no issues. A rule whose evidence was not measured is
    left out, or an error where the user `asked_for` the rules by name.
    """
    results: list[Result] = []
    left_out: dict[str, str] = {}
    for rule in rules:
        parameters = dataclasses.asdict(rule)  # type: ignore[call-overload]  # a protocol cannot say it is a dataclass
        try:
            findings = tuple(rule.check(evidence))
        except NothingToJudge as error:
            if asked_for:
                results.append(Result(rule.name, parameters, Status.ERROR, reason=str(error)))
            else:
                left_out[rule.name] = str(error)
        except Exception as error:  # a broken rule must not stop the others, nor a training
            log.exception("rule=%s;", rule.name)
            reason = str(error) if isinstance(error, KennelError) else f"{type(error).__name__}: {error}"
            results.append(Result(rule.name, parameters, Status.ERROR, reason=reason))
        else:
            status = Status.NO_ISSUES if ended else Status.IN_PROGRESS
            results.append(Result(rule.name, parameters, Status.ISSUES if findings else status, findings))
    return Judgement(tuple(results), left_out)


def _finite(value: Any) -> Any:
    """Return a value without NaN and infinity, which JSON does not know, as text in their place."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value

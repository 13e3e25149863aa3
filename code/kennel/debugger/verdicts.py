"""What the rules say of a training while it runs: in the log, and in a file of bounded size for its report."""

import dataclasses
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kennel.atomic import write_json
from kennel.debugger.series import Measurements
from kennel.harmless import harmless
from kennel.judging.judge import Judgement, Result, Status, judge
from kennel.judging.rule import Curve, Finding, Rule

FILE = "debugger.json"
SHARE = 0.01  # of a training's time that judging may take
_MOST_FINDINGS = 20  # of a rule that are written down, the first half and the last
_MOST_POINTS = 240  # of a curve: as many as a chart draws
_MOST_EVIDENCE = 4000  # characters of one number or list by which a finding is proved

log = logging.getLogger(__name__)


class Verdicts:
    """What the rules have said so far."""

    def __init__(
        self, rules: Sequence[Rule[Measurements]], asked_for: bool, folder: Path, on_issue: Callable[[str], None]
    ) -> None:
        """`on_issue` is called with the name of a rule when it has found something, unless the training is over."""
        self._rules, self._asked_for, self._file, self._on_issue = rules, asked_for, folder / FILE, on_issue
        self._statuses = {rule.name: Status.IN_PROGRESS for rule in rules}
        self._next = 0.0  # when it is time to judge again, by the clock of `time.monotonic`

    @property
    def due(self) -> bool:
        """Whether judging once more keeps within its share of the time."""
        return time.monotonic() >= self._next

    def give(self, measured: Measurements, problem: str = "") -> None:
        """Judge, log every status that is a new one, and write the file; `problem` is why measuring ended early."""
        began = time.monotonic()
        judgement = judge(self._rules, measured, ended=measured.ended and not problem, asked_for=self._asked_for)
        for result in judgement.results:
            if result.status is not self._statuses[result.rule]:
                self._statuses[result.rule] = result.status
                self._tell(result)
                if result.status is Status.ISSUES and not measured.ended:
                    self._on_issue(result.rule)
        silent = [result.rule for result in judgement.results if result.status is Status.NO_ISSUES]
        if silent:
            log.info("rules=%s; status=%s;", ",".join(silent), Status.NO_ISSUES)
        with harmless(f"{FILE} could not be written", "training goes on without it"):
            write_json(self._file, _as_json(judgement, problem))
        ended = time.monotonic()
        self._next = ended + (ended - began) / SHARE

    def _tell(self, result: Result) -> None:
        if result.status is Status.ISSUES:
            first = result.findings[0]
            log.warning(
                "rule=%s; status=%s; findings=%d; step=%d; %s;",
                result.rule,
                result.status,
                len(result.findings),
                first.step,
                first.message,
            )
        elif result.status is not Status.NO_ISSUES:  # those are told together
            log.info("rule=%s; status=%s;%s", result.rule, result.status, result.reason and f" {result.reason};")


def _as_json(judgement: Judgement, problem: str) -> dict[str, Any]:
    return {
        "problem": problem,
        "rules": [{**_short(result).as_json(), "times": len(result.findings)} for result in judgement.results],
        "left_out": judgement.left_out,
    }


def _short(result: Result) -> Result:
    """Return a result with as many findings and points as a page can show."""
    half = _MOST_FINDINGS // 2
    found = result.findings
    kept = found if len(found) <= _MOST_FINDINGS else found[:half] + found[-half:]
    curves: dict[Curve, Curve] = {}
    return dataclasses.replace(result, findings=tuple(_short_finding(finding, curves) for finding in kept))


def _short_finding(finding: Finding, curves: dict[Curve, Curve]) -> Finding:
    evidence = {
        name: value
        for name, value in finding.evidence.items()
        if not isinstance(value, list) or len(json.dumps(value)) <= _MOST_EVIDENCE
    }
    for curve in finding.curves:
        if curve not in curves:
            every = math.ceil(len(curve.points) / _MOST_POINTS) or 1
            points = curve.points[:-1][::every] + curve.points[-1:]
            curves[curve] = dataclasses.replace(curve, points=points)
    return dataclasses.replace(finding, evidence=evidence, curves=tuple(curves[curve] for curve in finding.curves))

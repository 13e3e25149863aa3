"""What the rules of debugger and profiler found, with plots of the evidence, and a table of all of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from kennel.report import charts
from kennel.report.job_record import JobRecord
from kennel.report.pages import render
from kennel.report.rules_record import EvidenceCurve, RuleFinding, RuleResult
from kennel.report.scales import number
from kennel.report.sections import Section

_KINDS = {"training": "train", "validation": "valid"}  # curves that have the colours of the learning curves
_OF_CLASSES = ("class_imbalance", "confusion")  # rules that call classes by their numbers
_OF_VALIDATION = "(EVAL)"  # at the end of a curve's name
_WIDE = 100.0  # times that the largest number is the smallest, for an axis of orders of magnitude
WORDS = {
    "IssuesFound": ("failed", "found something"),
    "Error": ("stopped", "could not judge"),
    "InProgress": ("inprogress", "in progress"),
    "NoIssuesFound": ("soft", "found nothing"),
}


@dataclass(frozen=True)
class _Shown:
    """A rule that found something, as the page shows it."""

    rule: str
    times: int
    first: RuleFinding
    last: RuleFinding
    chart: Markup | None


def findings(job: JobRecord) -> Section | None:
    """Show what the rules found."""
    found = [_shown(job, result) for result in job.judged.found if result.findings]
    if not found and not job.judged.problems:
        return None
    body = render("job/findings.html", found=found, problems=job.judged.problems)
    return Section("What the rules found", body)


def rules_table(job: JobRecord) -> Section | None:
    """List every rule: whether it fired, how often, with which parameters, and what to do."""
    judged = job.judged
    if not judged.results and not judged.left_out:
        return None
    rows = [(result, _todo(result)) for result in judged.results]
    body = render("job/rules.html", rows=rows, left_out=judged.left_out, words=WORDS)
    return Section("Rules", body)


def _todo(result: RuleResult) -> str:
    return result.findings[0].advice if result.findings else result.reason


def _shown(job: JobRecord, result: RuleResult) -> _Shown:
    first, last = (_named(job, result.rule, finding) for finding in (result.findings[0], result.findings[-1]))
    return _Shown(result.rule, result.times, first, last, _chart(first, result.kind))


def _named(job: JobRecord, rule: str, finding: RuleFinding) -> RuleFinding:
    """Return a finding that calls classes by their names."""
    if rule not in _OF_CLASSES:
        return finding

    def name(match: re.Match[str]) -> str:
        index = int(match[1])
        return job.classes[index] if index < len(job.classes) else match[0]

    message = re.sub(r"\bclass (\d+)\b", name, finding.message)
    return RuleFinding(finding.step, message, finding.advice, finding.curves)


def _chart(finding: RuleFinding, kind: str) -> Markup | None:
    """Return a chart of what a finding rests on, with the thresholds that it crosses; None without two points.

    The debugger's curves are over steps, the profiler's over the seconds of the job.
    """
    curves = [curve for curve in finding.curves if len(curve.points) > 1]
    if not curves:
        return None
    quantity = curves[0].quantity.rstrip(",")
    values = [value for curve in curves for _, value in curve.points]
    low, high = min(values), max(values)
    thresholds = [
        threshold for threshold in _thresholds(curves) if low <= threshold <= high or _is_nearest(threshold, curves)
    ]
    values += thresholds
    start, end = (pick(step for curve in curves for step, _ in curve.points) for pick in (min, max))
    lines = [
        charts.Line(
            [(start, threshold), (end, threshold)], "threshold", f"threshold {number(threshold)}", number(threshold)
        )
        for threshold in thresholds
    ]
    lines += [
        charts.Line(
            curve.points, _KINDS.get(curve.name, "valid"), curve.name, note=curve.name if len(curves) > 1 else ""
        )
        for curve in curves
    ]
    rules = [charts.Rule(finding.step, "failed", f"first at step {finding.step}", f"step {finding.step}")]
    by_step = "validation step" if curves[0].name.endswith(_OF_VALIDATION) else "training step"
    return charts.line_chart(
        lines,
        label=f"{quantity}: {', '.join(curve.name for curve in curves)}",
        x_name=by_step if kind == "debugger" else "seconds",
        y_name=quantity,
        rules=rules if kind == "debugger" and start <= finding.step <= end else [],
        logarithmic=min(values) > 0 and max(values) > _WIDE * min(values),
    )


def _thresholds(curves: Sequence[EvidenceCurve]) -> list[float]:
    return sorted({threshold for curve in curves for threshold in curve.thresholds})


def _is_nearest(threshold: float, curves: Sequence[EvidenceCurve]) -> bool:
    """Return whether a threshold, on the wrong side of which a whole curve lies, is the one nearest to it."""
    values = [value for curve in curves for _, value in curve.points]
    beyond = [one for one in _thresholds(curves) if not min(values) <= one <= max(values)]
    inside = len(beyond) < len(_thresholds(curves))
    return not inside and threshold == min(beyond, key=lambda one: min(abs(one - value) for value in values))

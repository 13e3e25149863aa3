"""Learning curves: a metric after each epoch, of one job or of several."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from kennel.report import charts
from kennel.report.job_record import JobRecord
from kennel.report.pages import score


@dataclass(frozen=True)
class Curve:
    """One metric of one job."""

    job: JobRecord
    metric: str
    kind: str  # CSS class
    name: str


def learning_chart(curves: Sequence[Curve], y_name: str, *, marked: bool) -> Markup | None:
    """Return a chart of `curves`, or None without a point; `marked` says of the first job where its phases are."""
    lines = []
    for curve in curves:
        points = [
            (float(epoch.number), epoch.metrics[curve.metric])
            for epoch in curve.job.epochs
            if curve.metric in epoch.metrics
        ]
        if points:
            lines.append(charts.Line(points, curve.kind, f"{curve.name}: {score(points[-1][1])} at last"))
    if not lines:
        return None
    label = f"{y_name} after each epoch: {', '.join(curve.name for curve in curves)}"
    rules = _rules(curves[0].job) if marked else []
    return charts.line_chart(lines, label=label, x_name="epoch", y_name=y_name, rules=rules)


def _rules(job: JobRecord) -> list[charts.Rule]:
    """Return the best epoch, and the end of the head's epochs where the backbone was fine-tuned after them."""
    rules = []
    shown = [epoch.number for epoch in job.epochs]
    if job.head_epochs is not None and min(shown) <= job.head_epochs < max(shown):
        title = f"the head alone up to epoch {job.head_epochs}, fine-tuning after it"
        rules.append(charts.Rule(job.head_epochs + 0.5, "phase", title, "fine-tuning", note_on_floor=True))
    if job.best_epoch is not None and min(shown) <= job.best_epoch <= max(shown):
        rules.append(charts.Rule(job.best_epoch, "best", f"epoch {job.best_epoch} is the saved model", "best"))
    return rules

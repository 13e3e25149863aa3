"""The page of two training jobs side by side: what was different, and what came of it."""

from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from kennel.atomic import write_text
from kennel.metrics import METRICS
from kennel.report.job_record import JobRecord
from kennel.report.learning import Curve, learning_chart
from kennel.report.pages import duration, render, score, script


@dataclass(frozen=True)
class Row:
    """One thing that both jobs have, or one of them."""

    name: str
    first: str
    second: str
    change: str = ""
    kind: str = ""  # CSS class of the change: better, worse, or neither


@dataclass(frozen=True)
class ClassRow:
    """What the jobs made of one class in the test; None where a job does not know it."""

    name: str
    images: int
    first: float | None  # recall
    second: float | None
    change: float | None


def write_comparison(first: JobRecord, second: JobRecord, page: Path) -> None:
    """Write the page that compares two jobs."""
    sorting, allowed = script("sort.js")
    text = render(
        "comparison.html",
        first=first,
        second=second,
        settings=_settings(first, second),
        results=_results(first, second),
        classes=_classes(first, second),
        charts=_charts(first, second),
        notes=_notes(first, second),
        sorting=sorting,
        allowed=allowed,
    )
    write_text(page, text)


def _settings(first: JobRecord, second: JobRecord) -> list[Row]:
    """Return the hyperparameters that differ, and of where they ran what does."""
    a, b = first.hyperparameters, second.hyperparameters
    rows = [
        Row(name, a.get(name, "–"), b.get(name, "–")) for name in dict.fromkeys([*a, *b]) if a.get(name) != b.get(name)
    ]
    for name in ("kennel", "image", "instance", "device"):
        given = getattr(first, name), getattr(second, name)
        if given[0] != given[1]:
            rows.append(Row(name, given[0] or "–", given[1] or "–"))
    return rows


def _results(first: JobRecord, second: JobRecord) -> list[Row]:
    rows = []
    for metric in reversed(METRICS):  # the test comes first
        a, b = first.metrics.get(metric), second.metrics.get(metric)
        if a is None and b is None:
            continue
        change, kind = "", ""
        if a is not None and b is not None:
            change = f"{b - a:+.4f}"
            gain = (b - a) if metric.endswith("accuracy") else (a - b)
            kind = "better" if gain >= 5e-5 else "worse" if gain <= -5e-5 else ""
        rows.append(Row(metric, "–" if a is None else score(a), "–" if b is None else score(b), change, kind))
    rows.append(Row("best epoch", *("–" if job.best_epoch is None else str(job.best_epoch) for job in (first, second))))
    rows.append(Row("duration", *("–" if job.seconds is None else duration(job.seconds) for job in (first, second))))
    if first.cost is not None or second.cost is not None:
        rows.append(
            Row("cost, estimated", *("–" if job.cost is None else f"${job.cost:.4f}" for job in (first, second)))
        )
    return rows


def _classes(first: JobRecord, second: JobRecord) -> list[ClassRow]:
    """Return the classes of both tests, those whose recall has changed most first."""
    a, b = ({result.name: result for result in job.results} for job in (first, second))
    if not a or not b:
        return []
    rows = []
    for name in dict.fromkeys([*a, *b]):
        one, other = (results[name].recall if name in results else None for results in (a, b))
        change = None if one is None or other is None else other - one
        rows.append(ClassRow(name, (b.get(name) or a[name]).images, one, other, change))
    return sorted(rows, key=lambda row: (row.change is None, -abs(row.change or 0.0), row.name))


def _charts(first: JobRecord, second: JobRecord) -> list[tuple[str, Markup]]:
    """Return the learning curves of both over each other: validation, and training thin below it."""
    found = []
    for metric in ("accuracy", "loss"):
        curves = [
            Curve(job, f"{split}_{metric}", f"{kind}{faint}", f"{job.name} {split}")
            for split, faint in (("train", " faint"), ("valid", ""))
            for job, kind in ((first, "first"), (second, "second"))
        ]
        chart = learning_chart(curves, metric, marked=False)
        if chart is not None:
            found.append((metric, chart))
    return found


def _notes(first: JobRecord, second: JobRecord) -> list[str]:
    """Return why the numbers of the two may not be comparable."""
    notes = []
    for a, b in zip(first.splits, second.splits, strict=False):
        if a.name == b.name and a.classes != b.classes:
            notes.append(f"the {a.name} images are not the same: {a.images:,} and {b.images:,}")
    if first.splits and second.splits and first.classes != second.classes:
        notes.append(f"the classes are not the same: {len(first.classes)} and {len(second.classes)}")
    return notes

"""The page of a tuning job: what was tried, what came of it, and what mattered."""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from markupsafe import Markup

from kennel.atomic import write_text
from kennel.report import charts
from kennel.report.pages import brief, duration, render, score
from kennel.report.scales import Choices, Scale, scale_of
from kennel.report.tuning_record import STATUSES, Range, Trial, Tuning, read_tuning

SHADES = 5  # of the lines in parallel coordinates, from the worst objective to the best


def write_tuning_page(folder: Path, reports: Mapping[str, str] = MappingProxyType({})) -> Path:
    """Write `tuning.html` beside `folder`'s `tuning.json` and return its path. Raises ReportError without a record.

    `reports` holds the address of the report of each trial's job that has one; relative addresses are of `folder`.
    """
    tuning = read_tuning(folder / "tuning.json")
    page = folder / "tuning.html"
    write_text(page, render("tuning.html", **_content(tuning), reports=reports))
    return page


def _content(tuning: Tuning) -> dict[str, object]:
    """Return what the template shows."""
    scored = [trial for trial in tuning.trials if trial.objective is not None and trial.status != "Failed"]
    counts = Counter(trial.status for trial in tuning.trials)
    return {
        "tuning": tuning,
        "best_number": tuning.best.number if tuning.best else None,
        "command": f"kennel train --from-tuning {shlex.quote(tuning.name)}",
        "counts": {status: counts[status] for status in STATUSES if counts[status]},
        "metrics": sorted({name for trial in tuning.trials for name in trial.metrics} - {tuning.metric}),
        "ranked": sorted(tuning.trials, key=lambda trial: _rank(tuning, trial)),
        "shades": [f"shade{i}" for i in range(SHADES)],
        "objective_chart": _objective_chart(tuning) if scored else "",
        "parallel_chart": _parallel_chart(tuning, scored) if scored and tuning.ranges else "",
        "importance_chart": _importance_chart(tuning) if tuning.importance else "",
        "curves_chart": _curves_chart(tuning) if any(trial.curve for trial in tuning.trials) else "",
        "time_chart": _time_chart(tuning) if tuning.trials else "",
    }


def _rank(tuning: Tuning, trial: Trial) -> tuple[bool, bool, float, int]:
    """Return what trials are ordered by: the winner, then by objective, then those that have none."""
    return not _wins(tuning, trial), trial.objective is None, _loss(tuning, trial), trial.number


def _wins(tuning: Tuning, trial: Trial) -> bool:
    return tuning.best is not None and trial.number == tuning.best.number


def _loss(tuning: Tuning, trial: Trial) -> float:
    """Return a trial's objective, such that the smallest is the best."""
    return (trial.objective or 0.0) * (-1 if tuning.goal == "Maximize" else 1)


def _kind(trial: Trial) -> str:
    return trial.status.lower()


def _title(trial: Trial) -> str:
    """Return what a trial says when the pointer rests on it."""
    lines = [f"trial {trial.number}: {trial.status}" + (f", {trial.reason}" if trial.reason else "")]
    if trial.objective is not None:
        lines.append(f"objective {score(trial.objective)}")
    lines += [f"{name} = {brief(value)}" for name, value in trial.hyperparameters.items()]
    return "\n".join(lines)


def _objective_chart(tuning: Tuning) -> Markup:
    marks, steps = [], []
    lowest = float("inf")
    for trial in tuning.trials:
        value = None if trial.status == "Failed" else trial.objective
        if value is not None or trial.status == "Failed":  # one that runs has no place yet
            marks.append(charts.Mark(trial.number, value, _kind(trial), _title(trial)))
        if value is not None and trial.status != "InProgress" and _loss(tuning, trial) < lowest:
            lowest = _loss(tuning, trial)
            steps.append((float(trial.number), value))
        if tuning.best and _wins(tuning, trial):
            note = score(tuning.best.objective)
            marks.append(charts.Mark(trial.number, tuning.best.objective, "best", _title(trial), note))
    return charts.scatter_chart(
        marks,
        charts.Line(steps, "best", "best so far"),
        label=f"{tuning.metric} of {len(tuning.trials)} trials, with the best so far",
        x_name="trial",
        y_name=tuning.metric,
    )


def _parallel_chart(tuning: Tuning, scored: list[Trial]) -> Markup:
    """Return the chart of all scored trials; one that lacks a hyperparameter, or has no number for it, is not drawn."""
    complete = [trial for trial in scored if all(_is_value(trial, name, of) for name, of in tuning.ranges.items())]
    scales = {name: _scale(of, (t.hyperparameters[name] for t in complete)) for name, of in tuning.ranges.items()}
    objective = scale_of((trial.objective or 0.0 for trial in complete), rounded=True)
    lines = []
    worst_first = sorted(complete, key=lambda trial: _rank(tuning, trial), reverse=True)  # the best lies on top
    for rank, trial in enumerate(worst_first):
        places = [_place(scale, trial.hyperparameters[name]) for name, scale in scales.items()]
        places.append(objective.place(trial.objective or 0.0))
        shade = SHADES * rank // len(complete)  # by rank, because one outlier would leave one shade to all others
        kind = "best" if _wins(tuning, trial) else f"shade{shade}"
        lines.append(charts.Line(list(enumerate(places)), kind, _title(trial)))
    axes = [charts.Axis(name, scale.ticks()) for name, scale in scales.items()]
    label = f"{len(lines)} trials: {', '.join(tuning.ranges)} and the {tuning.metric} that came of them"
    return charts.parallel_chart([*axes, charts.Axis(tuning.metric, objective.ticks())], lines, label=label)


def _is_value(trial: Trial, name: str, given: Range) -> bool:
    if name not in trial.hyperparameters or given.choices:
        return name in trial.hyperparameters
    try:
        return abs(float(trial.hyperparameters[name])) < float("inf")
    except ValueError:
        return False


def _scale(given: Range, values: Iterable[str]) -> Scale | Choices:
    """Return an axis that holds the whole range, and whatever `values` lie outside."""
    if given.choices:
        return Choices(tuple(dict.fromkeys([*given.choices, *values])))
    return scale_of([given.low, given.high, *map(float, values)], logarithmic=given.logarithmic)


def _place(scale: Scale | Choices, value: str) -> float:
    return scale.place(value) if isinstance(scale, Choices) else scale.place(float(value))


def _importance_chart(tuning: Tuning) -> Markup:
    bars = []
    for name, share in sorted(tuning.importance.items(), key=lambda item: -item[1]):
        written = "< 1 %" if share < 0.005 else f"{share * 100:.0f} %"
        bars.append(charts.Bar(name, 0, share, "share", f"{name}: {written}", written))
    label = "importance: " + ", ".join(bar.title for bar in bars)
    return charts.bar_chart(bars, label=label, height=max(26, min(44, 220 / len(bars))))


def _curves_chart(tuning: Tuning) -> Markup:
    lines = []
    for trial in sorted(tuning.trials, key=lambda trial: _wins(tuning, trial)):  # the best lies on top
        kind, note = ("best", f"trial {trial.number}") if _wins(tuning, trial) else ("other", "")
        if trial.curve:
            points = [(float(epoch), value) for epoch, value in enumerate(trial.curve, start=1)]
            lines.append(charts.Line(points, kind, _title(trial), note))
    label = f"{tuning.metric} after each epoch of {len(lines)} trials"
    return charts.line_chart(lines, label=label, x_name="epoch", y_name=tuning.metric)


def _time_chart(tuning: Tuning) -> Markup:
    ends = [max(tuning.seconds, t.started) if t.seconds is None else t.started + t.seconds for t in tuning.trials]
    unit, name = next((u for u in ((3600, "hours"), (60, "minutes")) if max(ends) > 2 * u[0]), (1, "seconds"))
    bars = []
    for trial, end in zip(tuning.trials, ends, strict=True):
        title = f"{_title(trial)}\n{duration(end - trial.started)}, from {duration(trial.started)} on"
        bars.append(charts.Bar(str(trial.number), trial.started / unit, end / unit, _kind(trial), title))
    height = max(4, min(22, 300 / len(bars)))
    label = f"when each of {len(bars)} trials ran"
    return charts.bar_chart(bars, label=label, x_name=f"{name} since the search began", height=height)

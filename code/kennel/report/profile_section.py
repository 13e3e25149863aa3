"""The section on where the time went: phases over time, the machine meanwhile, the steps, and torch's operators."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from kennel.report import charts
from kennel.report.pages import render, step_time
from kennel.report.profile_record import Bin, Profile, SlowStep, Stage
from kennel.report.scales import Scale, scale_of

OPERATORS = 15  # rows of the table
OUTLIER = 3.0  # standard deviations above the mean from which a step is marked
SLOWEST = 3  # steps that are named one by one
PARTS = {  # what a page calls them, in the order of a job
    "start-up": "start-up",
    "decoding": "decoding images",
    "features": "features",
    "data": "waiting for data",
    "to_device": "to the device",
    "forward": "forward",
    "backward": "backward",
    "optimizer": "optimizer",
    "debugging": "the debugger",
    "evaluation": "validation",
    "checkpoint": "checkpoints",
    "test": "saving and test",
    "export": "export for other engines",
    "profiling": "the profiler itself",
    "other": "the rest",
}

_SERIES = {"cpu": "cores", "memory": "memory", "io_wait": "waiting for a disk"}
_MOST_STRETCHES, _FEWEST_STRETCHES = 50, 12  # that are drawn
_STEPS = 5  # of a stretch, at least: with fewer, a step more or less looks like a change
_FEWEST_STEPS = 10  # of a histogram
_MARKED = 0.001  # share of a job below which a part is not drawn


@dataclass(frozen=True)
class PartRow:
    """One part in the legend."""

    kind: str  # CSS class
    name: str
    seconds: float
    share: float  # of the job


@dataclass(frozen=True)
class StageView:
    """The steps of one stage."""

    stage: Stage
    chart: Markup | None
    limit: float  # seconds from which a step is marked
    slowest: Sequence[tuple[SlowStep, str]]  # with the part that took most


@dataclass(frozen=True)
class _Unit:
    name: str
    seconds: float


def profile_markup(profile: Profile) -> Markup:
    """Return the body of the section."""
    unit = _unit(profile.seconds)
    rows = _rows(profile)
    return render(
        "job/profile.html",
        profile=profile,
        rows=rows,
        longest=sorted(rows, key=lambda row: -row.share)[:2],
        phases=_phases(profile, rows, unit),
        machine=_machine(profile, unit),
        series={_kind(name): _group(name, profile) for name in profile.series},
        stages=[_stage_view(stage) for stage in profile.stages if stage.steps],
        operators=profile.operators[:OPERATORS],
        taken=sum(operator.cpu + operator.gpu for operator in profile.operators) or 1.0,
    )


def _unit(seconds: float) -> _Unit:
    return (
        _Unit("hours", 3600) if seconds > 3 * 3600 else _Unit("minutes", 60) if seconds > 300 else _Unit("seconds", 1)
    )


def _rows(profile: Profile) -> list[PartRow]:
    whole = profile.seconds or 1.0
    known = [*PARTS, *(part for part in profile.parts if part not in PARTS)]
    return [
        PartRow(f"part-{part}" if part in PARTS else "part-other", PARTS.get(part, part), seconds, seconds / whole)
        for part in known
        if (seconds := profile.parts.get(part, 0.0)) > _MARKED * whole
    ]


def _phases(profile: Profile, rows: Sequence[PartRow], unit: _Unit) -> Markup | None:
    """Return what each stretch of time went to, as shares of it."""
    if not profile.timeline:
        return None
    each = _merge(profile)
    timeline = {part: _merged(row, each) for part, row in profile.timeline.items()}
    totals = [sum(stretch) for stretch in zip(*timeline.values(), strict=True)]
    seconds = {PARTS.get(part, part): row for part, row in timeline.items()}
    layers = [
        charts.Layer(
            [100 * part / total if total else 0.0 for part, total in zip(seconds[row.name], totals, strict=True)],
            row.kind,
            f"{row.name}: {100 * row.share:.1f} % of the job",
        )
        for row in rows
        if row.name in seconds
    ]
    edges = [min(number * each * profile.width, profile.seconds) / unit.seconds for number in range(len(totals) + 1)]
    return charts.stacked_chart(
        edges, layers, label="what the time went to, over the job", x_name=unit.name, y_name="% of the time"
    )


def _merge(profile: Profile) -> int:
    """Return how many stretches of the timeline are drawn as one: some steps' worth, where the job is not too short."""
    stretches = len(next(iter(profile.timeline.values())))
    longest = max((stage.median for stage in profile.stages), default=0.0)
    wanted = math.ceil(_STEPS * longest / profile.width) if profile.width else 1
    return max(math.ceil(stretches / _MOST_STRETCHES), min(wanted, stretches // _FEWEST_STRETCHES), 1)


def _merged(row: Sequence[float], each: int) -> list[float]:
    return [sum(row[start : start + each]) for start in range(0, len(row), each)]


def _machine(profile: Profile, unit: _Unit) -> Markup | None:
    """Return how busy the machine was."""
    if len(profile.at) < 2:
        return None
    lines = [
        charts.Line(
            list(zip((at / unit.seconds for at in profile.at), row, strict=True)),
            _kind(name),
            f"{_name(name, profile)}: {sum(row) / len(row):.0f} % on average",
        )
        for name, row in reversed(list(profile.series.items()))  # the cores lie on top
    ]
    return charts.line_chart(
        lines, label="how busy the machine was", x_name=unit.name, y_name="%", bounds=Scale(0, 100)
    )


def _kind(series: str) -> str:
    """Return the CSS class: all GPUs are drawn alike."""
    if series in _SERIES:
        return f"series-{series}"
    return "series-gpu-memory" if series.endswith("_memory") else "series-gpu"


def _group(series: str, profile: Profile) -> str:
    """Return the name in the legend, where several GPUs have one."""
    if series in _SERIES or len(profile.gpus) == 1:
        return _name(series, profile)
    return "memory of each GPU" if series.endswith("_memory") else "each GPU"


def _name(series: str, profile: Profile) -> str:
    if series in _SERIES:
        return _SERIES[series]
    gpu, _, memory = series.removeprefix("gpu").partition("_")
    which = "GPU" if len(profile.gpus) == 1 else f"GPU {gpu}"
    return f"{which} memory" if memory else which


def _stage_view(stage: Stage) -> StageView:
    limit = stage.mean + OUTLIER * stage.deviation
    named = [
        (slow, PARTS.get(longest, longest))
        for slow in stage.slowest[:SLOWEST]
        if slow.seconds > limit and (longest := max(slow.parts, key=lambda part: slow.parts[part], default=""))
    ]
    return StageView(stage, _histogram(stage, limit), limit, named)


def _histogram(stage: Stage, limit: float) -> Markup | None:
    """Return how many steps took how long, on a logarithmic scale where they are far apart."""
    if sum(each.steps for each in stage.bins) < _FEWEST_STEPS:
        return None
    low, high = stage.bins[0].low * 1000, stage.bins[-1].high * 1000
    scale = scale_of((low, high), logarithmic=high > 4 * low)
    columns = [
        charts.Column(each.low * 1000, each.high * 1000, each.steps, *_marked(each, limit)) for each in stage.bins
    ]
    name = f"how long the steps of the {stage.name} took"
    return charts.column_chart(columns, scale, label=name, x_name="milliseconds a step", y_name="steps")


def _marked(each: Bin, limit: float) -> tuple[str, str]:
    """Return the kind and the title of a column."""
    kind = "outlier" if math.sqrt(each.low * each.high) > limit else "usual"
    return kind, f"{each.steps} steps of {step_time(each.low)} to {step_time(each.high)}"

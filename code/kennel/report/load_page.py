"""The page of a load test: how latency and throughput follow the load."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from kennel.atomic import write_text
from kennel.report import charts
from kennel.report.load_record import LoadTest, Step, read_load
from kennel.report.pages import render
from kennel.report.scales import number, scale_of

RECORD, PAGE = "load.json", "load.html"
PERCENTILES = ("p50", "p90", "p99")
_WIDE = 30.0  # times the lowest latency from which a linear axis shows nothing of it any more


def write_load_page(folder: Path) -> Path:
    """Write `load.html` beside `folder`'s `load.json` and return its path. Raises ReportError without a record."""
    test = read_load(folder / RECORD)
    page = folder / PAGE
    write_text(page, render("load.html", **_content(test)))
    return page


def _content(test: LoadTest) -> dict[str, object]:
    """Return what the template shows."""
    closed = [step for step in test.steps if step.rate is None]
    is_open = [step for step in test.steps if step.rate is not None]
    loops = [
        _loop("Clients that wait for each answer", "clients", closed),
        _loop("Requests at a fixed rate", "requests a second", is_open),
    ]
    return {
        "test": test,
        "best": max(test.steps, key=lambda step: step.throughput),
        "kilobytes": number(test.body_bytes / 1000, 1),
        "loops": [loop for loop in loops if loop["steps"]],
        "phases": list(dict.fromkeys(name for step in test.steps for name in step.phases)),
        "shown": lambda value: number(value, 2) if value else "–",
    }


def _loop(title: str, x_name: str, steps: Sequence[Step]) -> dict[str, object]:
    steps = sorted(steps, key=_load)
    answered = [step for step in steps if step.p50]
    return {
        "title": title,
        "is_open": x_name != "clients",
        "steps": steps,
        "latency_chart": _latency_chart(answered, x_name) if answered else "",
        "throughput_chart": _throughput_chart(steps, x_name),
    }


def _load(step: Step) -> float:
    return step.connections if step.rate is None else step.rate


def _latency_chart(steps: Sequence[Step], x_name: str) -> Markup:
    lines = [
        charts.Line([(_load(step), getattr(step, name)) for step in steps], name, f"{name}: {_listed(steps, name)} ms")
        for name in PERCENTILES
    ]
    heights = [y for line in lines for _, y in line.points]
    return charts.line_chart(
        lines,
        label=f"Latency over {x_name}",
        x_name=x_name,
        y_name="milliseconds",
        logarithmic=max(heights) > _WIDE * min(heights),
    )


def _throughput_chart(steps: Sequence[Step], x_name: str) -> Markup:
    lines = [
        charts.Line(
            [(_load(step), step.throughput) for step in steps], "answered", f"{_listed(steps, 'throughput')} a second"
        )
    ]
    if x_name != "clients":
        asked = charts.Line([(_load(step), _load(step)) for step in steps], "asked", "as many as are due")
        lines.insert(0, asked)
    heights = [y for line in lines for _, y in line.points]
    return charts.line_chart(
        lines,
        label=f"Throughput over {x_name}",
        x_name=x_name,
        y_name="good answers a second",
        bounds=scale_of([0.0, *heights], rounded=True),
    )


def _listed(steps: Sequence[Step], name: str) -> str:
    return ", ".join(number(getattr(step, name), 2) for step in steps)

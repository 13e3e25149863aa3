"""Charts as inline SVG: text, lines and shapes, whose colours are CSS classes of the page that holds them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from kennel.report.scales import Scale, Tick, scale_of
from kennel.report.svg import CHARACTER, element, tooltip, write

WIDTH, HEIGHT = 480, 300  # units of the view box; a page draws them as pixels, more or less
LEFT, RIGHT, TOP, BOTTOM = 52, 18, 30, 42  # around the plot, for the axes' labels
MOST_POINTS = 240  # of one line: as many as can be told apart in a chart this wide

DOT = "M-4,0a4,4 0 1 0 8,0a4,4 0 1 0 -8,0"
SHAPES = {  # around (0, 0); a kind is told by its shape as well as by its colour
    "stopped": "M0,-5L5,0L0,5L-5,0Z",
    "failed": "M-4,-4L4,4M-4,4L4,-4",
    "best": "M-5.5,0a5.5,5.5 0 1 0 11,0a5.5,5.5 0 1 0 -11,0",
}


@dataclass(frozen=True)
class Mark:
    """A point of a scatter chart; one that has no `y` lies on the chart's floor."""

    x: float
    y: float | None
    kind: str  # CSS class
    title: str  # shown when the pointer rests on it
    note: str = ""  # written beside it


@dataclass(frozen=True)
class Line:
    """A line through points from left to right."""

    points: Sequence[tuple[float, float]]
    kind: str
    title: str
    note: str = ""  # written at its end


@dataclass(frozen=True)
class Rule:
    """An upright line through the whole plot."""

    x: float
    kind: str
    title: str
    note: str = ""  # written beside it
    note_on_floor: bool = False  # else above the plot


@dataclass(frozen=True)
class Bar:
    """A horizontal bar from `start` to `end`."""

    name: str
    start: float
    end: float
    kind: str
    title: str
    note: str = ""  # written behind it


@dataclass(frozen=True)
class Layer:
    """One of several areas on top of each other."""

    values: Sequence[float]  # per cent, one a stretch between two edges
    kind: str
    title: str


@dataclass(frozen=True)
class Column:
    """An upright bar of a histogram."""

    start: float
    end: float
    height: float
    kind: str
    title: str


@dataclass(frozen=True)
class Axis:
    """One of the upright axes of parallel coordinates."""

    name: str
    ticks: Sequence[Tick]


def key(kind: str) -> Markup:
    """Return the sign of a kind, for a legend in the text."""
    return element("svg", _shape(kind, 7, 7), viewBox="0 0 14 14", class_="key", aria_hidden="true")


def scatter_chart(marks: Sequence[Mark], steps: Line, *, label: str, x_name: str, y_name: str) -> Markup:
    """Return a chart of `marks` at whole numbers, and a line of `steps` that holds its height until the next one."""
    across = [mark.x for mark in marks] or [1.0]
    x = Scale(min(across) - 0.5, max(across) + 0.5, whole=True)
    y = _upright([mark.y for mark in marks if mark.y is not None])
    drawn = [_frame(x, y, x_name, y_name)]
    if steps.points:
        (left, bottom), *later = [_place(x, y, *point) for point in steps.points]
        path = f"M{left:.1f},{bottom:.1f}" + "".join(f"H{right:.1f}V{height:.1f}" for right, height in later)
        end = _place(x, y, max(across), y.low)[0]
        drawn.append(element("path", tooltip(steps.title), d=f"{path}H{end:.1f}", class_=f"line {steps.kind}"))
    for mark in marks:
        across_mark, up = _place(x, y, mark.x, y.low if mark.y is None else mark.y)
        drawn.append(_shape(mark.kind, across_mark, up, mark.title))
        if mark.note:
            drawn.append(_note(mark.note, across_mark, up, mark.kind))
    return _chart(WIDTH, HEIGHT, label, drawn)


def line_chart(
    lines: Sequence[Line],
    *,
    label: str,
    x_name: str,
    y_name: str,
    rules: Sequence[Rule] = (),
    logarithmic: bool = False,
    bounds: Scale | None = None,
) -> Markup:
    """Return a chart of `lines` over whole numbers; the last lies on top, and the `rules` below them all.

    One whose height is `logarithmic` has positive values only. Without `bounds` the upright axis is as long as the
    lines want it.
    """
    points = [point for line in lines for point in line.points]
    across = scale_of([x for x, _ in points])
    x = Scale(across.low, across.high, whole=True)
    heights = [y for _, y in points]
    y = bounds or (scale_of(heights, logarithmic=True) if logarithmic else _upright(heights))
    drawn = [_frame(x, y, x_name, y_name), *(_rule(x, rule) for rule in rules)]
    for line in lines:
        thinned = [*line.points[:-1][:: math.ceil(len(line.points) / MOST_POINTS) or 1], *line.points[-1:]]
        places = [_place(x, y, *point) for point in thinned]
        drawn.append(_polyline(places, line.kind, line.title))
        for right, up in places[-1:]:
            drawn.append(element("circle", tooltip(line.title), cx=right, cy=up, r=2.5, class_=f"dot {line.kind}"))
            if line.note:
                drawn.append(_note(line.note, right, up, line.kind))
    return _chart(WIDTH, HEIGHT, label, drawn)


def stacked_chart(edges: Sequence[float], layers: Sequence[Layer], *, label: str, x_name: str, y_name: str) -> Markup:
    """Return a chart of areas on top of each other, 100 per cent high; a stretch lies between two of the `edges`."""
    x, y = Scale(edges[0], max(edges[-1], edges[0] + 1e-9)), Scale(0, 100)
    drawn = [_frame(x, y, x_name, y_name)]
    floor = [0.0] * (len(edges) - 1)
    for layer in layers:
        path = []
        for number, value in enumerate(layer.values):
            if value > 0:
                left, top = _place(x, y, edges[number], floor[number] + value)
                right, bottom = _place(x, y, edges[number + 1], floor[number])
                path.append(f"M{left:.1f},{bottom:.1f}V{top:.1f}H{right:.1f}V{bottom:.1f}Z")
            floor[number] += value
        drawn.append(element("path", tooltip(layer.title), d="".join(path), class_=f"area {layer.kind}"))
    return _chart(WIDTH, HEIGHT, label, drawn)


def column_chart(columns: Sequence[Column], x: Scale, *, label: str, x_name: str, y_name: str) -> Markup:
    """Return a histogram; a column of one among thousands can be seen too."""
    y = scale_of([0.0, *(column.height for column in columns)], rounded=True)
    y = Scale(y.low, y.high, whole=True)
    drawn = [_frame(x, y, x_name, y_name)]
    for column in columns:
        left, top = _place(x, y, column.start, column.height)
        right, bottom = _place(x, y, column.end, 0)
        height = max(3.0, bottom - top)
        box = {"x": left, "y": bottom - height, "width": max(1.5, right - left - 0.5), "height": height}
        drawn.append(element("rect", tooltip(column.title), **box, class_=f"bar {column.kind}"))
    return _chart(WIDTH, HEIGHT, label, drawn)


def bar_chart(bars: Sequence[Bar], *, label: str, x_name: str = "", height: float = 28) -> Markup:
    """Return a chart of horizontal bars below each other, each `height` apart; without `x_name` it has no axis."""
    left = min(160.0, max((len(bar.name) for bar in bars), default=0) * CHARACTER) + 12
    right = WIDTH - (RIGHT if x_name else 48)  # room for a note behind the longest bar
    bottom = TOP / 2 + height * len(bars)
    x = Scale(0, max((bar.end for bar in bars), default=0) or 1)
    drawn = []
    if x_name:
        for place, text in x.ticks():
            across = left + place * (right - left)
            drawn.append(element("line", x1=across, x2=across, y1=TOP / 2, y2=bottom, class_="grid"))
            drawn.append(write(text, across, bottom + 18, "middle"))
        drawn.append(write(x_name, (left + right) / 2, bottom + 37, "middle", "name"))
    named = math.ceil(13 / height)  # every how many rows there is room for a name
    thick = max(2.0, height * 0.6)
    for row, bar in enumerate(bars):
        middle = TOP / 2 + height * (row + 0.5)
        start, end = (left + x.place(value) * (right - left) for value in (bar.start, bar.end))
        box = {
            "x": start,
            "y": middle - thick / 2,
            "width": max(1.5, end - start),
            "height": thick,
            "rx": min(3, thick / 2),
        }
        drawn.append(element("rect", tooltip(bar.title), **box, class_=f"bar {bar.kind}"))
        if row % named == 0:
            drawn.append(write(bar.name, left - 10, middle + 4, "end", width=left - 10))
        if bar.note:
            drawn.append(write(bar.note, end + 7, middle + 4))
    return _chart(WIDTH, bottom + (BOTTOM + 4 if x_name else TOP / 2), label, drawn)


def parallel_chart(axes: Sequence[Axis], lines: Sequence[Line], *, label: str) -> Markup:
    """Return parallel coordinates: an upright line an axis, and a line a point of the space that they span.

    The points of `lines` are (number of the axis, place along it). Where the page is narrow, the chart keeps its width.
    """
    left, gap = 104, max(130.0, (960 - 104 - 74) / max(1, len(axes) - 1))
    width, height = left + gap * (len(axes) - 1) + 74, 340
    top, bottom = 40, height - 16

    def up(place: float) -> float:
        return bottom - place * (bottom - top)

    drawn = [
        element("line", x1=left + i * gap, x2=left + i * gap, y1=top, y2=bottom, class_="axis")
        for i in range(len(axes))
    ]
    for line in lines:
        drawn.append(_polyline([(left + i * gap, up(place)) for i, place in line.points], line.kind, line.title))
    for i, axis in enumerate(axes):
        x = left + i * gap
        side, anchor = (9, "start") if i == len(axes) - 1 else (-9, "end")
        drawn.append(write(axis.name, x, 18, "middle", "name", width=gap - 8))
        for place, text in axis.ticks[:: math.ceil(len(axis.ticks) / 18) or 1]:
            drawn.append(element("line", x1=x - 3, x2=x + 3, y1=up(place), y2=up(place), class_="axis"))
            drawn.append(write(text, x + side, up(place) + 4, anchor, width=left - 9))
    return _chart(width, height, label, drawn, style=f"min-width:{0.85 * width:.0f}px")


def _chart(width: float, height: float, label: str, drawn: Sequence[Markup], **attributes: str) -> Markup:
    box = f"0 0 {width:.0f} {height:.0f}"
    return element("svg", *drawn, viewBox=box, role="img", aria_label=label, class_="chart", **attributes)


def _frame(x: Scale, y: Scale, x_name: str, y_name: str) -> Markup:
    """Return the grid, the ticks and the names of the axes."""
    drawn = [
        write(y_name, 0, 12, class_="name"),
        write(x_name, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, "middle", "name"),
    ]
    for place, text in y.ticks():
        up = HEIGHT - BOTTOM - place * (HEIGHT - BOTTOM - TOP)
        drawn.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=up, y2=up, class_="grid"))
        drawn.append(write(text, LEFT - 8, up + 4, "end"))
    for place, text in x.ticks(8):
        drawn.append(write(text, LEFT + place * (WIDTH - RIGHT - LEFT), HEIGHT - BOTTOM + 20, "middle"))
    floor = HEIGHT - BOTTOM
    return element("g", *drawn, element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=floor, y2=floor, class_="axis"))


def _rule(x: Scale, rule: Rule) -> Markup:
    across = LEFT + x.place(rule.x) * (WIDTH - RIGHT - LEFT)
    line = element(
        "line", tooltip(rule.title), x1=across, x2=across, y1=TOP, y2=HEIGHT - BOTTOM, class_=f"rule {rule.kind}"
    )
    anchor = "start" if x.place(rule.x) < 0.75 else "end"
    beside = across + (5 if anchor == "start" else -5)
    up = HEIGHT - BOTTOM - 6 if rule.note_on_floor else TOP - 4
    return element("g", line, write(rule.note, beside, up, anchor, f"note {rule.kind}") if rule.note else "")


def _upright(values: Sequence[float]) -> Scale:
    """Return an axis with room below the lowest value, but none below 0 unless there are negative ones."""
    if not values:
        return scale_of([])
    room = min(values) - (max(values) - min(values)) / 10
    return scale_of([room if min(values) < 0 else max(0.0, room), *values], rounded=True)


def _place(x: Scale, y: Scale, across: float, up: float) -> tuple[float, float]:
    floor, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    return LEFT + x.place(across) * (right - LEFT), floor - y.place(up) * (floor - TOP)


def _polyline(places: Sequence[tuple[float, float]], kind: str, title: str) -> Markup:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return element("polyline", tooltip(title), points=points, class_=f"line {kind}")


def _shape(kind: str, x: float, y: float, title: str = "") -> Markup:
    children = [tooltip(title)] if title else []
    d = SHAPES.get(kind, DOT)
    return element("path", *children, d=d, transform=f"translate({x:.1f},{y:.1f})", class_=f"mark {kind}")


def _note(text: str, x: float, y: float, kind: str) -> Markup:
    """Return `text` above what is high up and below what is far down, where nothing else is, and inside the plot."""
    anchor = "start" if x < LEFT + 40 else "end" if x > WIDTH - RIGHT - 40 else "middle"
    return write(text, x, y - 10 if y < HEIGHT / 2 else y + 19, anchor, f"note {kind}")

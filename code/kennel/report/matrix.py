"""The confusion matrix as inline SVG, which stays readable with many classes and small with very many."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from kennel.report.svg import CHARACTER, element, tooltip, write

MOST_CELLS = 2500  # that are drawn: the larger ones, where a test has more kinds of mistakes than that
NAMED = 40  # classes at most that have room for a name
NUMBERED = 15  # classes at most whose cells have room for a number
SIDE = 560.0  # of the square, in units of the view box, when it has no room for names
NAME = 120.0  # room for a name, at most
TURN = 55  # degrees that the names above the square are turned by
FAINTEST = 0.4  # opacity of the palest cell, which must be seen in a small square

Cell = tuple[int, int, int]  # row, column, images


def confusion_matrix(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> Markup:
    """Return a square of what each class (row) was taken for (column); what was right lies on its diagonal."""
    size = len(classes)
    cell = 34.0 if size <= NUMBERED else 17.0 if size <= NAMED else SIDE / size
    named = size <= NAMED
    room = min(NAME, max(map(len, ("label", *classes))) * CHARACTER + 12)
    left, top = (room, 18 + (room - 12) * math.sin(math.radians(TURN))) if named else (4.0, 22.0)
    drawn = [
        element("rect", x=left, y=top, width=cell * size, height=cell * size, class_="plot"),
        write("label", left - 8, top - 8, "end", "name") if named else write("label ↓ predicted →", left, 14),
    ]
    drawn += [_cell(classes, counts, one, left, top, cell) for one in _largest(counts)]
    if named:
        for i, name in enumerate(classes):
            middle = (i + 0.5) * cell
            drawn.append(write(name, left - 8, top + middle + 4, "end", width=left - 6))
            turned = f"translate({left + middle + 4:.1f},{top - 8:.1f}) rotate(-{TURN})"
            drawn.append(element("g", write(name, 0, 0, width=room), transform=turned))
    width, height = left + cell * size + (room / 2 if named else 4), top + cell * size + 4
    return element(
        "svg",
        *drawn,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        role="img",
        aria_label=f"confusion matrix of {size} classes",
        class_="chart matrix",
        style=f"width:{width:.0f}px" + (f";min-width:{0.8 * width:.0f}px" if named else ""),
    )


def _largest(counts: Sequence[Sequence[int]]) -> list[Cell]:
    """Return the cells that are drawn."""
    cells = [(row, column, count) for row, line in enumerate(counts) for column, count in enumerate(line) if count]
    return sorted(cells, key=lambda one: (-one[2], one))[:MOST_CELLS]


def _cell(
    classes: Sequence[str], counts: Sequence[Sequence[int]], one: Cell, left: float, top: float, side: float
) -> Markup:
    row, column, count = one
    total = sum(counts[row])
    is_right, share = row == column, count / total
    title = f"{classes[row]}: {'right' if is_right else f'taken for {classes[column]}'}, {count} of {total}"
    x, y = left + column * side, top + row * side
    gap = 1.0 if side > 8 else 0.0
    box = element(
        "rect",
        tooltip(title),
        x=f"{x:.2f}",
        y=f"{y:.2f}",
        width=f"{side - gap:.2f}",
        height=f"{side - gap:.2f}",
        fill_opacity=f"{FAINTEST + (1 - FAINTEST) * share:.2f}",
        class_="right" if is_right else "wrong",
    )
    if side < 30:
        return box
    strong = " strong" if share > 0.6 else ""
    return Markup().join([box, write(str(count), x + side / 2, y + side / 2 + 4, "middle", f"count{strong}")])

"""Elements of SVG, and of HTML, as markup in which everything else is escaped."""

import math

from markupsafe import Markup

CHARACTER = 7.2  # how wide one is in a wide font, at the 12 pixels that the page sets


def element(tag: str, *children: str, **attributes: float | str) -> Markup:
    """Return an element; all that is no markup is escaped. `class_` is written class, and `aria_label` aria-label."""
    written = [
        Markup(' {}="{}"').format(
            name.rstrip("_").replace("_", "-"), value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
        )
        for name, value in attributes.items()
    ]
    return Markup("<{0}{1}>{2}</{0}>").format(tag, Markup().join(written), Markup().join(children))


def write(
    text: str, x: float, y: float, anchor: str = "start", class_: str = "tick", width: float = math.inf
) -> Markup:
    """Return `text`, cut when it is wider than `width`; the whole of it is then its tooltip."""
    if len(text) * CHARACTER > width:
        cut = text[: int(width / CHARACTER) - 1] + "…"
        return element("text", tooltip(text), cut, x=x, y=y, text_anchor=anchor, class_=class_)
    return element("text", text, x=x, y=y, text_anchor=anchor, class_=class_)


def tooltip(text: str) -> Markup:
    """Return what is shown when the pointer rests on the element around it."""
    return element("title", text)

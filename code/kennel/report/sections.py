"""A part of a page."""

from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Section:
    """A part of the page, with a heading of its own."""

    title: str
    body: Markup
    is_wide: bool = True  # over the whole width, where there is room for two beside each other

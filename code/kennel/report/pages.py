"""From a template and values to the text of a page, and numbers as a page writes them."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from kennel.report import charts
from kennel.report.scales import number

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> Markup:
    """Return a template of this room, filled; whatever is no markup is escaped."""
    return Markup(_environment().get_template(template).render(values))


def script(name: str) -> tuple[Markup, str]:
    """Return a script of this room, and the hash by which a page's policy allows it and no other."""
    text = (TEMPLATES / name).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Markup(text), f"sha256-{digest}"


def duration(seconds: float) -> str:
    """Return a time in the two largest units that it has: `21.3 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes = round(seconds) // 60
    return f"{minutes} min {round(seconds) % 60} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def step_time(seconds: float) -> str:
    """Return what a step takes: `1.89 ms`, `139 ms`, `2.4 s`."""
    return f"{number(seconds * 1000, 2)} ms" if seconds < 1 else f"{number(seconds, 2)} s"


def score(value: float) -> str:
    """Return a metric's value with the four decimals that a job's log has."""
    return f"{value:z.4f}" if 1e-3 <= abs(value) < 1e4 else number(value)


def brief(value: str) -> str:
    """Return a hyperparameter's value with four digits, if it is a number with more than a person reads."""
    try:
        return number(float(value)) if len(value) > 8 and not value.isdigit() else value
    except (OverflowError, ValueError):
        return value


def breakable(name: str) -> Markup:
    """Return a name that may be broken at its underscores, as the names of folders often have them."""
    return Markup("_<wbr>").join(name.split("_"))


@cache
def _environment() -> Environment:
    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "score": score,
        "brief": brief,
        "breakable": breakable,
        "duration": duration,
        "step_time": step_time,
        "key": charts.key,
    }
    return environment

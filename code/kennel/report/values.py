"""Values of records that other programs wrote, checked one by one before a page shows them."""

import math
import re
from collections.abc import Mapping
from typing import Any

UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")  # XML has no way to write them


def text(value: Any) -> str:
    """Return a string that any page can hold: half characters and control characters become question marks."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no string")
    return UNPRINTABLE.sub("?", value.encode(errors="replace").decode())


def texts(value: Mapping[str, Any]) -> dict[str, str]:
    """Return a mapping of strings."""
    return {text(name): text(given) for name, given in value.items()}


def number(value: Any) -> float:
    """Return a finite number. Raises ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no finite number")
    return float(value)


def numbers(value: Mapping[str, Any]) -> dict[str, float]:
    """Return a mapping of finite numbers."""
    return {text(name): number(given) for name, given in value.items()}


def one_of(value: Any, *known: str) -> str:
    """Return a string that is one of those `known`. Raises ValueError for another."""
    if value not in known:
        raise ValueError(f"{value!r} is none of {', '.join(known)}")
    return str(value)

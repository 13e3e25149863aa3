"""Where a value lies along an axis, and the round numbers that name its ticks."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

Tick = tuple[float, str]  # place along the axis, 0 at its start and 1 at its end, and what is written there


@dataclass(frozen=True)
class Scale:
    """An axis of numbers from `low` to `high`, which differ; both are positive when it is `logarithmic`."""

    low: float
    high: float
    logarithmic: bool = False
    whole: bool = False  # of things that are counted: no tick between two whole numbers

    def place(self, value: float) -> float:
        """Return where `value` lies: 0 is `low`, 1 is `high`."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, count: int = 5) -> list[Tick]:
        """Return about `count` ticks at round numbers, with labels that tell them apart."""
        if self.logarithmic and len(values := _log_values(self.low, self.high, count)) > 1:
            return [(self.place(value), number(value)) for value in values]
        step = _step(self.low, self.high, count)
        if self.whole:
            step = max(1.0, step)
        values = [i * step for i in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)]
        return [(self.place(value), _label(value, step)) for value in values]


@dataclass(frozen=True)
class Choices:
    """An axis of names, evenly spaced."""

    names: tuple[str, ...]

    def place(self, name: str) -> float:
        """Return where `name` lies; the first is the lowest."""
        return (self.names.index(name) + 0.5) / len(self.names)

    def ticks(self) -> list[Tick]:
        """Return a tick a name."""
        return [(self.place(name), name) for name in self.names]


def scale_of(values: Iterable[float], *, logarithmic: bool = False, rounded: bool = False) -> Scale:
    """Return the axis that holds all `values`, from one round number to another when it is to be `rounded`.

    No values at all, and values that are all equal, get an axis too. One with values that are not positive is linear.
    """
    found = list(values) or [0.0, 1.0]
    low, high = min(found), max(found)
    logarithmic = logarithmic and low > 0
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        room = abs(low) / 10
        low, high = (low - room, high + room) if room else (0.0, 1.0)
    while rounded and not logarithmic:  # a longer axis may have a longer step
        step = _step(low, high, 5)
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        rounded = _step(low, high, 5) != step
    return Scale(low, high, logarithmic)


def number(value: float, decimals: int = 3) -> str:
    """Return `value` with `decimals` after its first digit, the very small and the very large as `1e-5`."""
    if value and not 1e-3 <= abs(value) < 1e6:
        digits, exponent = f"{value:.{decimals}e}".split("e")
        return f"{float(digits):.15g}e{int(exponent)}"
    return f"{value:.{decimals + 1}g}" if abs(value) < 10.0 ** (decimals + 1) else f"{value:.0f}"


def _step(low: float, high: float, count: int) -> float:
    """Return the smallest of 1, 2, 5, 10, … that divides the axis into no more than `count` parts."""
    rough = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(rough))
    return next(
        (magnitude * factor for factor in (1, 2, 5) if magnitude * factor >= rough * (1 - 1e-9)), magnitude * 10
    )


def _log_values(low: float, high: float, count: int) -> list[float]:
    """Return the powers of ten from `low` to `high`, with their 2 and 5 where there are few, thinned to `count`."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if last - first <= 2 else (1,)
    values = [factor * 10.0**exponent for exponent in range(first, last + 1) for factor in factors]
    inside = [value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
    return inside[:: math.ceil(len(inside) / (count + 1)) or 1]


def _label(value: float, step: float) -> str:
    """Return a tick's number with as many decimals as its step has."""
    power = math.floor(math.log10(step) + 1e-9)
    if power >= -6 and abs(value) < 1e6:
        return f"{value:z.{max(0, -power)}f}"
    return number(value, max(0, math.floor(math.log10(abs(value))) - power)) if value else "0"

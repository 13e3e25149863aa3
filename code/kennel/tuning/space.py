"""The search space, as a tuning request writes it down: ranges of integers, of numbers, and lists of values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kennel.errors import SearchError

MAX_TUNED = 30  # hyperparameters (contract B2)
MAX_VALUES = 30  # of a categorical hyperparameter (contract B2)
RESOURCE_NAMES = ("epochs", "numepochs", "n-epochs", "n_epochs", "num_epochs")  # contract B8
_AUTO_LOGARITHMIC = 100  # `Auto` is logarithmic when the largest value is so many times the smallest

Scaling = Literal["Linear", "Logarithmic", "ReverseLogarithmic"]


@dataclass(frozen=True)
class Parameter:
    """One hyperparameter that is searched: whole numbers, numbers, or one of a few texts."""

    name: str
    kind: Literal["Integer", "Continuous", "Categorical"]
    low: float = 0.0  # smallest and largest value, both included
    high: float = 0.0
    scaling: Scaling = "Linear"
    values: tuple[str, ...] = ()  # of a categorical one

    def text(self, value: float) -> str:
        """Return a number of this range as the container gets it (contract B4).

        Six digits are kept; in a reverse logarithmic range, which may end at 0.9999999, six of what is left to 1.
        """
        if self.kind == "Integer":
            return str(round(value))
        short = float(f"{value:.6g}")
        if self.scaling == "ReverseLogarithmic":
            short = round(1 - float(f"{1 - value:.6g}"), 15)
        return repr(min(max(short, self.low), self.high))

    def coordinate(self, text: str) -> Any:
        """Return where a value lies on the axis that is searched: as it is, but for reverse logarithmic ranges.

        Those are searched as a logarithmic range of what is left to 1.
        """
        if self.kind == "Categorical":
            return text
        if self.kind == "Integer":
            return round(float(text))
        return 1 - float(text) if self.scaling == "ReverseLogarithmic" else float(text)

    def at(self, coordinate: Any) -> str:
        """Return the value at a coordinate, as the container gets it."""
        if self.kind == "Categorical":
            return str(coordinate)
        return self.text(1 - coordinate if self.scaling == "ReverseLogarithmic" else coordinate)

    def nearest(self, text: str) -> str | None:
        """Return the value of this range that is nearest to `text`; None if it is no number, or none of the values."""
        if self.kind == "Categorical":
            return text if text in self.values else None
        try:
            number = float(text)
        except ValueError:
            return None
        return self.text(min(max(number, self.low), self.high))


def parse_ranges(ranges: Mapping[str, Any]) -> tuple[Parameter, ...]:
    """Return the parameters of a request's `ParameterRanges`.

    Raises SearchError, with one line for each range that the service would refuse (contract B2).
    """
    parameters, problems = [], []
    readers = {
        "IntegerParameterRanges": lambda given: _numbers("Integer", given),
        "ContinuousParameterRanges": lambda given: _numbers("Continuous", given),
        "CategoricalParameterRanges": _categorical,
    }
    for member, read in readers.items():
        for given in ranges.get(member, []):
            try:
                parameters.append(read(given))
            except SearchError as error:
                problems.append(f"{given['Name']}: {error}")
    names = [parameter.name for parameter in parameters]
    problems += [
        f"{name}: has {names.count(name)} ranges; give it one" for name in sorted({*names}) if names.count(name) > 1
    ]
    if len(names) > MAX_TUNED:
        problems.append(f"{len(names)} hyperparameters are tuned; {MAX_TUNED} are the most")
    if problems:
        raise SearchError("bad ranges:\n  " + "\n  ".join(problems))
    return tuple(parameters)


def describe_ranges(ranges: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each range of a request's `ParameterRanges` in short: `low`, `high` and `scaling`, or `choices`."""
    return {
        p.name: {"choices": list(p.values)} if p.values else {"low": p.low, "high": p.high, "scaling": p.scaling}
        for p in parse_ranges(ranges)
    }


def _numbers(kind: Literal["Integer", "Continuous"], given: Mapping[str, Any]) -> Parameter:
    low, high = _bound(kind, given, "MinValue"), _bound(kind, given, "MaxValue")
    scaling = given.get("ScalingType", "Auto")
    if low > high:
        raise SearchError(f"the smallest value {given['MinValue']} is above the largest, {given['MaxValue']}")
    if scaling == "Logarithmic" and low <= 0:
        raise SearchError(f"a logarithmic range begins above 0, not at {given['MinValue']}")
    if scaling == "ReverseLogarithmic" and kind == "Integer":
        raise SearchError("ReverseLogarithmic is for continuous ranges; use Linear or Logarithmic")
    if scaling == "ReverseLogarithmic" and not (low >= 0 and high < 1):
        raise SearchError(
            f"a reverse logarithmic range lies within 0 ≤ x < 1, not {given['MinValue']} to {given['MaxValue']}"
        )
    if scaling == "Auto":
        scaling = "Logarithmic" if low > 0 and high / low >= _AUTO_LOGARITHMIC else "Linear"
    return Parameter(given["Name"], kind, low, high, scaling)


def _bound(kind: str, given: Mapping[str, Any], member: str) -> float:
    text = given[member]
    try:
        value = float(text)
    except ValueError:
        raise SearchError(f"{member} is {text!r}; it should be a number") from None
    if not math.isfinite(value):
        raise SearchError(f"{member} is {text}; it should be finite")
    if kind == "Integer" and not value.is_integer():
        raise SearchError(f"{member} is {text}; an integer range has whole numbers")
    return value


def _categorical(given: Mapping[str, Any]) -> Parameter:
    values = tuple(given["Values"])
    if not 1 <= len(values) <= MAX_VALUES:
        raise SearchError(f"has {len(values)} values; 1 to {MAX_VALUES} are allowed")
    if len({*values}) < len(values):
        raise SearchError("names a value twice")
    return Parameter(given["Name"], "Categorical", values=values)


def resources(config: Mapping[str, Any], static: Mapping[str, str]) -> tuple[int, int]:
    """Return how many epochs Hyperband's shortest and longest trials take.

    The longest is as configured, or the static number of epochs. Raises SearchError when there is neither, or it is
    shorter than the shortest (contract B8).
    """
    given = config.get("StrategyConfig", {}).get("HyperbandStrategyConfig", {})
    counts = [int(static[name]) for name in RESOURCE_NAMES if static.get(name, "").isdecimal()]
    if "MaxResource" not in given and not counts:
        raise SearchError(
            "Hyperband needs MaxResource, or a static hyperparameter `epochs`, to know how long a trial is"
        )
    least, most = int(given.get("MinResource", 1)), int(given.get("MaxResource", counts[0] if counts else 0))
    if least > most:
        raise SearchError(f"MinResource {least} is above the {most} epochs of Hyperband's longest trials")
    return least, most

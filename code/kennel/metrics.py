"""The names of the metrics, the log lines that carry them, and the regular expressions that read them back."""

import contextlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypedDict

EPOCH_METRICS = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy")  # printed after every epoch
TEST_METRICS = ("test_loss", "test_accuracy")  # printed once, for the epoch that is kept
METRICS = EPOCH_METRICS + TEST_METRICS
KEPT_METRICS = ("valid_loss", "valid_accuracy", *TEST_METRICS)  # printed last, for the epoch that is kept
BEST_EPOCH = "best_epoch="  # begins the last line, for the epoch that is kept


def metric_line(head: str, values: Mapping[str, float]) -> str:
    """Return one plain log line, `head` and then `name=value;` for each metric.

    Values have four decimals. Raises ValueError for one that is not finite: a tuner must never read it (contract B5).
    """
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"metric {name} is {value}, which no tuner can compare")
    return " ".join([head, *(f"{name}={value:z.4f};" for name, value in values.items())])


class MetricDefinition(TypedDict):
    """An entry of a request's `MetricDefinitions`."""

    Name: str
    Regex: str


def metric_definitions() -> list[MetricDefinition]:
    """Return the `MetricDefinitions` of a request: a name and a regular expression a metric (contract A6.4)."""
    return [{"Name": name, "Regex": rf"\b{name}=([0-9.]+);"} for name in METRICS]


def value_pattern(regex: str) -> re.Pattern[str] | None:
    """Return the pattern of a definition, or None when it is no regular expression or has no group for the value."""
    try:
        pattern = re.compile(regex)
    except re.error:
        return None
    return pattern if pattern.groups else None


def final_metrics(lines: Iterable[str], definitions: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the last value of each metric that `definitions` find in `lines`, as SageMaker does (contract B5).

    A definition that is no regular expression or has no group, and a value that is no finite number, are passed over.
    """
    patterns = {
        definition["Name"]: pattern for definition in definitions if (pattern := value_pattern(definition["Regex"]))
    }
    values: dict[str, float] = {}
    for line in lines:
        for name, pattern in patterns.items():
            for value in _numbers(pattern, line):
                values[name] = value
    return values


def metric_curve(lines: Iterable[str], regex: str) -> list[float]:
    """Return all values of one metric in the order they were printed: one an epoch.

    The line for the epoch that is kept only says again what stood there before, and is passed over.
    """
    pattern = value_pattern(regex)
    if pattern is None:
        return []
    return [value for line in lines if not line.startswith(BEST_EPOCH) for value in _numbers(pattern, line)]


def _numbers(pattern: re.Pattern[str], line: str) -> Iterator[float]:
    for match in pattern.finditer(line):
        with contextlib.suppress(ValueError):  # what the group holds is no number
            value = float(match.group(1))
            if math.isfinite(value):
                yield value

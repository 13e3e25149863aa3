"""The figures of a minute as CloudWatch's Embedded Metric Format: a line of the log that becomes metrics.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

PERIOD = 60.0  # seconds; metrics of CloudWatch have one value a minute
KEPT = 10_000  # latencies, and sizes of batches, that are said of a minute: its last ones
LONGEST = 100  # values that a metric may have in one line
UNITS = {
    "Requests": "Count",
    "Requests2xx": "Count",
    "Requests4xx": "Count",
    "Requests5xx": "Count",
    "Latency": "Milliseconds",
    "QueueDepth": "Count",
    "BatchSize": "Count",
    "CPUUtilization": "Percent",
    "MemoryUsed": "Bytes",
    "GPUUtilization": "Percent",
    "GPUMemoryUsed": "Bytes",
}


class Minute:
    """What was seen of a model in a minute; for one thread at a time."""

    def __init__(self) -> None:
        self._statuses: Counter[int] = Counter()
        self._latencies: deque[float] = deque(maxlen=KEPT)
        self._batches: deque[int] = deque(maxlen=KEPT)
        self._depth = 0

    def saw_request(self, status: int, seconds: float) -> None:
        """Count a request."""
        self._statuses[status] += 1
        if status < 400:  # a refusal is quick, and would make the server look so
            self._latencies.append(seconds)

    def saw_batch(self, size: int, waiting: int) -> None:
        """Count a batch of `size` images that left `waiting` others in the queue."""
        self._batches.append(size)
        self._depth = max(self._depth, waiting)

    def lines(
        self, namespace: str, dimensions: Mapping[str, str], resources: Mapping[str, float]
    ) -> Iterator[dict[str, Any]]:
        """Yield what there is to say. What was not seen, as latencies without a request, is not in it.

        Latencies and batches are said one by one, so that percentiles and means are right over several processes that
        each say their own; there are more lines where there are more of them than one may hold.
        """
        latencies, batches = [round(seconds * 1e3, 2) for seconds in self._latencies], list(self._batches)
        values: dict[str, Any] = {"Requests": self._statuses.total(), "QueueDepth": self._depth}
        for kind in (2, 4, 5):
            values[f"Requests{kind}xx"] = sum(n for status, n in self._statuses.items() if status // 100 == kind)
        values |= resources
        # to be searched for; no metrics
        properties: dict[str, Any] = {"Statuses": {str(status): n for status, n in sorted(self._statuses.items())}}
        if latencies:
            ordered = sorted(latencies)
            properties |= {f"LatencyP{percent}": percentile(ordered, percent) for percent in (50, 90, 99)}
        for start in range(0, max(len(latencies), len(batches), 1), LONGEST):
            for name, seen in (("Latency", latencies), ("BatchSize", batches)):
                if part := seen[start : start + LONGEST]:
                    values[name] = part
            yield _line(namespace, dimensions, values) | properties
            values, properties = {}, {}


def _line(namespace: str, dimensions: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    directive = {
        "Namespace": namespace,
        "Dimensions": [list(dimensions)],
        "Metrics": [{"Name": name, "Unit": UNITS[name]} for name in values],
    }
    about = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}
    return {"_aws": about, **dimensions, **values}


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the smallest of the sorted `values` that so many per cent of them do not exceed."""
    return values[max(0, -(-len(values) * percent // 100) - 1)]

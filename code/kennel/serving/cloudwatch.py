"""The figures of a minute as CloudWatch's Embedded Metric Format: a line of the log that becomes metrics.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

PERIOD = 60.0  # seconds; metrics of CloudWatch have one value a minute
KEPT = 10_000  # latencies that a minute's percentiles are taken of: its last ones
UNITS = {
    "Requests": "Count",
    "Requests2xx": "Count",
    "Requests4xx": "Count",
    "Requests5xx": "Count",
    "LatencyP50": "Milliseconds",
    "LatencyP90": "Milliseconds",
    "LatencyP99": "Milliseconds",
    "QueueDepth": "Count",
    "BatchSize": "Count",
    "CPUUtilization": "Percent",
    "MemoryUsed": "Bytes",
    "GPUUtilization": "Percent",
    "GPUMemoryUsed": "Bytes",
}


class Minute:
    """What was seen since the last line. All methods are for several threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._statuses: Counter[int] = Counter()
        self._latencies: deque[float] = deque(maxlen=KEPT)
        self._batches = 0
        self._images = 0
        self._depth = 0

    def saw_request(self, status: int, seconds: float) -> None:
        """Count a request."""
        with self._lock:
            self._statuses[status] += 1
            if status < 400:  # a refusal is quick, and would make the server look so
                self._latencies.append(seconds)

    def saw_batch(self, size: int, waiting: int) -> None:
        """Count a batch of `size` images that left `waiting` others in the queue."""
        with self._lock:
            self._batches += 1
            self._images += size
            self._depth = max(self._depth, waiting)

    def end(self, namespace: str, dimensions: Mapping[str, str], resources: Mapping[str, float]) -> dict[str, Any]:
        """Return the line, and begin anew. What was not seen, as latencies without a request, is not in it."""
        with self._lock:
            statuses, latencies = self._statuses, sorted(self._latencies)
            batches, images, depth = self._batches, self._images, self._depth
            self._clear()
        values: dict[str, float] = {"Requests": statuses.total(), "QueueDepth": depth}
        for kind in (2, 4, 5):
            values[f"Requests{kind}xx"] = sum(n for status, n in statuses.items() if status // 100 == kind)
        if latencies:
            for percent in (50, 90, 99):
                values[f"LatencyP{percent}"] = round(percentile(latencies, percent) * 1e3, 3)
        if batches:
            values["BatchSize"] = round(images / batches, 3)
        values |= resources
        directive = {
            "Namespace": namespace,
            "Dimensions": [list(dimensions)],
            "Metrics": [{"Name": name, "Unit": UNITS[name]} for name in values],
        }
        return {
            "_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]},
            **dimensions,
            **values,
            "Statuses": {str(status): n for status, n in sorted(statuses.items())},  # to be searched for; no metric
        }


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the smallest of the sorted `values` that so many per cent of them do not exceed."""
    return values[max(0, -(-len(values) * percent // 100) - 1)]

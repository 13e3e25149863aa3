"""What `/metrics` shows: counts since the worker's start, as Prometheus reads them (contract C1.13).

One worker process answers all requests, so its counts are the endpoint's.
"""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from kennel.serving.resources import Resources

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4  # the text format that every scraper reads
_SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
    60,
)  # up to contract C1.7's limit
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """A registry of its own, so that an application can be made twice in one process."""

    def __init__(self, labels: Mapping[str, str], resources: Resources) -> None:
        self._registry = registry = CollectorRegistry()
        info = Gauge("kennel_model", "The model that is served; always 1", list(labels), registry=registry)
        info.labels(*labels.values()).set(1)
        self._requests = Counter("kennel_requests", "Answered requests by HTTP status", ["status"], registry=registry)
        self.requests_in_work = Gauge(
            "kennel_requests_in_work", "Requests that are not answered yet", registry=registry
        )
        self._bytes = Counter("kennel_request_bytes", "Bytes of request bodies", registry=registry)
        self._latency = Histogram(
            "kennel_request_seconds", "From a whole request to its answer", buckets=_SECONDS, registry=registry
        )
        self._phases = Histogram(
            "kennel_phase_seconds", "Time of a request by phase", ["phase"], buckets=_SECONDS, registry=registry
        )
        self._batches = Histogram(
            "kennel_batch_images", "Images that went through the model together", buckets=_IMAGES, registry=registry
        )
        self._queue = Gauge("kennel_queue_images", "Images that the last batch left waiting", registry=registry)
        ProcessCollector(registry=registry)
        registry.register(_Gpus(resources))

    def saw_request(self, status: int, seconds: float, phases: Mapping[str, float], size: int) -> None:
        """Count an answered request; only what was answered well has latencies worth knowing."""
        self._requests.labels(status).inc()
        self._bytes.inc(size)
        if status < 400:
            self._latency.observe(seconds)
            for name, value in phases.items():
                self._phases.labels(name).observe(value)

    def saw_batch(self, size: int, waiting: int) -> None:
        """Count a batch."""
        self._batches.observe(size)
        self._queue.set(waiting)

    def page(self) -> bytes:
        """Return everything as text."""
        return generate_latest(self._registry)


class _Gpus(Collector):
    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def collect(self) -> Iterable[Metric]:
        busy = GaugeMetricFamily("kennel_gpu_utilization_ratio", "Share of time that a GPU worked", labels=["gpu"])
        used = GaugeMetricFamily("kennel_gpu_memory_used_bytes", "Memory of a GPU that is in use", labels=["gpu"])
        for number, gpu in enumerate(self._resources.gpus()):
            busy.add_metric([str(number)], gpu.utilization / 100)
            used.add_metric([str(number)], gpu.memory)
        return [busy, used]

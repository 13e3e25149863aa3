"""What `/metrics` shows: counts since the server's start, as Prometheus reads them (contract C1.13).

All processes of a server keep their counts in one folder, so that each can show those of all, and of those that ended.
"""

import os
import struct
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from kennel.serving.resources import Resources

# prometheus_client's own variable, to be set before it is imported; without it, a process shows its own counts alone
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
MOST_MODELS = 1000  # that are counted by name; who asks for others makes the page no longer
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
_ATTEMPTS = 10  # to read the counts of a process that starts: it has made its file, and writes its head next
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)


class Served(NamedTuple):
    """What answers requests."""

    model: str  # "" where a request is for no model
    engine: str


class Metrics:
    """The counts of this process, in a registry of its own, so that an application can be made twice in one process."""

    def __init__(self, resources: Resources) -> None:
        registry = CollectorRegistry()
        self._requests = Counter(
            "kennel_requests", "Answered requests by model and HTTP status", ["model", "status"], registry=registry
        )
        self.requests_in_work = Gauge(
            "kennel_requests_in_work",
            "Requests that are not answered yet",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._bytes = Counter("kennel_request_bytes", "Bytes of request bodies", registry=registry)
        self._latency = Histogram(
            "kennel_request_seconds",
            "From a whole request to its answer, by model",
            ["model"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._phases = Histogram(
            "kennel_phase_seconds", "Time of a request by phase", ["phase"], buckets=_SECONDS, registry=registry
        )
        self._batches = Histogram(
            "kennel_batch_images", "Images that went through the model together", buckets=_IMAGES, registry=registry
        )
        self._queue = Gauge(
            "kennel_queue_images",
            "Images that the last batch left waiting",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.served: set[Served] = set()  # the models that there are now
        self._models: set[str] = set()  # that were counted
        self._lock = threading.Lock()
        self._counts = registry
        if folder := os.environ.get(FOLDER):
            self._counts = CollectorRegistry()
            MultiProcessCollector(self._counts, folder)  # type: ignore[no-untyped-call]
        self._state = CollectorRegistry()
        self._state.register(_Server(resources, self.served))

    def saw_request(self, model: str, status: int, seconds: float, phases: Mapping[str, float], size: int) -> None:
        """Count an answered request; only what was answered well has latencies worth knowing."""
        label = self._label(model)
        self._requests.labels(label, status).inc()
        self._bytes.inc(size)
        if status < 400:
            self._latency.labels(label).observe(seconds)
            for name, value in phases.items() if model else ():
                self._phases.labels(name).observe(value)

    def saw_batch(self, size: int, waiting: int) -> None:
        """Count a batch."""
        self._batches.observe(size)
        self._queue.set(waiting)

    def page(self) -> bytes:
        """Return everything as text."""
        for _ in range(_ATTEMPTS):
            with suppress(struct.error):
                return generate_latest(self._counts) + generate_latest(self._state)
        return generate_latest(self._counts) + generate_latest(self._state)

    def _label(self, model: str) -> str:
        with self._lock:
            if len(self._models) < MOST_MODELS:
                self._models.add(model)
            return model if model in self._models else "(others)"


class _Server(Collector):
    """What there is, and what it uses: of the whole server."""

    def __init__(self, resources: Resources, served: Iterable[Served]) -> None:
        self._resources = resources
        self._served = served

    def collect(self) -> Iterable[Metric]:
        models = GaugeMetricFamily("kennel_model", "A model that is served; always 1", labels=Served._fields)
        for served in sorted(self._served):
            models.add_metric(served, 1)
        busy = GaugeMetricFamily("kennel_gpu_utilization_ratio", "Share of time that a GPU worked", labels=["gpu"])
        used = GaugeMetricFamily("kennel_gpu_memory_used_bytes", "Memory of a GPU that is in use", labels=["gpu"])
        for number, gpu in enumerate(self._resources.gpus()):
            busy.add_metric([str(number)], gpu.utilization / 100)
            used.add_metric([str(number)], gpu.memory)
        seconds, memory, started = self._resources.cpu_seconds(), self._resources.memory(), self._resources.started
        return [
            models,
            busy,
            used,
            # by the names that they have everywhere
            CounterMetricFamily("process_cpu_seconds_total", "CPU time of all processes", seconds),
            GaugeMetricFamily("process_resident_memory_bytes", "Memory of all processes, shared parts once", memory),
            GaugeMetricFamily("process_start_time_seconds", "When the server was started, since 1970", started),
        ]

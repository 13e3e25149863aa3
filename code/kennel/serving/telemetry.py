"""What an endpoint tells of its requests: a line of JSON each, the Server-Timing header, and what the metrics count."""

import json
import logging
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from kennel.serving.cloudwatch import PERIOD, Minute
from kennel.serving.metrics import Metrics, Served
from kennel.serving.resources import Resources

log = logging.getLogger(__name__)
lines = logging.getLogger("kennel.serving.requests")  # lines of JSON, for programs

INFERENCE_ID = "X-Amzn-SageMaker-Inference-Id"  # at most 64 characters (contract C1.9)
PHASES = ("decode", "queue", "forward", "encode")
_LONGEST = 200  # characters of what a client has sent that a line repeats


@dataclass
class Trace:
    """One request on its way through the server."""

    id: str
    format: str  # the Content-Type that it came with
    deadline: float  # on the monotonic clock; later nobody waits for the answer
    served: Served  # what it is for
    target: str = ""  # what the caller calls the model, where there are several (contract C3.2)
    started: float = field(default_factory=time.perf_counter)
    size: int = 0  # bytes of its body
    images: int = 0
    batch_size: int = 0  # images in the largest batch that held one of its own
    label: str = ""  # the best class of its first image
    error: str = ""  # the sentence that it was refused with
    status: int = 0  # what became of an answer that is sent in pieces; 0: the status that it began with
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time inside as a phase's."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - began

    def server_timing(self) -> str:
        """Return the header that browsers and load tests read, in milliseconds."""
        return ", ".join(f"{name};dur={seconds * 1e3:.2f}" for name, seconds in self.seconds.items())


class Telemetry:
    """Hears of every request and every batch of a process, and says what is asked of it. It never fails a request."""

    def __init__(self, model: str, engine: str, log_share: float, namespace: str) -> None:
        """`log_share` of the good requests are logged; a `namespace` of CloudWatch gets figures every minute.

        Requests are for `model` unless they are told to be for another; where there are several, it is "".
        """
        self._served = Served(model, engine)
        self._log_share = log_share
        self._namespace = namespace
        self._resources = Resources()
        self._metrics = Metrics(self._resources)
        self._minutes: defaultdict[Served, Minute] = defaultdict(Minute)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._is_started = False

    def start(self) -> None:
        """Begin to say figures every minute; in a server, after the fork. A second start does nothing."""
        if self._is_started:
            return
        self._is_started = True
        self._resources.start()
        if self._namespace:
            threading.Thread(target=self._run, name="telemetry", daemon=True).start()

    def stop(self) -> None:
        """Say the figures of the minute that is not over."""
        self._stopping.set()
        if self._namespace and self._is_started:
            self._say_minute()

    def page(self) -> bytes:
        """Return all that was counted, as Prometheus reads it (contract C1.13)."""
        return self._metrics.page()

    def add(self, served: Served) -> None:
        """Name a model from now on."""
        self._metrics.served.add(served)

    def remove(self, served: Served) -> None:
        """Name a model no longer; what was counted of it stays."""
        self._metrics.served.discard(served)

    def begin(self, inference_id: str, content_type: str, patience: float) -> Trace:
        """Begin to watch a request: with the caller's Inference-Id, or with one made up."""
        self._metrics.requests_in_work.inc()
        kind = content_type.partition(";")[0].strip().lower()
        deadline = time.monotonic() + patience
        return Trace(inference_id[:64] or f"{random.getrandbits(128):032x}", kind[:_LONGEST], deadline, self._served)

    def saw_batch(self, served: Served, size: int, waiting: int) -> None:
        """Count a batch of `size` images that went through a model while `waiting` others were left in its queue."""
        self._metrics.saw_batch(size, waiting)
        if self._namespace:
            with self._lock:
                self._minutes[served].saw_batch(size, waiting)

    def finish(self, trace: Trace, status: int) -> None:
        """Count a request that is about to be answered, and log it: always when it failed, else by its share."""
        status = trace.status or status
        total = time.perf_counter() - trace.started
        try:
            self._metrics.requests_in_work.dec()
            self._metrics.saw_request(trace.served.model, status, total, trace.seconds, trace.size)
            if self._namespace:
                with self._lock:
                    self._minutes[trace.served].saw_request(status, total)
            if status >= 400 or trace.error or random.random() < self._log_share:
                lines.info(json.dumps(self._line(trace, status, total)))
        except Exception:
            log.warning("a request could not be counted or logged", exc_info=True)

    def _line(self, trace: Trace, status: int, total: float) -> dict[str, str | int | float]:
        line: dict[str, str | int | float] = {
            "event": "request",
            "id": trace.id,
            "status": status,
            "format": trace.format,
            "bytes": trace.size,
            "images": trace.images,
            "total_ms": round(total * 1e3, 2),
            **{f"{name}_ms": round(seconds * 1e3, 2) for name, seconds in trace.seconds.items()},
            "batch_size": trace.batch_size,
            **_present(trace.served),
        }
        if trace.target:
            line["target"] = trace.target[:_LONGEST]
        if trace.label:
            line["label"] = trace.label
        if trace.error:
            line["error"] = trace.error[:_LONGEST]
        return line

    def _run(self) -> None:
        while not self._stopping.wait(PERIOD):
            self._say_minute()

    def _say_minute(self) -> None:
        try:
            with self._lock:  # a model of which nothing is heard in a minute is not said in it
                minutes, self._minutes = self._minutes, defaultdict(Minute)
            own = minutes.pop(self._served, Minute())
            said = list(own.lines(self._namespace, _present(self._served), self._resources.read()))
            for served, minute in minutes.items():
                said += minute.lines(self._namespace, _present(served), {})
            for line in said:
                lines.info(json.dumps(line))
        except Exception:
            log.warning("the figures of a minute could not be said", exc_info=True)


def _present(served: Served) -> dict[str, str]:
    return {name: value for name, value in served._asdict().items() if value}

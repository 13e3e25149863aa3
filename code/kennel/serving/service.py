"""A loaded model that answers requests, one after another or many at once."""

import logging
import threading
import time
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from flask import Response, request
from flask.typing import ResponseReturnValue
from numpy.typing import NDArray
from werkzeug.exceptions import RequestEntityTooLarge

from kennel.engines.choice import AUTO, load_engine
from kennel.engines.engine import Engine
from kennel.images.preprocess import Preprocessing
from kennel.model.manifest import load_manifest
from kennel.serving.batcher import Batcher, Call
from kennel.serving.codecs import JSON, Answer, Row, decode_request, encode_answer, parse_accept
from kennel.serving.errors import Overloaded, RequestError, TooLarge
from kennel.serving.metrics import Served
from kennel.serving.telemetry import Telemetry, Trace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """How much a server takes on, and how much it tells."""

    max_payload: int = 100 * 2**20  # bytes of a request's body (contract C1.8)
    patience: float = 60  # seconds that a caller waits for an answer (contract C1.7)
    max_requests: int = 64  # requests in work or waiting; one more is answered 503 at once
    default_accept: str = JSON
    log_share: float = 1.0  # of the requests that are answered well; the others are always logged
    engine: str = AUTO  # what runs the model
    processes: int = 1  # that serve side by side
    metrics_namespace: str = ""  # of CloudWatch, for figures every minute; "" wants none


class Service:
    """A loaded model, ready to answer."""

    def __init__(
        self,
        engine: Engine,
        preprocessing: Preprocessing,
        classes: tuple[str, ...],
        settings: Settings,
        model: str,
        telemetry: Telemetry | None = None,
    ) -> None:
        """`model` is what logs and metrics call it; `telemetry` is that of several models, else one of its own."""
        self._engine = engine
        self._preprocessing = preprocessing
        self._classes = classes
        self._settings = settings
        self._served = Served(model, engine.name)
        self.telemetry = telemetry or Telemetry(*self._served, settings.log_share, settings.metrics_namespace)
        self._batcher = Batcher(engine, partial(self.telemetry.saw_batch, self._served))
        self._places = threading.BoundedSemaphore(settings.max_requests)

    def start(self) -> None:
        """Warm the engine up and begin to answer; to be called in the process that serves, after the fork."""
        self._batcher.start()
        self.telemetry.start()
        self.telemetry.add(self._served)
        log.info("ready engine=%s; device=%s; classes=%d;", self._engine.name, self._engine.device, len(self._classes))

    def stop(self) -> None:
        """Say what is not said yet; to be called in the process that serves, when all requests are answered."""
        self.telemetry.stop()

    def close(self) -> None:
        """Let go of the model, when all requests for it are answered and no more will come."""
        self._batcher.stop()
        self.telemetry.remove(self._served)

    def is_ready(self) -> bool:
        """Return whether requests will be answered."""
        return self._batcher.is_alive()

    def invoke(self, trace: Trace) -> ResponseReturnValue:
        """Answer the current request, and note in `trace` how it went.

        Raises RequestError with the status that it deserves.
        """
        trace.served = self._served
        if not self._places.acquire(blocking=False):
            raise Overloaded(f"{self._settings.max_requests} requests are in work already; try again in a moment")
        try:
            answer = parse_accept(request.headers.get("Accept", ""), self._settings.default_accept)
            body = self._read_body()
            trace.size = len(body)
            return self._answer(body, request.headers.get("Content-Type", ""), answer, trace)
        finally:
            self._places.release()

    def _read_body(self) -> bytes:
        limit = self._settings.max_payload
        try:
            body = request.get_data(cache=False)
        except RequestEntityTooLarge:
            is_more = True
        else:  # werkzeug cuts a chunked body off at its limit, and does not say so
            is_more = len(body) == limit and bool(request.environ["wsgi.input"].read(1))
        if is_more:
            raise TooLarge(f"the body is larger than {limit / 2**20:g} MB, the limit of this server")
        return body

    def _answer(self, body: bytes, content_type: str, answer: Answer, trace: Trace) -> ResponseReturnValue:
        rows: list[Row] = []
        with trace.phase("decode"):
            images = decode_request(body, content_type, self._preprocessing)
        while True:
            with trace.phase("decode"):
                part = list(
                    islice(images, self._engine.batch_size)
                )  # a request's images are in memory a batch at a time
            if not part:
                break
            trace.images += len(part)
            predicted = iter(self._predict([image for image in part if isinstance(image, np.ndarray)], trace))
            rows += [image if isinstance(image, RequestError) else next(predicted) for image in part]
        with trace.phase("encode"):
            data, mimetype = encode_answer(rows, self._classes, answer)
        if rows and isinstance(rows[0], np.ndarray):
            trace.label = self._classes[int(rows[0].argmax())]
        return Response(data, mimetype=mimetype)

    def _predict(self, images: list[NDArray[np.float32]], trace: Trace) -> list[NDArray[np.float32]]:
        call = Call(trace.deadline, request.environ.get("gunicorn.socket"))
        began = time.perf_counter()
        try:
            return self._batcher.predict(images, call)
        finally:
            trace.seconds["forward"] += call.forward
            trace.seconds["queue"] += time.perf_counter() - began - call.forward
            trace.batch_size = max(trace.batch_size, call.batch_size)


def load_service(model_dir: Path, settings: Settings, name: str = "", telemetry: Telemetry | None = None) -> Service:
    """Load a model folder. Raises ArtifactError when there is no model in it.

    Logs and metrics call it by `name`, else by its backbone's; `telemetry` is that of several models.
    """
    manifest = load_manifest(model_dir)
    for record in manifest.engines:
        log.info(record.line())
    engine = load_engine(model_dir, settings.engine, settings.processes)
    return Service(engine, manifest.preprocessing, manifest.classes, settings, name or manifest.backbone, telemetry)

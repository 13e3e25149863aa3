"""A loaded model that answers requests, one after another or many at once."""

import logging
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
from flask import Response, request
from flask.typing import ResponseReturnValue

from kennel.engines.choice import AUTO, load_engine
from kennel.engines.engine import Engine
from kennel.images.preprocess import Preprocessing
from kennel.model.manifest import load_manifest
from kennel.serving import streaming
from kennel.serving.admission import Admission, read_body
from kennel.serving.batcher import Batcher, Call
from kennel.serving.codecs import (
    JSON,
    JSON_LINES,
    Answer,
    Row,
    Tensor,
    decode_request,
    encode_answer,
    good_rows,
    parse_accept,
)
from kennel.serving.errors import Gone, RequestError
from kennel.serving.explain import Explainer, keeping, load_explainer
from kennel.serving.fetch import Fetcher
from kennel.serving.metrics import Served
from kennel.serving.telemetry import Telemetry, Trace
from kennel.serving.user_code import find_program

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
    explain: bool = False  # answer with heat maps too, where they are asked for
    metrics_namespace: str = ""  # of CloudWatch, for figures every minute; "" wants none
    program: str = ""  # the user's own functions, below `code` in the model folder; "" is inference.py if it is there
    url_hosts: tuple[str, ...] = ()  # from which images are fetched whose URL a client sends; see `Fetcher`


class Server(Protocol):
    """What an application serves: a model, or several."""

    telemetry: Telemetry

    def start(self) -> None:
        """Begin to answer, in the process that serves, after the fork. Raises KennelError."""
        ...

    def stop(self) -> None:
        """Say what is not said yet, when all requests are answered."""
        ...

    def is_ready(self) -> bool:
        """Return whether requests will be answered."""
        ...


class ModelService(Server, Protocol):
    """What answers the requests for one model."""

    @property
    def batch_size(self) -> int:
        """How many images go through the model together."""
        ...

    def close(self) -> None:
        """Let go of the model, when all requests for it are answered and no more will come."""
        ...

    def invoke(self, trace: Trace) -> ResponseReturnValue:
        """Answer the current request, and note in `trace` how it went. Raises RequestError."""
        ...


class Service:
    """A loaded model, ready to answer."""

    def __init__(
        self,
        engine: Engine,
        preprocessing: Preprocessing,
        classes: tuple[str, ...],
        settings: Settings,
        model: str,
        explainer: Explainer | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """`model` is what logs and metrics call it; `telemetry` is that of several models, else one of its own.

        Without `explainer`, who asks for heat maps is refused.
        """
        self._engine = engine
        self._preprocessing = preprocessing
        self._classes = classes
        self._settings = settings
        self._explainer = explainer or Explainer(None, preprocessing)
        self._served = Served(model, engine.name)
        self.telemetry = telemetry or Telemetry(*self._served, settings.log_share, settings.metrics_namespace)
        self._batcher = Batcher(engine, partial(self.telemetry.saw_batch, self._served))
        self._admission = Admission(settings.max_requests)
        self._fetcher = Fetcher(settings.url_hosts)

    @property
    def batch_size(self) -> int:
        """See `ModelService.batch_size`."""
        return self._engine.batch_size

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

        A long batch of JSON Lines is answered line by line, and has its place until the last one is sent. Raises
        RequestError with the status that it deserves.
        """
        trace.served = self._served
        with ExitStack() as stack:
            stack.callback(self._admission.enter())
            answer = parse_accept(request.headers.get("Accept", ""), self._settings.default_accept)
            if answer.explain:
                stack.enter_context(self._explainer.place())
            body = read_body(self._settings.max_payload)
            trace.size = len(body)
            response = self._answer(body, request.headers.get("Content-Type", ""), answer, trace)
            if response.is_streamed:
                response.call_on_close(stack.pop_all().close)
        return response

    def _answer(self, body: bytes, content_type: str, answer: Answer, trace: Trace) -> Response:
        with trace.phase("decode"):
            images = decode_request(
                body, content_type, self._preprocessing, lambda url: self._fetcher.fetch(url, trace.deadline)
            )
        seen: list[Tensor] = []  # what to explain
        if answer.explain:
            images = keeping(images, seen)
        client = request.environ.get("gunicorn.socket")
        rows = self._next_rows(images, client, trace)
        if rows and isinstance(rows[0], np.ndarray):
            trace.label = self._classes[int(rows[0].argmax())]
        if answer.mimetype == JSON_LINES and streaming.is_long(body, content_type):
            return self._stream(rows, images, answer, client, trace)
        while more := self._next_rows(images, client, trace):
            rows += more
        with trace.phase("encode"):
            explanations = self._explain(seen, rows, trace) if answer.explain else ()
            data, mimetype = encode_answer(rows, self._classes, answer, explanations)
        return Response(data, mimetype=mimetype)

    def _explain(self, images: Sequence[Tensor], rows: Sequence[Row], trace: Trace) -> list[str]:
        return self._explainer.explain(images, [int(row.argmax()) for row in good_rows(rows)], trace.deadline)

    def _stream(
        self,
        rows: list[Row],
        images: Iterator[Tensor | RequestError],
        answer: Answer,
        client: socket.socket | None,
        trace: Trace,
    ) -> Response:
        trace.deadline = max(trace.deadline, time.monotonic() + streaming.SECONDS)
        trace.status = Gone.status  # as long as its end was not sent

        def lines(rows: list[Row]) -> Iterator[bytes]:
            while rows:
                with trace.phase("encode"):
                    data, _ = encode_answer(rows, self._classes, answer)
                yield data
                try:
                    rows = self._next_rows(images, client, trace, is_streamed=True)
                except Gone as error:
                    trace.error = str(error)
                    return
            trace.status = 0

        return Response(lines(rows), mimetype=JSON_LINES)

    def _next_rows(
        self,
        images: Iterator[Tensor | RequestError],
        client: socket.socket | None,
        trace: Trace,
        is_streamed: bool = False,
    ) -> list[Row]:
        """Answer as many images as go through the model together; a request's are in memory a batch at a time.

        With `is_streamed` there is no status left to fail with: what fails is said on the lines that it concerns.
        """
        with trace.phase("decode"):
            part = list(islice(images, self._engine.batch_size))
        trace.images += len(part)
        good = [image for image in part if isinstance(image, np.ndarray)]
        try:
            predicted: Iterator[Row] = iter(self._predict(good, client, trace))
        except Gone:
            raise
        except Exception as error:
            if not is_streamed:
                raise
            if not isinstance(error, RequestError):
                log.error("lines of a stream failed by a fault of the server", exc_info=error)
                error = RequestError("the server failed at this line; its log says why")
            trace.error = str(error)
            predicted = iter([error] * len(good))
        return [image if isinstance(image, RequestError) else next(predicted) for image in part]

    def _predict(self, images: list[Tensor], client: socket.socket | None, trace: Trace) -> list[Tensor]:
        call = Call(trace.deadline, client)
        began = time.perf_counter()
        try:
            return self._batcher.predict(images, call)
        finally:
            trace.seconds["forward"] += call.forward
            trace.seconds["queue"] += time.perf_counter() - began - call.forward
            trace.batch_size = max(trace.batch_size, call.batch_size)


def load_service(folder: Path, settings: Settings, name: str = "", telemetry: Telemetry | None = None) -> ModelService:
    """Load a model folder, with the user's own functions where it holds some (contract C2.4).

    Logs and metrics call it by `name`, else by its backbone's; `telemetry` is that of several models. Raises
    ArtifactError when there is no model in it, and HandlerError for what is wrong with the user's code.
    """
    if program := find_program(folder, settings.program):
        from kennel.serving.handlers import HandlerService  # noqa: PLC0415 - slow, and not needed by other models

        return HandlerService(folder, program, settings, name, telemetry)
    manifest = load_manifest(folder)
    for record in manifest.engines:
        log.info(record.line())
    engine = load_engine(folder, settings.engine, settings.processes)
    return Service(
        engine,
        manifest.preprocessing,
        manifest.classes,
        settings,
        name or manifest.backbone,
        load_explainer(folder, settings.explain),
        telemetry,
    )

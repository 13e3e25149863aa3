"""The Flask application: `/ping` and `/invocations` (contract C1)."""

import json
import logging
import threading
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from flask import Flask, Response, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from kennel.engines import Engine, TorchEngine
from kennel.engines.torch_engine import BATCH
from kennel.images.preprocess import Preprocessing
from kennel.model.artifact import load_artifact
from kennel.serving.batcher import Batcher
from kennel.serving.codecs import JSON, Answer, Row, decode_request, encode_answer, parse_accept
from kennel.serving.errors import Overloaded, RequestError, TooLarge

log = logging.getLogger(__name__)

CUSTOM_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"  # comes back to the caller only if we echo it (contract C1.10)
EXTENSION = "kennel"  # under which the application keeps its Service


@dataclass(frozen=True)
class Settings:
    """How much a server takes on."""

    max_payload: int = 100 * 2**20  # bytes of a request's body (contract C1.8)
    max_requests: int = 64  # requests in work or waiting; one more is answered 503 at once
    default_accept: str = JSON


class Service:
    """A loaded model, ready to answer."""

    def __init__(
        self, engine: Engine, preprocessing: Preprocessing, classes: tuple[str, ...], settings: Settings
    ) -> None:
        self._engine = engine
        self._preprocessing = preprocessing
        self._classes = classes
        self._settings = settings
        self._batcher = Batcher(engine, batch_size=BATCH)
        self._places = threading.BoundedSemaphore(settings.max_requests)

    def start(self) -> None:
        """Warm the engine up and begin to answer; to be called in the process that serves, after the fork."""
        self._engine.warm_up()
        self._batcher.start()
        log.info("ready engine=%s; device=%s; classes=%d;", self._engine.name, self._engine.device, len(self._classes))

    def is_ready(self) -> bool:
        """Return whether requests will be answered."""
        return self._batcher.is_alive()

    def invoke(self) -> ResponseReturnValue:
        """Answer the current request. Raises RequestError with the status that it deserves."""
        if not self._places.acquire(blocking=False):
            raise Overloaded(f"{self._settings.max_requests} requests are in work already; try again in a moment")
        try:
            answer = parse_accept(request.headers.get("Accept", ""), self._settings.default_accept)
            try:
                body = request.get_data(cache=False)
            except RequestEntityTooLarge:
                limit = self._settings.max_payload / 2**20
                raise TooLarge(f"the body is larger than {limit:g} MB, the limit of this server") from None
            return self._answer(body, request.headers.get("Content-Type", ""), answer)
        finally:
            self._places.release()

    def _answer(self, body: bytes, content_type: str, answer: Answer) -> ResponseReturnValue:
        rows: list[Row] = []
        images = decode_request(body, content_type, self._preprocessing)
        while part := list(islice(images, BATCH)):  # a request's images are in memory a batch at a time
            predicted = iter(self._batcher.predict([image for image in part if isinstance(image, np.ndarray)]))
            rows += [image if isinstance(image, RequestError) else next(predicted) for image in part]
        data, mimetype = encode_answer(rows, self._classes, answer)
        return Response(data, mimetype=mimetype)


def load_service(model_dir: Path, settings: Settings) -> Service:
    """Load a model folder. Raises ArtifactError when there is no model in it."""
    classifier, manifest = load_artifact(model_dir)
    engine = TorchEngine(classifier, manifest.preprocessing, manifest.views)
    return Service(engine, manifest.preprocessing, manifest.classes, settings)


def create_app(service: Service, settings: Settings) -> Flask:
    """Return the application for a service, which is started by whoever runs the application."""
    app = Flask("kennel")
    app.config["MAX_CONTENT_LENGTH"] = settings.max_payload
    app.extensions[EXTENSION] = service

    @app.get("/ping")
    def ping() -> ResponseReturnValue:
        return Response(status=200 if service.is_ready() else 503, mimetype=JSON)

    @app.post("/invocations")
    def invocations() -> ResponseReturnValue:
        return service.invoke()

    @app.after_request
    def echo_custom_attributes(response: Response) -> Response:
        if attributes := request.headers.get(CUSTOM_ATTRIBUTES):
            response.headers[CUSTOM_ATTRIBUTES] = attributes
        return response

    @app.errorhandler(RequestError)
    def refuse(error: RequestError) -> ResponseReturnValue:
        response = _error(error.status, str(error))
        if isinstance(error, Overloaded):
            response.headers["Retry-After"] = "1"  # seconds
        return response

    @app.errorhandler(HTTPException)
    def refuse_http(error: HTTPException) -> ResponseReturnValue:
        what = f"{request.method} {request.path}"
        return _error(error.code or 500, f"{what}: {error.name.lower()}; there are GET /ping and POST /invocations")

    @app.errorhandler(Exception)
    def fail(error: Exception) -> ResponseReturnValue:
        log.error("a request failed by a fault of the server", exc_info=error)
        return _error(500, "the server failed at this request; its log says why")

    return app


def _error(status: int, message: str) -> Response:
    return Response(json.dumps({"error": message}, ensure_ascii=False), status=status, mimetype=JSON)

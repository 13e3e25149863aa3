"""The Flask application: `/ping`, `/invocations` and `/metrics` (contract C1)."""

import json
import logging

from flask import Flask, Response, g, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from kennel.serving.batch_transform import transform_parameters
from kennel.serving.codecs import JSON
from kennel.serving.errors import Overloaded, RequestError
from kennel.serving.metrics import CONTENT_TYPE
from kennel.serving.service import ModelService, Server, Settings
from kennel.serving.telemetry import INFERENCE_ID

log = logging.getLogger(__name__)

CUSTOM_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"  # comes back to the caller only if we echo it (contract C1.10)
EXTENSION = "kennel"  # under which the application keeps what it serves
_LONGEST = 300  # characters of a refusal: as JSON they are at most 2048 bytes (contract C1.11)
_UNWATCHED = ("/ping", "/metrics")  # asked every few seconds by the platform; they would drown the rest (contract E8)


def create_app(service: ModelService, settings: Settings) -> Flask:
    """Return the application for a service, which is started by whoever runs the application."""
    app = new_app(service, settings, "POST /invocations, GET /execution-parameters")

    @app.post("/invocations")
    def invocations() -> ResponseReturnValue:
        return service.invoke(g.trace)

    @app.get("/execution-parameters")
    def execution_parameters() -> ResponseReturnValue:
        return transform_parameters(service.batch_size, settings.max_requests)

    return app


def new_app(server: Server, settings: Settings, paths: str) -> Flask:
    """Return an application with all but the paths that ask a model, which `paths` names to who asks for others."""
    app = Flask("kennel")
    app.config["MAX_CONTENT_LENGTH"] = settings.max_payload
    app.extensions[EXTENSION] = server
    telemetry = server.telemetry

    @app.get("/ping")
    def ping() -> ResponseReturnValue:
        return Response(status=200 if server.is_ready() else 503, mimetype=JSON)

    @app.get("/metrics")
    def metrics() -> ResponseReturnValue:
        return Response(telemetry.page(), content_type=CONTENT_TYPE)

    @app.before_request
    def begin() -> None:
        if request.path not in _UNWATCHED:
            g.trace = telemetry.begin(
                request.headers.get(INFERENCE_ID, ""), request.headers.get("Content-Type", ""), settings.patience
            )

    @app.after_request
    def finish(response: Response) -> Response:
        trace, status = g.get("trace"), response.status_code
        if trace and response.is_streamed:  # where its time went is not known before its end
            response.call_on_close(lambda: telemetry.finish(trace, status))
        elif trace:
            response.headers["Server-Timing"] = trace.server_timing()
            telemetry.finish(trace, status)
        return response

    @app.after_request
    def echo_custom_attributes(response: Response) -> Response:
        if attributes := request.headers.get(CUSTOM_ATTRIBUTES):
            response.headers[CUSTOM_ATTRIBUTES] = attributes
        return response

    @app.errorhandler(RequestError)
    def refuse(error: RequestError) -> ResponseReturnValue:
        response = _refusal(error.status, str(error))
        if isinstance(error, Overloaded):
            response.headers["Retry-After"] = "1"  # seconds
        return response

    @app.errorhandler(HTTPException)
    def refuse_http(error: HTTPException) -> ResponseReturnValue:
        what = f"{request.method} {request.path}"
        return _refusal(
            error.code or 500, f"{what}: {error.name.lower()}; there are GET /ping, {paths} and GET /metrics"
        )

    @app.errorhandler(Exception)
    def fail(error: Exception) -> ResponseReturnValue:
        log.error("a request failed by a fault of the server", exc_info=error)
        return _refusal(500, "the server failed at this request; its log says why")

    return app


def _refusal(status: int, message: str) -> Response:
    if trace := g.get("trace"):
        trace.error = message
    if len(message) > _LONGEST:
        message = f"{message[:_LONGEST]} …"
    return Response(json.dumps({"error": message}, ensure_ascii=False), status=status, mimetype=JSON)

"""Several models behind one server, loaded and unloaded as the platform asks (contract C3.1, C3.2)."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from flask import Flask, Response, g, make_response, request
from flask.typing import ResponseReturnValue
from werkzeug.routing import BaseConverter

from kennel.engines.choice import import_runtimes
from kennel.serving.admission import Admission
from kennel.serving.app import new_app
from kennel.serving.codecs import JSON
from kennel.serving.errors import BadRequest, NotLoaded
from kennel.serving.memory import needed_memory
from kennel.serving.models import Models
from kennel.serving.replicas import Replicas
from kennel.serving.service import ModelService, Settings, load_service
from kennel.serving.telemetry import Telemetry

TARGET_MODEL = "X-Amzn-SageMaker-Target-Model"  # what the caller calls the model (contract C3.2)
PAGE = 100  # models in an answer
_PATHS = "POST /models, GET /models, GET and DELETE /models/NAME, POST /models/NAME/invoke"


class _Name(BaseConverter):
    """Any text: a model's name is the platform's own affair."""

    regex = ".+"
    part_isolating = False  # it may hold slashes


class MultiModelServer:
    """All that a process of a multi-model server has."""

    def __init__(self, settings: Settings, folder: Path, place: Callable[[str], Path], budget: int) -> None:
        """Meet the other processes in `folder`; `place` says where a URL is; all models may take `budget` bytes."""
        self.telemetry = Telemetry("", "", settings.log_share, settings.metrics_namespace)
        self.models = Models(self._load)
        self.replicas = Replicas(
            self.models,
            folder,
            settings.processes,
            lambda url: needed_memory(place(url), settings.engine),
            budget,
        )
        self._settings = settings
        self._place = place
        self._admission = Admission(settings.max_requests)

    def _load(self, url: str, name: str) -> ModelService:
        return load_service(self._place(url), self._settings, name, self.telemetry)

    def start(self) -> None:
        """Load what other processes have, if there are any; to be called in the process that serves, after the fork."""
        self.telemetry.start()
        self.replicas.start()

    def stop(self) -> None:
        """Say what is not said yet; to be called when all requests are answered."""
        self.replicas.stop()
        self.telemetry.stop()

    def is_ready(self) -> bool:
        """Return True: a server without a model is as healthy as one with some."""
        return True

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Take one of the places of all models together, beside which there are threads for pings (contract C1.4)."""
        leave = self._admission.enter()
        try:
            yield
        finally:
            leave()


def create_multi_model_app(server: MultiModelServer, settings: Settings) -> Flask:
    """Return the application, which loads nothing before it is asked to."""
    import_runtimes(settings.engine)  # once for all processes, and not while the platform waits for a model
    app = new_app(server, settings, _PATHS)
    app.url_map.merge_slashes = False
    app.url_map.converters["name"] = _Name

    @app.post("/models")
    def load() -> ResponseReturnValue:
        name, url = _read_load_request(request.get_data())
        with server.admitted():
            server.replicas.load(name, url)
        return _json(_model(name, url))

    @app.get("/models")
    def list_models() -> ResponseReturnValue:
        after, limit = request.args.get("next_page_token", ""), _read_limit(request.args.get("limit", ""))
        loaded = server.replicas.loaded()
        names = sorted(name for name in loaded if name > after)
        page: dict[str, Any] = {"models": [_model(name, loaded[name].url) for name in names[:limit]]}
        if len(names) > limit:
            page["nextPageToken"] = names[limit - 1]
        return _json(page)

    @app.get("/models/<name:name>")
    def get_model(name: str) -> ResponseReturnValue:
        loaded = server.replicas.loaded()
        if name not in loaded:
            raise NotLoaded(name)
        return _json(_model(name, loaded[name].url))

    @app.delete("/models/<name:name>")
    def unload(name: str) -> ResponseReturnValue:
        with server.admitted():
            server.replicas.unload(name)
        return _json({"status": f"the model {name} is unloaded"})

    @app.post("/models/<name:name>/invoke")
    def invoke(name: str) -> ResponseReturnValue:
        g.trace.target = request.headers.get(TARGET_MODEL, "")
        with ExitStack() as stack:
            stack.enter_context(server.admitted())
            service = stack.enter_context(server.models.use(name))
            response = make_response(service.invoke(g.trace))
            response.call_on_close(stack.pop_all().close)  # an answer may be computed while it is sent
        return response

    return app


def _read_load_request(body: bytes) -> tuple[str, str]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    name, url = (value.get(key) if isinstance(value, dict) else None for key in ("model_name", "url"))
    if not isinstance(name, str) or not isinstance(url, str) or not name or not url:
        raise BadRequest('the body should be {"model_name": "…", "url": "the folder that the model lies in"}')
    return name, url


def _read_limit(text: str) -> int:
    if not text:
        return PAGE
    if not text.isdecimal() or not 1 <= int(text[:9]) <= PAGE:
        raise BadRequest(f"limit={text[:20]} should be a whole number from 1 to {PAGE}")
    return int(text)


def _model(name: str, url: str) -> dict[str, str]:
    return {"modelName": name, "modelUrl": url}


def _json(value: Any) -> Response:
    return Response(json.dumps(value, ensure_ascii=False), mimetype=JSON)

"""A model with the user's own functions in `code/inference.py` (contract C2.4 to C2.7).

The functions are called one at a time in a process, outside the batcher: they were written for a server that does so.
Nothing of them is imported before the process that serves has forked: they may start threads, or CUDA.
"""

import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from flask import Response, request
from flask.typing import ResponseReturnValue
from sagemaker_inference import content_types, decoder

from kennel.container.environment import WEIGHTS_DIR, variable
from kennel.machine import share_of_cores
from kennel.model.manifest import MANIFEST, load_manifest
from kennel.model.weights_files import offer_weights, weights_in
from kennel.serving import defaults
from kennel.serving.admission import Admission, read_body
from kennel.serving.batcher import hung_up
from kennel.serving.codecs import CSV, JSON, JSON_LINES, MediaType, load_npy
from kennel.serving.defaults import Defaults, KennelDefaults, PlainDefaults
from kennel.serving.errors import BadRequest, Gone, Late, RequestError
from kennel.serving.fetch import Fetcher
from kennel.serving.metrics import Served
from kennel.serving.requirements import install_requirements, packages_of
from kennel.serving.scratch import make_scratch, remove_scratch
from kennel.serving.service import Settings
from kennel.serving.telemetry import Telemetry, Trace
from kennel.serving.user_code import TURN, HandlerError, UserCode
from kennel.serving.user_functions import Context, Failed, UserFunctions, refusing

log = logging.getLogger(__name__)

ENGINE = "handlers"  # as logs and metrics call it
_TEXTS = (JSON, CSV)  # bodies that `input_fn` gets as str (contract C2.6)


class HandlerService:
    """A model that the user's functions load, or ask, or whose requests and answers they read and write.

    What they leave out, Kennel does; see `kennel.serving.defaults`.
    """

    batch_size = 1  # requests go to the functions one by one

    def __init__(
        self, folder: Path, program: Path, settings: Settings, name: str = "", telemetry: Telemetry | None = None
    ) -> None:
        """Install what the code requires; `name` and `telemetry` are as those of `load_service`.

        Raises HandlerError when that fails, ArtifactError for a bad manifest.
        """
        self._folder = folder
        self._program = program
        self._settings = settings
        self._defaults: Defaults = PlainDefaults(folder)
        model = program.stem
        if (folder / MANIFEST).exists():
            manifest = load_manifest(folder)
            self._defaults = KennelDefaults(folder, manifest, settings.engine, settings.processes)
            model = manifest.backbone
        self._environment = install_requirements(folder)
        self._code = UserCode(folder, program, packages_of(self._environment) if self._environment else None)
        self._functions: UserFunctions | None = None
        self._model: Any = None
        self._admission = Admission(settings.max_requests)
        self._fetcher = Fetcher(settings.url_hosts)
        self._served = Served(name or model, ENGINE)
        self.telemetry = telemetry or Telemetry(*self._served, settings.log_share, settings.metrics_namespace)

    def start(self) -> None:
        """Import the user's file and load the model; in the process that serves, after the fork.

        Raises HandlerError from what the user's code raises, and for what is wrong with it, and ArtifactError.
        """
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(line_buffering=True)  # what the functions print goes to the log at once
        torch.set_num_threads(share_of_cores(self._settings.processes))
        offer_weights(weights_in(Path(variable(WEIGHTS_DIR, "/opt/weights"))), partial(make_scratch, "torch"))
        # scripts call the toolkit's decoder, which would unpickle whatever it gets (contract C2.8)
        decoder._decoder_map[content_types.NPY] = load_npy
        began = time.monotonic()
        with TURN:
            self._code.enter()
            functions = self._import()
            if not functions:
                log.warning("%s defines none of the functions that a server calls; the model answers", self._program)
            self._model = self._load_model(functions)
        self._functions = functions
        self.telemetry.start()
        self.telemetry.add(self._served)
        log.info("ready engine=%s; program=%s; seconds=%.1f;", ENGINE, self._program, time.monotonic() - began)

    def _import(self) -> UserFunctions:
        try:
            module = self._code.load()
        except (Exception, SystemExit) as error:
            raise HandlerError(f"{self._program} cannot be imported: {type(error).__name__}") from error
        return UserFunctions(module, str(self._program))

    def _load_model(self, functions: UserFunctions) -> Any:
        folder, context = str(self._folder), Context(str(self._folder))
        if "pre_model_fn" in functions:
            functions.load("pre_model_fn", folder, context=context)
        if "model_fn" in functions:
            model = functions.load("model_fn", folder, context=context)
            predicts = "predict_fn" in functions or "transform_fn" in functions
            if not predicts and not callable(model):
                raise HandlerError(
                    f"model_fn in {self._program} returns a {type(model).__name__}, which cannot be called with a "
                    "tensor; define predict_fn or transform_fn too"
                )
            if not predicts and isinstance(model, torch.nn.Module):
                model.eval()
        else:
            asking = ("predict_fn", "transform_fn", "model_warmup_fn")
            model = self._defaults.model(is_asked=any(name in functions for name in asking))
        if "model_warmup_fn" in functions:
            functions.load("model_warmup_fn", folder, model, context=context)
        return model

    def stop(self) -> None:
        """Say what is not said yet; when all requests are answered."""
        self.telemetry.stop()

    def close(self) -> None:
        """Let go of the model, when all requests for it are answered and no more will come."""
        self.telemetry.remove(self._served)
        self._functions = self._model = None
        if TURN.acquire(timeout=1):  # a call that does not end does not keep the server from it
            try:
                self._code.leave()
                if self._environment:
                    remove_scratch(self._environment)
            finally:
                TURN.release()

    def is_ready(self) -> bool:
        """Return whether requests will be answered."""
        return self._functions is not None

    def invoke(self, trace: Trace) -> ResponseReturnValue:
        """See `ModelService.invoke`."""
        trace.served = self._served
        leave = self._admission.enter()
        try:
            body = read_body(self._settings.max_payload)
            trace.size = len(body)
            return self._answer(body, request.headers.get("Content-Type", ""), trace)
        finally:
            leave()

    def _answer(self, body: bytes, content_type: str, trace: Trace) -> Response:
        functions = self._functions
        if functions is None:
            raise Failed("the model is not loaded")
        given = request.headers.get("Accept", "").strip()
        accept = self._settings.default_accept if given in ("", "*/*") else given  # contract C2.6
        context = Context(str(self._folder), trace.id, dict(request.headers))
        answer = self._run(functions, body, content_type, accept, context, trace)
        kind = context.content_type or MediaType.parse(accept.partition(",")[0]).name
        if isinstance(answer, tuple) and len(answer) == 2:
            answer, kind = answer[0], answer[1] or kind
        response = Response(_to_bytes(answer), status=context.status, content_type=kind)
        response.headers.update(context.headers)
        return response

    def _run(
        self, functions: UserFunctions, body: bytes, content_type: str, accept: str, context: Context, trace: Trace
    ) -> Any:
        """Return what the last function returns: the answer's body, or that and its Content-Type."""
        with ExitStack() as turn:
            if "transform_fn" in functions:
                self._take_turn(turn, trace)
                with trace.phase("forward"):
                    return functions.answer(
                        "transform_fn", self._model, _text(body, content_type), content_type, accept, context=context
                    )
            bad: Mapping[int, RequestError] = {}
            if "input_fn" in functions:
                self._take_turn(turn, trace)
                with trace.phase("decode"):
                    data = functions.answer("input_fn", _text(body, content_type), content_type, context=context)
            else:
                has_lines = MediaType.parse(content_type).name == JSON_LINES
                if has_lines:  # all its images are in memory together: those of one request at a time
                    self._take_turn(turn, trace)
                with trace.phase("decode"):
                    decoded = self._defaults.input(
                        body, content_type, lambda url: self._fetcher.fetch(url, trace.deadline)
                    )
                data, bad = decoded.data, decoded.bad
                trace.images = len(data) + len(bad)
                if not has_lines:
                    self._take_turn(turn, trace)
            prediction = self._predict(functions, data, context, trace) if not bad or len(data) else torch.zeros(0, 0)
            if bad and ("output_fn" in functions or not defaults.is_a_row_each(prediction, len(data))):
                place, error = min(bad.items())  # they have no place in what the model says
                raise type(error)(f"line {place + 1}: {error}")
            if "output_fn" in functions:
                with trace.phase("encode"):
                    return functions.answer("output_fn", prediction, accept, context=context)
        with trace.phase("encode"):
            return self._encode(prediction, bad, accept)

    def _predict(self, functions: UserFunctions, data: Any, context: Context, trace: Trace) -> Any:
        with trace.phase("forward"):
            if "predict_fn" in functions:
                return functions.answer("predict_fn", data, self._model, context=context)
            with refusing("the model"):
                return defaults.predict(data, self._model)

    def _encode(self, prediction: Any, bad: Mapping[int, RequestError], accept: str) -> tuple[bytes, str]:
        with refusing("the encoding of the prediction"):  # which may be anything
            return defaults.output(prediction, bad, accept, self._settings.default_accept, self._defaults.classes)

    def _take_turn(self, turn: ExitStack, trace: Trace) -> None:
        turn.enter_context(_turn(trace))
        self._code.enter()


@contextmanager
def _turn(trace: Trace) -> Iterator[None]:
    """Be the only one in the process that calls user functions. Raises Late or Gone when nobody waits any more."""
    with trace.phase("queue"):
        is_mine = TURN.acquire(timeout=max(0.0, trace.deadline - time.monotonic()))
    if not is_mine:
        raise Late("the answer is not ready in the time that a caller waits for it")
    try:
        if hung_up([request.environ.get("gunicorn.socket")]):
            raise Gone("the client closed its connection before its turn came")
        yield
    finally:
        TURN.release()


def _text(body: bytes, content_type: str) -> bytes | str:
    if MediaType.parse(content_type).name not in _TEXTS:
        return body
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8 text: {error}") from error


def _to_bytes(answer: Any) -> bytes:
    """Return a body as bytes; what is neither these nor text becomes JSON, as in the toolkit's server."""
    if isinstance(answer, str):
        return answer.encode()
    if isinstance(answer, bytes | bytearray | memoryview):
        return bytes(answer)
    with refusing("the encoding of the answer"):
        return json.dumps(answer).encode()

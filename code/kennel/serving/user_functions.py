"""The functions of a user's `inference.py`, called as SageMaker's toolkit calls them (contract C2.5 to C2.7)."""

import inspect
import logging
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.error import URLError

from sagemaker_inference.errors import UnsupportedFormatError

from kennel.machine import has_gpu
from kennel.serving.errors import RequestError, UnsupportedType
from kennel.serving.user_code import HandlerError

log = logging.getLogger(__name__)

# how many arguments each takes; one more is the context
ARGUMENTS = {
    "pre_model_fn": 1,  # folder
    "model_fn": 1,  # folder
    "model_warmup_fn": 2,  # folder, model
    "input_fn": 2,  # body, Content-Type
    "predict_fn": 2,  # data, model
    "output_fn": 2,  # prediction, Accept
    "transform_fn": 4,  # model, body, Content-Type, Accept
}
_NO_NETWORK = (
    "; where torchvision's pretrained weights are to be loaded without a network, put them into the image, or build "
    "the network with weights=None: a state dict holds all of them"
)
_PARTS = ("input_fn", "predict_fn", "output_fn")


class Refused(RequestError):
    """A user function has refused a request, with a status of its own (contract C2.7)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Failed(RequestError):
    """A user function has failed; the log says why, and the client is not told of its insides."""

    status = 500


class Context:
    """What a user function may ask of a request, and set for its answer, as multi-model-server's context has it."""

    def __init__(self, model_dir: str, request_id: str = "", headers: Mapping[str, str] | None = None) -> None:
        self.system_properties = {"model_dir": model_dir, "gpu_id": 0 if has_gpu() else None, "batch_size": 1}
        self.manifest: dict[str, Any] = {}
        self.request_processor = [self]
        self.status = 200
        self.headers: dict[str, str] = {}  # of the answer
        self.content_type = ""  # of the answer
        self._id = request_id
        self._given = dict(headers or {})

    def get_request_id(self, idx: int = 0) -> str:
        """Return the caller's Inference-Id, or the one made up."""
        return self._id

    def get_request_header(self, idx: int, key: str) -> str | None:
        """Return a header of the request, in whatever case it was written."""
        return {name.lower(): value for name, value in self._given.items()}.get(key.lower())

    def get_all_request_header(self, idx: int = 0) -> dict[str, str]:
        """Return all headers of the request."""
        return dict(self._given)

    get_request_properties = get_all_request_header

    def get_request_property(self, key: str) -> str | None:
        """Return a header of the request."""
        return self.get_request_header(0, key)

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """Answer with a status; HTTP's own phrase goes with it."""
        self.status = code

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        """Answer with a header."""
        self.headers[key] = value

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Answer with a Content-Type; one that `output_fn` returns comes first."""
        self.content_type = value


class UserFunctions:
    """Those that a user's file defines."""

    def __init__(self, module: Any, file: str) -> None:
        """Raise HandlerError for functions that take other arguments, or that exclude each other."""
        self._file = file
        self._functions: dict[str, Callable[..., Any]] = {}
        for name, count in ARGUMENTS.items():
            if function := getattr(module, name, None):
                given = len(inspect.signature(function).parameters)
                if given not in (count, count + 1):
                    raise HandlerError(
                        f"{name} in {file} takes {given} arguments; it should take {count}, or {count + 1} with context"
                    )
                self._functions[name] = function
        if "transform_fn" in self and (parts := [name for name in _PARTS if name in self]):
            raise HandlerError(f"{file} defines transform_fn and {', '.join(parts)}; transform_fn stands for all three")

    def __contains__(self, name: str) -> bool:
        return name in self._functions

    def __bool__(self) -> bool:
        return bool(self._functions)

    def load(self, name: str, *arguments: Any, context: Context) -> Any:
        """Call a function that loads a model. Raises HandlerError from whatever it raises."""
        try:
            return self._call(name, arguments, context)
        except (Exception, SystemExit) as error:
            hint = _NO_NETWORK if isinstance(error, URLError) else ""
            raise HandlerError(f"{name} in {self._file} has failed: {type(error).__name__}{hint}") from error

    def answer(self, name: str, *arguments: Any, context: Context) -> Any:
        """Call a function that answers a request. Raises RequestError."""
        with refusing(f"{name} in {self._file}"):
            return self._call(name, arguments, context)

    def _call(self, name: str, arguments: tuple[Any, ...], context: Context) -> Any:
        function = self._functions[name]
        takes_context = len(inspect.signature(function).parameters) > len(arguments)
        return function(*arguments, context) if takes_context else function(*arguments)


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn what the block raises into a RequestError; the traceback of a failure goes to the log.

    An error refuses with a status of its own when it has one, as those of the toolkit's BaseInferenceToolkitError do.
    """
    try:
        yield
    except RequestError:
        raise
    except (Exception, SystemExit) as error:
        raise _as_refusal(error, what) from error


def _as_refusal(error: BaseException, what: str) -> RequestError:
    status = getattr(error, "status_code", None)
    if isinstance(status, int) and 400 <= status <= 599:
        log.info("%s refuses a request: %d %s", what, status, error)
        return Refused(status, str(getattr(error, "message", "") or getattr(error, "phrase", "") or error))
    if isinstance(error, UnsupportedFormatError):  # of the toolkit's own decoder and encoder
        return UnsupportedType(" ".join(str(error).split(".")[0].split()))
    log.error("%s has failed\n%s", what, "".join(traceback.format_exception(error)).rstrip())
    return Failed(f"{what.partition(' in ')[0]} has failed with {type(error).__name__}; the server's log says why")

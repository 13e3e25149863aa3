"""From the bytes of a request to normalized images, and from probabilities to the bytes of an answer."""

import base64
import binascii
import io
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kennel.errors import ImageError
from kennel.images.preprocess import Preprocessing
from kennel.serving.errors import BadRequest, NotAcceptable, RequestError, Unprocessable, UnsupportedType

JSON = "application/json"
JSON_LINES = "application/jsonlines"
CSV = "text/csv"
NPY = "application/x-npy"
IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/bmp", "application/x-image")
REQUEST_TYPES = (*IMAGE_TYPES, NPY, JSON, JSON_LINES)
ANSWER_TYPES = (JSON, JSON_LINES, CSV, NPY)
DEFAULT_TOP_K = 5
_QUOTED = 100  # characters of what a client has sent that a refusal repeats
_URL = "url"  # where an image is, in a JSON object

# numpy reads a header as Python source, and Python 3.11's parser fails at times in several threads: "AST constructor
# recursion depth mismatch" (python/cpython#106905)
_ONE_PARSER = threading.Lock()

Tensor = NDArray[np.float32]  # (3, S, S), normalized
Fetch = Callable[[str], bytes]  # gets what a URL names; raises RequestError


def _fetch_nothing(url: str) -> bytes:
    raise Unprocessable("this server fetches no URLs; send the image's bytes")


@dataclass(frozen=True)
class Answer:
    """What the client accepts."""

    mimetype: str
    verbose: bool = False
    top_k: int = DEFAULT_TOP_K
    explain: bool = False  # with a heat map of each image's best class


@dataclass(frozen=True)
class MediaType:
    """A media type with its parameters."""

    name: str
    parameters: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "MediaType":
        """Read `application/json;verbose;top_k=3`."""
        name, *rest = (part.strip() for part in text.split(";"))
        pairs = (part.partition("=") for part in rest if part)
        return cls(name.lower(), {key.strip().lower(): value.strip() for key, _, value in pairs})


def decode_request(
    body: bytes, content_type: str, preprocessing: Preprocessing, fetch: Fetch = _fetch_nothing
) -> Iterator[Tensor | RequestError]:
    """Yield the images of a request, preprocessed, in its order; a bad line of JSON Lines is an error in its place.

    Raises RequestError when the request as a whole cannot be answered.
    """
    kind = MediaType.parse(content_type)
    if kind.name not in REQUEST_TYPES:
        given = f"Content-Type {kind.name[:_QUOTED]}" if kind.name else "a request without a Content-Type"
        raise UnsupportedType(f"{given} is not supported; send one of {', '.join(REQUEST_TYPES)}")
    if not body:
        raise BadRequest(f"the body is empty; it should hold {kind.name}")
    if kind.name in IMAGE_TYPES:
        return iter([_image(body, preprocessing)])
    if kind.name == NPY:
        return _tensors(load_npy(body), preprocessing)
    if kind.name == JSON_LINES:
        return _lines(body, preprocessing, fetch)
    value = load_json(body, "the body")
    if isinstance(value, dict):
        return (
            iter([_sent_image(value, preprocessing, fetch)])
            if _URL in value
            else _instances(value, preprocessing, fetch)
        )
    return _tensors(to_array(value), preprocessing)


def _image(data: bytes, preprocessing: Preprocessing) -> Tensor:
    try:
        tensor: Tensor = preprocessing.normalize(preprocessing.pixels(data)[None])[0]
    except ImageError as error:
        raise Unprocessable(str(error)) from error
    return tensor


def load_npy(body: bytes) -> NDArray[Any]:
    """Return the array in an NPY file, which is not unpickled. Raises BadRequest."""
    if not body.startswith(np.lib.format.MAGIC_PREFIX):
        raise BadRequest("the body is no NPY array of numbers: it does not begin as one")
    try:
        with _ONE_PARSER:  # a pickle could run code (contract C2.8)
            array: NDArray[Any] = np.load(io.BytesIO(body), allow_pickle=False)
    except Exception as error:  # its header is a Python literal, which fails in many ways, and may claim any size
        raise BadRequest(f"the body is no NPY array of numbers: {error}") from error
    return array


def load_json(text: bytes, what: str) -> Any:
    """Return the value in a text; `what` is what messages call it. Raises BadRequest."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{what} is not JSON: {error}") from error


def to_array(value: Any) -> NDArray[np.float32]:
    """Return nested lists as an array. Raises Unprocessable."""
    try:
        return np.array(value, dtype=np.float32)
    except (ValueError, TypeError, OverflowError) as error:
        raise Unprocessable(
            'the JSON should be nested lists of numbers (a tensor) or {"instances": [{"b64": …}]}'
        ) from error


def _tensors(array: NDArray[Any], preprocessing: Preprocessing) -> Iterator[Tensor]:
    """Check an already normalized tensor, N×3×S×S or 3×S×S, and split it into images."""
    size = preprocessing.crop
    if array.shape[-3:] != (3, size, size) or array.ndim not in (3, 4) or array.shape[0] == 0:
        shape = "×".join(map(str, array.shape)) or "a single number"
        raise Unprocessable(f"the tensor is {shape}; this model takes N×3×{size}×{size} or 3×{size}×{size}")
    if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise Unprocessable(f"the tensor holds {array.dtype}; it should hold normalized floats")
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise Unprocessable("the tensor holds values that are not finite numbers")
    return iter(array.reshape(-1, 3, size, size))


def _instances(value: dict[str, Any], preprocessing: Preprocessing, fetch: Fetch) -> Iterator[Tensor]:
    instances = value.get("instances")
    if not isinstance(instances, list) or not instances:
        raise Unprocessable('the JSON object should be {"instances": [{"b64": "…"}, …]} with one entry an image')
    for number, instance in enumerate(instances, start=1):
        try:
            yield _sent_image(instance, preprocessing, fetch)
        except RequestError as error:
            raise type(error)(f"instance {number}: {error}") from error


def _sent_image(instance: Any, preprocessing: Preprocessing, fetch: Fetch) -> Tensor:
    """Return the image of a JSON object, which holds it in base64 or says where it is."""
    sent = instance if isinstance(instance, dict) else {}
    if isinstance(url := sent.get(_URL), str):
        return _image(fetch(url), preprocessing)
    text = sent.get("b64")
    if not isinstance(text, str):
        raise Unprocessable('there is no "b64" with the image\'s bytes in base64')
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f'"b64" is not base64: {error}') from error
    return _image(data, preprocessing)


def _lines(body: bytes, preprocessing: Preprocessing, fetch: Fetch) -> Iterator[Tensor | RequestError]:
    """Read one image a line; a bad or blank line keeps its place, so that answers stay beside their lines.

    The end of the last line is no line more (contract C4.4).
    """
    for line in body.removesuffix(b"\n").split(b"\n"):
        try:
            if not line.strip():
                raise BadRequest("the line is blank")
            yield _sent_image(load_json(line, "the line"), preprocessing, fetch)
        except RequestError as error:
            yield error


def parse_accept(accept: str, default: str) -> Answer:
    """Return which answer to give for an Accept header; missing and `*/*` mean `default`. Raises NotAcceptable."""
    wanted = [MediaType.parse(part) for part in (accept or default).split(",")]
    for kind in sorted(wanted, key=_quality, reverse=True):
        if kind.name in ("*/*", "application/*"):
            kind = MediaType.parse(default)  # noqa: PLW2901 - a wildcard stands for the default
        if kind.name in ANSWER_TYPES and _quality(kind) > 0:
            is_verbose = "verbose" in kind.parameters
            explain = _explain(kind.parameters)
            if explain and not (kind.name == JSON and is_verbose):
                raise NotAcceptable(f"Accept: explain=true is for {JSON};verbose, and not for {kind.name} as asked for")
            return Answer(kind.name, is_verbose, _top_k(kind.parameters), explain)
    raise NotAcceptable(
        f"Accept: {(accept or default)[:_QUOTED]} cannot be served; ask for one of {', '.join(ANSWER_TYPES)}"
    )


def _quality(kind: MediaType) -> float:
    try:
        return float(kind.parameters.get("q", "1"))
    except ValueError:
        return 0.0


def _top_k(parameters: dict[str, str]) -> int:
    text = parameters.get("top_k", str(DEFAULT_TOP_K))
    if not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise BadRequest(f"Accept: top_k={text[:20]} should be a whole number, at least 1")
    return int(text)


def _explain(parameters: dict[str, str]) -> bool:
    text = parameters.get("explain", "false").lower()
    if text not in ("true", "false"):
        raise BadRequest(f"Accept: explain={text[:20]} should be true or false")
    return text == "true"


Row = NDArray[np.float32] | RequestError  # the probabilities of one image, (classes,), or why there are none


def encode_answer(
    rows: Sequence[Row], classes: Sequence[str], answer: Answer, explanations: Sequence[str] = ()
) -> tuple[bytes, str]:
    """Return the body and the Content-Type. Only JSON Lines has a place for errors among `rows`.

    `explanations` are pictures in base64, one a row, where the client has asked for them.
    """
    encoders: dict[str, Callable[[], bytes]] = {
        JSON: lambda: _encode_json(good_rows(rows), classes, answer, explanations),
        JSON_LINES: lambda: b"".join(_encode_line(row, classes, answer) for row in rows),
        CSV: lambda: "".join(",".join(f"{p:.6g}" for p in row) + "\n" for row in good_rows(rows)).encode(),
        NPY: lambda: _encode_npy(np.stack(good_rows(rows))),
    }
    return encoders[answer.mimetype](), answer.mimetype


def good_rows(rows: Sequence[Row]) -> list[NDArray[np.float32]]:
    """Return the rows where an answer has no place for errors. Raises the first error among them."""
    good: list[NDArray[np.float32]] = []
    for number, row in enumerate(rows, start=1):
        if isinstance(row, RequestError):
            raise type(row)(f"line {number}: {row}; ask for {JSON_LINES} to get an answer for the other lines")
        good.append(row)
    return good


def _encode_json(
    rows: list[NDArray[np.float32]], classes: Sequence[str], answer: Answer, explanations: Sequence[str]
) -> bytes:
    if not answer.verbose:
        return json.dumps([row.tolist() for row in rows]).encode()
    tops = [_top(row, classes, answer.top_k) for row in rows]
    labels = [top[0]["label"] for top in tops]
    value = {
        "predicted_label": labels[0] if len(labels) == 1 else labels,
        "labels": list(classes),
        "probabilities": [row.tolist() for row in rows],
        "predictions": tops,
        **({"explanations": explanations} if answer.explain else {}),
    }
    return json.dumps(value, ensure_ascii=False).encode()


def _encode_line(row: Row, classes: Sequence[str], answer: Answer) -> bytes:
    value: Any
    if isinstance(row, RequestError):
        value = {"error": str(row)}
    elif answer.verbose:
        top = _top(row, classes, answer.top_k)
        value = {"predicted_label": top[0]["label"], "predictions": top}
    else:
        value = row.tolist()
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def _top(row: NDArray[np.float32], classes: Sequence[str], k: int) -> list[dict[str, Any]]:
    order = np.argsort(-row, kind="stable")[:k]
    return [{"label": classes[i], "index": int(i), "probability": float(row[i])} for i in order]


def _encode_npy(array: NDArray[np.float32]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()

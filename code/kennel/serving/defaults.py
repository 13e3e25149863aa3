"""What stands in for the functions that a user's `inference.py` does not define (contract C2.5, C2.8).

Beside a model of Kennel's they are what Kennel does for it without any; beside any other model, tensors come in and
what the model gives goes out.
"""

import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sagemaker_inference import encoder

from kennel.engines.choice import load_engine
from kennel.engines.device import pick_device
from kennel.errors import ArtifactError
from kennel.model.artifact import load_artifact
from kennel.model.manifest import MANIFEST, Manifest
from kennel.serving.codecs import (
    CSV,
    JSON,
    JSON_LINES,
    NPY,
    Fetch,
    MediaType,
    Row,
    decode_request,
    encode_answer,
    load_json,
    load_npy,
    parse_accept,
    to_array,
)
from kennel.serving.errors import BadRequest, NotAcceptable, RequestError, Unprocessable, UnsupportedType

TENSOR_TYPES = (JSON, CSV, NPY)


@dataclass(frozen=True)
class Decoded:
    """What a request holds."""

    data: torch.Tensor  # on the device where models are
    bad: Mapping[int, RequestError] = field(default_factory=dict)  # by place among the data: lines that hold no image


class Defaults(Protocol):
    """Those that depend on the model folder."""

    classes: Sequence[str]  # in the order of the outputs; none where they are not known

    def model(self, is_asked: bool) -> Any:
        """Return the model; `is_asked` says that a user function takes it, so that it has to be a torch module."""
        ...

    def input(self, body: bytes, content_type: str, fetch: Fetch) -> Decoded:
        """Return what a body holds. Raises RequestError."""
        ...


class KennelDefaults:
    """Of a folder with `kennel.json`: images and tensors in, probabilities out."""

    def __init__(self, folder: Path, manifest: Manifest, engine: str, processes: int) -> None:
        self.classes: Sequence[str] = manifest.classes
        self._folder = folder
        self._preprocessing = manifest.preprocessing
        self._engine = engine
        self._processes = processes

    def model(self, is_asked: bool) -> Any:
        """Return the classifier in evaluation mode, (N, 3, S, S) to (N, classes) logits, or, unasked, an engine."""
        if is_asked:
            classifier, _ = load_artifact(self._folder)
            return classifier.to(pick_device())
        engine = load_engine(self._folder, self._engine, self._processes)
        engine.warm_up()
        return engine

    def input(self, body: bytes, content_type: str, fetch: Fetch) -> Decoded:
        """Return normalized images, (N, 3, S, S); bad lines of JSON Lines are left out, and said."""
        rows = list(decode_request(body, content_type, self._preprocessing, fetch))
        good = [row for row in rows if isinstance(row, np.ndarray)]
        size = self._preprocessing.crop
        images = np.stack(good) if good else np.zeros((0, 3, size, size), np.float32)
        bad = {place: row for place, row in enumerate(rows) if isinstance(row, RequestError)}
        return Decoded(torch.from_numpy(np.ascontiguousarray(images)).to(pick_device()), bad)


class PlainDefaults:
    """Of any other folder."""

    classes: Sequence[str] = ()

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def model(self, is_asked: bool) -> Any:
        """Raise ArtifactError: only the user knows how to load it."""
        raise ArtifactError(
            f"{self._folder} holds no Kennel model (there is no {MANIFEST} in it), and its code defines no model_fn "
            "that loads another"
        )

    def input(self, body: bytes, content_type: str, fetch: Fetch) -> Decoded:
        """Return the numbers of a body as float32, in its shape."""
        kind = MediaType.parse(content_type).name
        if kind == NPY:
            array = load_npy(body)
            if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
                raise Unprocessable(f"the array holds {array.dtype}; it should hold numbers")
        elif kind == JSON:
            array = to_array(load_json(body, "the body"))
        elif kind == CSV:
            array = _read_csv(body)
        else:
            given = f"Content-Type {kind}" if kind else "a request without a Content-Type"
            raise UnsupportedType(
                f"{given} is not supported by this model, which has no input_fn for it; send a tensor as one of "
                f"{', '.join(TENSOR_TYPES)}"
            )
        return Decoded(torch.from_numpy(array.astype(np.float32)).to(pick_device()))


def _read_csv(body: bytes) -> NDArray[np.float32]:
    try:
        return np.loadtxt(io.StringIO(body.decode()), dtype=np.float32, delimiter=",", ndmin=2)
    except ValueError as error:
        raise BadRequest(f"the body is no CSV of numbers: {error}") from error


def predict(data: Any, model: Any) -> Any:
    """Return what a model says of data: an engine its probabilities, any other what it returns, without gradients."""
    tensor = data if isinstance(data, torch.Tensor) else torch.from_numpy(np.asarray(data, np.float32))
    if _is_engine(model):
        images = tensor.cpu().numpy()
        parts = [images[begin : begin + model.batch_size] for begin in range(0, len(images), model.batch_size)]
        return torch.from_numpy(np.concatenate([model.probabilities(part) for part in parts]))
    first = next(itertools.chain(model.parameters(), model.buffers()), tensor) if _is_module(model) else tensor
    with torch.no_grad():  # what comes out may be changed in place, unlike in inference mode
        return model(tensor.to(first.device))


def _is_engine(model: Any) -> bool:
    return not callable(model) and hasattr(model, "probabilities")


def _is_module(model: Any) -> bool:
    return isinstance(model, torch.nn.Module)


def output(
    prediction: Any, bad: Mapping[int, RequestError], accept: str, default_accept: str, classes: Sequence[str]
) -> tuple[bytes, str]:
    """Return the body and Content-Type of an answer. Raises NotAcceptable.

    A tensor with a row an image becomes what Kennel answers; anything else becomes JSON as it is. `bad` lines get
    their places among the rows.
    """
    answer = parse_accept(accept, default_accept)
    if answer.explain:
        raise NotAcceptable("Accept: explain=true cannot be served beside functions of the user's own")
    prediction = _to_numpy(prediction)
    are_rows = is_a_row_each(prediction) and np.issubdtype(prediction.dtype, np.floating)
    has_classes = are_rows and (len(classes) == prediction.shape[1] or not len(prediction))
    if are_rows and (has_classes or not answer.verbose):
        merged: list[Row] = list(prediction.astype(np.float32))
        for place, error in sorted(bad.items()):
            merged.insert(place, error)
        return encode_answer(merged, classes, answer)
    if answer.verbose:
        raise NotAcceptable("Accept: there is no verbose answer; the names of this model's classes are not known")
    if answer.mimetype == JSON_LINES:
        values = prediction if isinstance(prediction, list | tuple | np.ndarray) else [prediction]
        return b"".join(_to_json(value) + b"\n" for value in values), JSON_LINES
    if answer.mimetype == JSON:
        return _to_json(prediction), JSON
    array = np.asarray(prediction)
    if array.dtype == object:  # NPY would hold a pickle of it
        raise NotAcceptable(f"Accept: {answer.mimetype} cannot hold what this model gives; ask for {JSON}")
    text = encoder.encode(array, answer.mimetype)
    return text.encode() if isinstance(text, str) else text, answer.mimetype


def is_a_row_each(prediction: Any, images: int | None = None) -> bool:
    """Return whether a prediction is a table with a row an image."""
    is_table = isinstance(prediction, torch.Tensor | np.ndarray) and prediction.ndim == 2
    return is_table and images in (None, len(prediction))


def _to_numpy(prediction: Any) -> Any:
    if not isinstance(prediction, torch.Tensor):
        return prediction
    on_cpu = prediction.detach().cpu()
    return (on_cpu.float() if on_cpu.is_floating_point() else on_cpu).numpy()


def _to_json(value: Any) -> bytes:
    return str(encoder.encode(value, JSON)).encode()

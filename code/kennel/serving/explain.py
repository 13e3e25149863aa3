"""Heat maps beside answers: where in its picture an image's best class was seen.

They are made by the torch weights whatever engine answers, one at a time, in a thread beside the model's own.
"""

import base64
import io
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kennel.images.preprocess import Preprocessing
from kennel.model.manifest import load_manifest
from kennel.serving.codecs import Tensor
from kennel.serving.errors import Late, NotAcceptable, Overloaded, RequestError, Unprocessable

if TYPE_CHECKING:
    from kennel.engines.grad_cam import GradCam

MOST_IMAGES = 16  # of a request: each takes as long as a forward pass of torch, and is a picture in the answer
PLACES = 4  # requests in work or waiting; the others have the rest of the server's
_NOT_DEPLOYED = "this endpoint was not deployed with `--explain` (KENNEL_EXPLAIN=true)"

_HEAT = (0.0, 0.25, 0.5, 0.75, 1.0)
_COLOURS = np.array([(30, 30, 140), (20, 130, 230), (40, 220, 150), (250, 220, 40), (235, 40, 20)], np.float32)
_OPAQUE = 0.6  # of the colour where the heat is greatest


class Explainer:
    """Makes heat maps for one model, or says why it cannot."""

    def __init__(self, grad_cam: "GradCam | None", preprocessing: Preprocessing, refusal: str = _NOT_DEPLOYED) -> None:
        """`refusal` is what to answer where there is no `grad_cam`."""
        self._grad_cam = grad_cam
        self._preprocessing = preprocessing
        self._refusal = refusal
        self._places = threading.BoundedSemaphore(PLACES)
        self._thread = ThreadPoolExecutor(1, "explainer")  # it starts with the first explanation

    @contextmanager
    def place(self) -> Iterator[None]:
        """Let a request in that asks for explanations. Raises NotAcceptable where there are none, or Overloaded."""
        if self._grad_cam is None:
            raise NotAcceptable(f"Accept: explain=true cannot be served: {self._refusal}")
        if not self._places.acquire(blocking=False):
            raise Overloaded(f"{PLACES} requests with explain=true are in work already; try again in a moment")
        try:
            yield
        finally:
            self._places.release()

    def explain(self, images: Sequence[NDArray[np.float32]], classes: Sequence[int], deadline: float) -> list[str]:
        """Return a PNG in base64 for each normalized image (3, S, S), for the class of the same place in `classes`.

        It is the picture that the model saw, S x S, with the heat of that class laid over it. Raises Late when they are
        not ready at `deadline` (on the monotonic clock).
        """
        pictures = []
        for image, index in zip(images, classes, strict=True):
            work = self._thread.submit(self._picture, image, index)
            try:
                pictures.append(work.result(timeout=max(0.0, deadline - time.monotonic())))
            except TimeoutError:
                work.cancel()
                raise Late("the explanation is not ready in the time that a caller waits for it") from None
        return pictures

    def _picture(self, image: NDArray[np.float32], index: int) -> str:
        assert self._grad_cam is not None
        scale, shift = self._preprocessing.scale_and_shift()
        pixels = (image.transpose(1, 2, 0) - shift) / scale
        file = io.BytesIO()
        Image.fromarray(lay_over(pixels, self._grad_cam.heat(image, index))).save(file, "PNG")
        return base64.b64encode(file.getvalue()).decode()


def keeping(images: Iterator[Tensor | RequestError], seen: list[Tensor]) -> Iterator[Tensor | RequestError]:
    """Yield what is to be explained and remember it in `seen`. Raises Unprocessable for more images than are."""
    for number, image in enumerate(images, start=1):
        if number > MOST_IMAGES:
            raise Unprocessable(f"explain=true is for up to {MOST_IMAGES} images in a request; this one has more")
        if isinstance(image, np.ndarray):
            seen.append(image)
        yield image


def lay_over(pixels: NDArray[np.float32], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return (S, S, 3) pixels from 0 to 255 under the colours of a heat (S, S) from 0 to 1."""
    colours = np.stack([np.interp(heat, _HEAT, channel) for channel in _COLOURS.T], axis=2)
    opaque = (_OPAQUE * heat)[:, :, None]
    mixed: NDArray[np.uint8] = (pixels * (1 - opaque) + colours * opaque).round().clip(0, 255).astype(np.uint8)
    return mixed


def load_explainer(model_dir: Path, is_wanted: bool) -> Explainer:
    """Return what explains the model in a folder; unless `is_wanted`, it only refuses, and no weights are read.

    To be called before a server forks: its processes share the weights. Raises ArtifactError when there are none.
    """
    manifest = load_manifest(model_dir)
    if not is_wanted:
        return Explainer(None, manifest.preprocessing)
    import torch  # noqa: PLC0415 - slow, and an endpoint without explanations may do without it

    from kennel.engines.grad_cam import GradCam  # noqa: PLC0415 - as above
    from kennel.model.artifact import load_artifact  # noqa: PLC0415 - as above
    from kennel.model.backbones import is_transformer  # noqa: PLC0415 - as above

    if is_transformer(manifest.backbone):
        why = f"a {manifest.backbone} mixes all places of an image, and its last layer does not tell them apart"
        return Explainer(None, manifest.preprocessing, why)
    torch.set_num_threads(1)  # a thread pool begun before a server forks would hang its workers
    classifier, _ = load_artifact(model_dir)
    return Explainer(GradCam(classifier, manifest.preprocessing.crop, manifest.views), manifest.preprocessing)

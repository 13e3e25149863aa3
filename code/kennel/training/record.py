"""What a job writes for its report beside the model: its epochs, its result, and the test photos it was most wrong on.

Nothing here can end a job: what cannot be written is one warning, and missing in the report.
"""

import base64
import io
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kennel.atomic import write_json
from kennel.engines.device import describe_device, pick_device
from kennel.harmless import harmless
from kennel.images.pack import PackedImages
from kennel.model.manifest import EngineRecord
from kennel.training.distributed import Processes
from kennel.training.evaluate import Evaluation
from kennel.training.loop import OnEpoch, log_epoch
from kennel.training.tensorboard import TensorBoard

RECORD = "training.jsonl"  # what the log says, a JSON object a line: the start, each epoch, the epoch that is kept
WORST = "test_worst.json"

_MOST_PHOTOS = 24
_SIDE = 112  # pixels of a thumbnail's longer side, at most
_MOST_BYTES = 300_000  # of all thumbnails of a job together


def epoch_recorder(
    folder: Path,
    processes: Processes,
    tensorboard: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> OnEpoch:
    """Return a function to call after each epoch, which logs its metrics and, in the main process, writes them down.

    The seconds of an epoch are those since this function was called.
    """
    if not processes.is_main:
        return log_epoch
    began = clock()
    with _written(RECORD):
        (folder / RECORD).unlink(missing_ok=True)

    board = None
    if tensorboard is not None:
        with _charted():
            board = TensorBoard(tensorboard)

    def on_epoch(epoch: int, metrics: Mapping[str, float]) -> bool:
        with _written(RECORD):
            _append(folder, {"epoch": epoch, "seconds": round(clock() - began, 2), **metrics})
        if board is not None:
            with _charted():
                board.add(epoch, metrics)
        return log_epoch(epoch, metrics)

    return on_epoch


def record_result(folder: Path, epoch: int, metrics: Mapping[str, float], hyperparameters: Mapping[str, Any]) -> None:
    """Write down the epoch that is kept, what the saved model was measured with, and what it was trained with."""
    with _written(RECORD):
        _append(folder, {"best_epoch": epoch, **metrics, "hyperparameters": hyperparameters})


def record_engines(folder: Path, records: Sequence[EngineRecord]) -> None:
    """Write down how the engines did that the model was exported for."""
    with _written(RECORD):
        _append(folder, {"engines": [record.model_dump() for record in records]})


def record_worst(folder: Path, evaluation: Evaluation, images: PackedImages) -> None:
    """Write the wrongly classified images whose right class had the least probability, with thumbnails.

    A thumbnail is the square that the network saw, as JPEG in base64.
    """
    with _written(WORST):
        write_json(folder / WORST, list(_worst(evaluation, images)))


def _worst(evaluation: Evaluation, images: PackedImages) -> Iterator[dict[str, Any]]:
    predicted, labels = evaluation.predicted, evaluation.labels
    right = evaluation.probabilities[np.arange(len(labels)), labels]
    wrong = np.flatnonzero(predicted != labels)
    room = _MOST_BYTES
    for i in wrong[np.argsort(right[wrong], kind="stable")][:_MOST_PHOTOS]:
        jpeg = _thumbnail(images.pixels[i])
        room -= len(jpeg)
        if room < 0:
            return
        yield {
            "image": evaluation.names[i],
            "label": evaluation.classes[labels[i]],
            "predicted": evaluation.classes[predicted[i]],
            "probability": round(float(evaluation.probabilities[i, predicted[i]]), 4),
            "right_probability": round(float(right[i]), 4),
            "jpeg": jpeg,
        }


def _thumbnail(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> str:
    image = Image.fromarray(np.asarray(pixels))
    image.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return base64.b64encode(file.getvalue()).decode()


def _append(folder: Path, value: Mapping[str, Any]) -> None:
    """Append a line; the first one is preceded by that of the start."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / RECORD).open("a", encoding="utf-8") as file:
        if not file.tell():
            file.write(json.dumps({"device": describe_device(pick_device())}) + "\n")
        file.write(json.dumps(value) + "\n")


def _written(name: str) -> AbstractContextManager[None]:
    return harmless(f"{name} could not be written", "the report lacks it, and the model is whole")


def _charted() -> AbstractContextManager[None]:
    return harmless("TensorBoard's file could not be written", "the charts lack an epoch, and the model is whole")

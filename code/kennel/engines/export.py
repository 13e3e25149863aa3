"""Save a model for other runtimes too, and keep of them what answers as the model itself does."""

import logging
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kennel.atomic import replacing
from kennel.engines.device import pick_device
from kennel.engines.engine import Engine
from kennel.engines.openvino_engine import OpenvinoEngine
from kennel.engines.quantization import Control, quantize, spread
from kennel.engines.torch_engine import TorchEngine
from kennel.errors import ArtifactError, Stopped
from kennel.images.augment import apply_view
from kennel.images.preprocess import Preprocessing
from kennel.machine import cpu_instructions
from kennel.model.artifact import load_artifact
from kennel.model.classifier import Classifier
from kennel.model.manifest import EngineRecord, Manifest, save_manifest

INT8 = "openvino-int8"
AGREEMENT = {"openvino-bf16": 0.98, INT8: 0.97}  # the least share of images with the same best class
LOST_ACCURACY = 0.005  # at most, or one image
LEAST_IMAGES = 50  # with fewer, an agreement of 98 % is all of them
MOST_IMAGES = 1000  # more would only take longer
_TIMED = 15  # forwards of one image each, of which the median counts

log = logging.getLogger(__name__)

Report = Callable[[str, int, int], None]  # engine, images done, images in all; may raise to end the work


def export_engines(
    folder: Path,
    names: Sequence[str],
    training: NDArray[np.uint8],
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    report: Report,
    control_accuracy: bool = False,
) -> tuple[EngineRecord, ...]:
    """Export the model in `folder` for each runtime of `names`, judge it on `images`, and write down how it did.

    `training` (M, S, S, 3) and `images` (N, S, S, 3) are decoded images; `labels` (N,) say what is right. An engine is
    kept when its accuracy is at most half a point, or one image, below that of the float32 model, and its best class is
    the same for 98 % of the images (bfloat16) or 97 % (8 bits). What is refused leaves no file, only its record in
    `kennel.json`; so does what cannot be made. With `control_accuracy`, the layers that 8 bits are too few for are
    found and left as they are, which takes minutes. Returns all records, the first that of the float32 model; none when
    there are too few images to judge by. When `report` raises, what was done until then stays.
    Raises ArtifactError where there is no model, or its folder cannot be written to.
    """
    if len(images) < LEAST_IMAGES:
        log.info(
            "no engine is exported: %d validation images are too few to judge it by, it takes %d",
            len(images),
            LEAST_IMAGES,
        )
        return ()
    if not os.access(folder, os.W_OK):
        raise ArtifactError(f"the model folder {folder} cannot be written to; copy it to where it can, and export that")
    classifier, manifest = load_artifact(folder)
    rows = spread(len(images), MOST_IMAGES)
    judge = _Judge(manifest.preprocessing, images, labels, rows, report)
    reference = TorchEngine(classifier, manifest.preprocessing, manifest.views)
    reference.to(pick_device())
    records = [judge.measure(reference)]
    log.info(records[0].line())
    graph = _graph(classifier, manifest)
    control = Control(images[rows], labels[rows], judge.most_lost) if control_accuracy else None
    for name in names:
        make = (
            partial(quantize, graph, manifest, training, partial(report, INT8), control)
            if name == INT8
            else lambda: graph
        )
        with tempfile.TemporaryDirectory(prefix="kennel-export-") as scratch:
            record = _attempt(Path(scratch) / f"{name}.xml", make, manifest, judge)
            records.append(_keep(Path(scratch), folder, record))
        log.info(records[-1].line())
        # at once: when the work ends here, files and records belong together
        save_manifest(folder, manifest.model_copy(update={"engines": _joined(records, manifest.engines)}))
        if records[-1].refused:
            _remove(folder / f"{name}.xml")
    return _joined(records, manifest.engines)


def _joined(made: Sequence[EngineRecord], before: Sequence[EngineRecord]) -> tuple[EngineRecord, ...]:
    names = {record.name for record in made}
    return (*made, *(record for record in before if record.name not in names))


def _attempt(file: Path, make: Callable[[], openvino.Model], manifest: Manifest, judge: "_Judge") -> EngineRecord:
    """Write a model to `file` and measure it."""
    try:
        openvino.save_model(make(), file)  # with weights of 16 bits
        engine = OpenvinoEngine(file, manifest.preprocessing.crop)
        engine.warm_up()
        return judge.measure(engine)
    except Stopped:
        raise
    except Exception as error:  # whatever a runtime raises: the model itself is saved already
        log.warning("%s cannot be exported", file.stem, exc_info=True)
        return _failed(file.stem, error)


def _keep(scratch: Path, folder: Path, record: EngineRecord) -> EngineRecord:
    """Move an engine's files into the model folder, unless it is refused."""
    if record.refused:
        return record
    try:
        for suffix in (".bin", ".xml"):  # the one that names the other last
            with replacing(folder / f"{record.name}{suffix}") as temporary:
                shutil.copyfile(scratch / f"{record.name}{suffix}", temporary)
    except OSError as error:  # as a full disk
        log.warning("%s cannot be saved", record.name, exc_info=True)
        return _failed(record.name, error)
    return record


def _failed(name: str, error: Exception) -> EngineRecord:
    reason = (str(error).strip() or type(error).__name__).splitlines()[-1][:200]
    return EngineRecord(name=name, refused=f"it cannot be made: {reason}")


def _remove(file: Path) -> None:
    for part in (file, file.with_suffix(".bin")):
        part.unlink(missing_ok=True)


class _Judge:
    """Measures engines on the same images; the first is what the others are compared with."""

    def __init__(
        self,
        preprocessing: Preprocessing,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        rows: NDArray[np.int64],
        report: Report,
    ) -> None:
        self._preprocessing = preprocessing
        self._images = images
        self._labels = labels[rows]
        self._rows = rows
        self._report = report
        self._expected: NDArray[np.int64] | None = None
        self._accuracy = 0.0

    def measure(self, engine: Engine) -> EngineRecord:
        """Run an engine, which is warm, over the images."""
        best = self._best(engine)
        accuracy = float((best == self._labels).mean())
        if self._expected is None:
            self._expected, self._accuracy = best, accuracy
        agreement = float((best == self._expected).mean())
        return EngineRecord(
            name=engine.name,
            images=len(best),
            accuracy=accuracy,
            agreement=agreement,
            milliseconds=self._milliseconds(engine),
            instructions=cpu_instructions(),
            refused=self._objection(engine.name, accuracy, agreement),
        )

    @property
    def most_lost(self) -> float:
        """How much accuracy an engine may lose."""
        return max(LOST_ACCURACY, 1 / len(self._rows)) + 1e-9

    def _objection(self, name: str, accuracy: float, agreement: float) -> str:
        lost, least = self._accuracy - accuracy, AGREEMENT.get(name, 0.0)
        if lost > self.most_lost:
            return f"its accuracy is {accuracy:.4f} where the model's is {self._accuracy:.4f}"
        if agreement < least:
            return f"it agrees with the model on {agreement:.1%} of the images, and {least:.0%} is the least"
        return ""

    def _best(self, engine: Engine) -> NDArray[np.int64]:
        answers = []
        for start in range(0, len(self._rows), engine.batch_size):
            answers.append(engine.probabilities(self._batch(self._rows[start : start + engine.batch_size])))
            self._report(engine.name, min(start + engine.batch_size, len(self._rows)), len(self._rows))
        best: NDArray[np.int64] = np.concatenate(answers).argmax(axis=1)
        return best

    def _milliseconds(self, engine: Engine) -> float:
        image, seconds = self._batch(self._rows[:1]), []
        for _ in range(_TIMED):
            began = time.perf_counter()
            engine.probabilities(image)
            seconds.append(time.perf_counter() - began)
        return round(statistics.median(seconds) * 1e3, 3)

    def _batch(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._preprocessing.normalize(self._images[rows])  # as the server's batches


class _Answering(nn.Module):
    """Normalized images to probabilities, in all views that the model's answer is the average of."""

    def __init__(self, classifier: Classifier, views: Sequence[str]) -> None:
        super().__init__()
        self._classifier = classifier
        self._views = tuple(views)

    def forward(self, images: Tensor) -> Tensor:
        answers = [torch.softmax(self._classifier(apply_view(view, images)), dim=1) for view in self._views]
        return torch.stack(answers).mean(dim=0)


def _graph(classifier: Classifier, manifest: Manifest) -> openvino.Model:
    size = manifest.preprocessing.crop
    network = _Answering(classifier, manifest.views).eval()
    with torch.inference_mode():
        return openvino.convert_model(network, example_input=torch.zeros(2, 3, size, size), input=[-1, 3, size, size])

"""Convolutions and products in 8 bits: NNCF's post-training quantization."""

import logging
import os
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from kennel.model.backbones import is_transformer
from kennel.model.manifest import Manifest

CALIBRATION = 300  # training images that 8-bit ranges are taken from: NNCF's own number

Report = Callable[[int, int], None]  # images done, images in all; may raise to end the work


@dataclass(frozen=True)
class Control:
    """The images (N, S, S, 3) with their classes (N,) on which the accuracy is held, and how much of it may be lost."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    most_lost: float


def quantize(
    graph: openvino.Model,
    manifest: Manifest,
    training: NDArray[np.uint8],
    report: Report,
    control: Control | None = None,
) -> openvino.Model:
    """Return the graph with 8-bit convolutions and products, their ranges taken from images of `training`.

    The ranges of activations are asymmetric: most of the newer networks have others than ReLU. With `control`, layers
    are left as they are, those first that cost most, until the accuracy is held; each is tried with all of its images.
    """
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # NNCF lets it look for compilers
    import nncf  # noqa: PLC0415 - two seconds, and only for this

    logging.getLogger("nncf").setLevel(logging.ERROR)  # its own set_log_level also sets handlers that are others'
    rows = spread(len(training), CALIBRATION).tolist()
    seen = 0

    def network_input(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.ascontiguousarray(manifest.preprocessing.normalize(image[None]))

    def calibrating(row: int) -> NDArray[np.float32]:
        nonlocal seen
        report(min(seen, len(rows)), len(rows))
        seen += 1
        return network_input(training[row])

    calibration = nncf.Dataset(rows, calibrating)
    options: dict[str, Any] = {
        "subset_size": len(rows),
        "preset": nncf.QuantizationPreset.MIXED,
        "model_type": nncf.ModelType.TRANSFORMER if is_transformer(manifest.backbone) else None,
        "ignored_scope": nncf.IgnoredScope(names=_after_softmax(graph), validate=False),
    }
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):  # its progress bars
        if control is None:
            return nncf.quantize(graph, calibration, **options)
        held = control

        def accuracy(model: openvino.CompiledModel, some: Iterable[int]) -> tuple[float, list[float]]:
            right: list[float] = []
            for row in some:
                report(len(right), len(held.labels))
                best = model(network_input(held.images[row]))[0].argmax()
                right.append(float(best == held.labels[row]))
            return float(np.mean(right)), right

        return nncf.quantize_with_accuracy_control(
            graph,
            calibration,
            nncf.Dataset(list(range(len(held.labels))), lambda row: network_input(held.images[row])),
            accuracy,
            max_drop=held.most_lost,
            **options,
        )


def _after_softmax(graph: openvino.Model) -> list[str]:
    """Return the names of what is done with probabilities: 8 bits are too few for them."""
    names, todo = [], [graph.get_results()[0].input_value(0).get_node()]
    while todo:
        node = todo.pop()
        names.append(node.get_friendly_name())
        if node.get_type_name() != "Softmax":
            todo += [value.get_node() for value in node.input_values()]
    return names


def spread(count: int, most: int) -> NDArray[np.int64]:
    """Return up to `most` rows of `count`, evenly: images lie class by class."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))

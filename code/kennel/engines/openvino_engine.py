"""OpenVINO, for CPUs: a few times as fast as torch there, and started without it."""

from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import Core, InferRequest, Layout, Model, properties
from openvino.preprocess import PrePostProcessor

from kennel.errors import ArtifactError
from kennel.machine import share_of_cores

BATCH = 8  # images a forward; on few cores more gain nothing, and let the others wait


class OpenvinoEngine:
    """An exported model: normalized images in, probabilities out; 8-bit where it was quantized, else bfloat16.

    A CPU without bfloat16 computes in float32 instead.
    """

    def __init__(self, file: Path, size: int, processes: int = 1) -> None:
        """Take the model in `file` for images of `size` x `size`; `processes` like this one share the machine.

        Raises ArtifactError when there is no such file. It is read in `warm_up`.
        """
        for part in (file, file.with_suffix(".bin")):
            if not part.is_file():
                raise ArtifactError(f"{file.parent} is incomplete: there is no {part.name} in it")
        self.name = file.stem
        self._file = file
        self._size = size
        self._processes = processes
        self._request: InferRequest | None = None
        self._device = "cpu"

    @property
    def batch_size(self) -> int:
        """See `Engine.batch_size`."""
        return BATCH

    @property
    def longest_wait(self) -> float:
        """See `Engine.longest_wait`: a CPU has no cores to spare for a larger batch."""
        return 0.0

    @property
    def any_thread(self) -> bool:
        """See `Engine.any_thread`: OpenVINO's own threads do the work."""
        return True

    @property
    def device(self) -> str:
        """See `Engine.device`."""
        return self._device

    def warm_up(self) -> None:
        """See `Engine.warm_up`. Raises ArtifactError when the file holds no model of OpenVINO's."""
        threads = share_of_cores(self._processes)
        core = Core()
        try:
            model = core.compile_model(
                _taking_pixels(core.read_model(self._file)),
                "CPU",
                {
                    properties.hint.inference_precision: openvino.Type.bf16,
                    properties.num_streams: 1,
                    properties.inference_num_threads: threads,
                    properties.hint.enable_cpu_pinning: False,  # two processes would be pinned to the same cores
                },
            )
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ArtifactError(f"{self._file} cannot be loaded into OpenVINO: {reason}") from error
        self._device = f"cpu ({threads} threads)"
        self._request = model.create_infer_request()
        for count in range(1, BATCH + 1):  # kernels are made for each size of batch
            self.probabilities(np.zeros((count, 3, self._size, self._size), np.float32))

    def probabilities(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine.probabilities`; to be called after `warm_up`."""
        assert self._request is not None
        pixels = np.ascontiguousarray(images.transpose(0, 2, 3, 1))  # costs nothing where they lie channels-last
        self._request.infer({0: pixels}, share_inputs=True)
        rounded = self._request.get_output_tensor().data  # in half precision
        answer: NDArray[np.float32] = rounded / rounded.sum(axis=1, keepdims=True)
        return answer


def _taking_pixels(model: Model) -> Model:
    """Return a model that takes (N, S, S, 3), as images lie in memory, instead of (N, 3, S, S)."""
    steps = PrePostProcessor(model)
    steps.input().tensor().set_layout(Layout("NHWC"))
    steps.input().model().set_layout(Layout("NCHW"))
    return steps.build()

"""PyTorch, eagerly: the reference engine, and the frozen backbone that training reads features from."""

import copy
import logging

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from kennel.engines.cuda_graphs import CudaRecorder, RecordedNetwork, Recorder
from kennel.engines.device import describe_device, fast_precision, pick_device
from kennel.images.augment import apply_view
from kennel.images.preprocess import Preprocessing
from kennel.machine import share_of_cores
from kennel.model.backbones import weights_fingerprint
from kennel.model.classifier import Classifier

log = logging.getLogger(__name__)

BATCH = 16  # images a forward; the activations of more leave the CPU's caches (MobileNetV2: 16 is 1.7 times 64)
GPU_WAIT = 0.004  # seconds; for a GPU, eight images are hardly more work than one
GPU_BATCH = 128  # on a GPU, fewer leave most of it idle, and more gain little


class FrozenBackbone:
    """A backbone that is only run forward, in a fixed precision, with its batch norms folded into its convolutions.

    They are folded when the first features are asked for: who finds all of them in a cache need not wait for it.
    """

    def __init__(self, backbone: nn.Module, precision: torch.dtype = torch.float32, fingerprint: str = "") -> None:
        """Take the weights as they are; `fingerprint` is theirs, if it is known already."""
        self.fingerprint = fingerprint or weights_fingerprint(backbone)
        self.precision = precision
        self._backbone = backbone
        self._folded: nn.Module | None = None
        self._device = torch.device("cpu")

    def to(self, device: torch.device) -> "FrozenBackbone":
        """Move the weights to `device`, and return self."""
        self._device = device
        if self._folded is not None:
            self._folded.to(device)
        return self

    @property
    def _module(self) -> nn.Module:
        if self._folded is None:
            folded = fold_batch_norms(self._backbone)
            folded.to(self._device, self.precision, memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._folded = folded
            del self._backbone  # so that a server does not hold the weights twice
        return self._folded

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self._device

    @property
    def batch_size(self) -> int:
        """How many images a forward are fastest."""
        return BATCH if self._device.type == "cpu" else GPU_BATCH

    @torch.inference_mode()
    def run(self, images: Tensor) -> Tensor:
        """Return (B, features) float32, on the device, for normalized images (B, 3, S, S), all in one forward."""
        images = images.to(self._device, self.precision).contiguous(memory_format=torch.channels_last)
        features: Tensor = self._module(images).float()
        return features

    def features(self, images: Tensor) -> Tensor:
        """Return (N, features) float32, on the device, for normalized images (N, 3, S, S)."""
        return torch.cat([self.run(part) for part in torch.split(images, self.batch_size)])


def fold_batch_norms(backbone: nn.Module) -> nn.Module:
    """Return a copy of `backbone` in evaluation mode, its batch norms folded into its convolutions where that can be.

    A network without batch norms, or whose forward pass cannot be written down as a graph, is copied as it is.
    """
    if any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules()):
        try:
            folded: nn.Module = fuse(copy.deepcopy(backbone).eval(), inplace=True)
        except Exception:  # torch.fx raises many types, and folding is only for speed
            log.debug("the batch norms of %s are not folded", type(backbone).__name__, exc_info=True)
        else:
            return folded
    return copy.deepcopy(backbone).eval()


class TorchEngine:
    """A classifier as it was trained; in float32 it is the reference that a job's test figures are measured with."""

    def __init__(
        self,
        classifier: Classifier,
        preprocessing: Preprocessing,
        views: tuple[str, ...] = ("original",),
        precision: torch.dtype | None = torch.float32,
        processes: int = 1,
    ) -> None:
        """Run the backbone in `precision`, the head in float32; `processes` like this one share the machine.

        Without `precision` it is the fastest of the device that `warm_up` finds.
        """
        self.name = "torch-fp32" if precision == torch.float32 else "torch-half"
        self._precision = precision
        self._views = views
        self._processes = processes
        self.backbone = FrozenBackbone(classifier.backbone, precision or torch.float32)
        self._head = copy.deepcopy(classifier.head).eval()
        self._size = preprocessing.crop
        self._device = torch.device("cpu")
        self._recorded: RecordedNetwork | None = None

    @property
    def device(self) -> str:
        """See `Engine.device`."""
        return describe_device(self._device)

    @property
    def batch_size(self) -> int:
        """See `Engine.batch_size`."""
        return self.backbone.batch_size

    @property
    def longest_wait(self) -> float:
        """See `Engine.longest_wait`."""
        return GPU_WAIT if self._device.type == "cuda" else 0.0

    @property
    def any_thread(self) -> bool:
        """See `Engine.any_thread`: on a CPU each thread that computes would get threads of its own to help it."""
        return False

    def to(self, device: torch.device) -> None:
        """Run on `device` from now on."""
        self._device = device
        self.backbone.to(device)
        self._head.to(device)

    def warm_up(self) -> None:
        """See `Engine.warm_up`."""
        torch.set_num_threads(share_of_cores(self._processes))
        device = pick_device()
        self.backbone.precision = self._precision or fast_precision(device)
        self.to(device)
        self.probabilities(np.zeros((1, 3, self._size, self._size), np.float32))
        if device.type == "cuda":
            self.record(CudaRecorder())

    def record(self, recorder: Recorder) -> None:
        """Replay recordings from now on, where the network can be recorded."""
        try:
            self._recorded = RecordedNetwork(self._answer, self._size, self._device, recorder)
        except RuntimeError as error:
            log.warning("the network runs without CUDA graphs, more slowly: %s", str(error).splitlines()[0])

    def probabilities(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine.probabilities`."""
        run = self._recorded or self._answer
        parts = [run(part).cpu().numpy() for part in torch.split(torch.from_numpy(images), self.batch_size)]
        answer: NDArray[np.float32] = np.concatenate(parts) if len(parts) > 1 else parts[0]
        return answer

    @torch.inference_mode()
    def _answer(self, images: Tensor) -> Tensor:
        """Return (B, classes) float32 on the device for a batch of images, on any."""
        answers = [
            torch.softmax(self._head(self.backbone.run(apply_view(view, images))), dim=1) for view in self._views
        ]
        return torch.stack(answers).mean(dim=0) if len(answers) > 1 else answers[0]

    @torch.inference_mode()
    def classify(self, features: Tensor) -> NDArray[np.float32]:
        """Return the probabilities (N, classes) of images whose features (N, features) are known already."""
        result: NDArray[np.float32] = torch.softmax(self._head(features.to(self._device)), dim=1).cpu().numpy()
        return result

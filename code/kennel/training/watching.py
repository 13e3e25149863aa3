"""What the training loop tells those who watch it: a debugger and a profiler, which it does not know."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor, nn

Mode = Literal["TRAIN", "EVAL"]
Part = Literal[
    "start-up",
    "decoding",
    "features",
    "data",
    "to_device",
    "forward",
    "backward",
    "optimizer",
    "debugging",  # what the inspector took, beside its looks into the forward pass
    "evaluation",
    "checkpoint",
    "test",
    "export",
]


class Inspector(Protocol):
    """Looks at the tensors of a training. It changes none of them, draws no random numbers, and never raises."""

    def begin_phase(self, module: nn.Module) -> None:
        """Take note that `module`, from inputs to logits, is what is trained until the next call."""
        ...

    def begin_step(self, mode: Mode, labels: Tensor) -> None:
        """Take note that images with `labels`, (B,) int64, go through the module now, to train on or to evaluate."""
        ...

    def end_forward(self, logits: Tensor, loss: Tensor) -> None:
        """Look at the logits, (B, classes) float32, and their mean loss, a scalar."""
        ...

    def end_backward(self, scale: Callable[[], float]) -> None:
        """Look at the gradients, which are `scale()` times too large; to ask may wait for the device."""
        ...

    def end_step(self) -> bool:
        """Look at the weights, which the step has changed; return whether looking has slowed this step."""
        ...

    def end_evaluation(self) -> None:
        """Take note that the validation images have all been seen."""
        ...

    def end_training(self) -> None:
        """Take note that nothing more is trained; what it logs now comes before the line of the epoch that is kept."""
        ...


class Timer(Protocol):
    """Adds up where the time goes. It never raises."""

    def mark(self, part: Part) -> None:
        """Count the time since the mark before to `part`."""
        ...

    def end_step(self, images: int, slowed: bool) -> None:
        """Take note that a training step on so many of this process's images ends here, `slowed` by its inspector."""
        ...


class _NoInspector:
    """Looks at nothing."""

    def begin_phase(self, module: nn.Module) -> None: ...
    def begin_step(self, mode: Mode, labels: Tensor) -> None: ...
    def end_forward(self, logits: Tensor, loss: Tensor) -> None: ...
    def end_backward(self, scale: Callable[[], float]) -> None: ...
    def end_step(self) -> bool:
        return False

    def end_evaluation(self) -> None: ...
    def end_training(self) -> None: ...


class _NoTimer:
    """Adds up nothing."""

    def mark(self, part: Part) -> None: ...
    def end_step(self, images: int, slowed: bool) -> None: ...


@dataclass(frozen=True)
class Watching:
    """Who watches a training."""

    inspector: Inspector
    timer: Timer


UNWATCHED = Watching(_NoInspector(), _NoTimer())

"""Where in an image a convolutional network sees the class that it answers: Grad-CAM (Selvaraju et al., 2017).

The last map of features that still has places is weighted by what each feature does for the class. Which map that is,
a network's own forward pass tells: it is the last point at which everything that is used later is one square map. So
it is found alike in all of torchvision's convolutional networks, and the gradient goes back no further than to it:
an explanation takes one forward pass a view, and little more memory than that.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from kennel.images.augment import apply_view
from kennel.model.classifier import Classifier

_MADE = "_kennel_made_by"  # the attribute of a tensor that holds the number of the call which made it last


class GradCam:
    """Heat maps of a classifier's answers, in float32 on the CPU."""

    def __init__(self, classifier: Classifier, size: int, views: Sequence[str] = ("original",)) -> None:
        """Take over `classifier`, in evaluation mode, for images of `size` x `size`.

        Its answer is the average of what it says of `views`.
        """
        self._network = classifier.requires_grad_(False)
        self._size = size
        self._views = tuple(views)

    def heat(self, image: NDArray[np.float32], index: int) -> NDArray[np.float32]:
        """Return what speaks for the class `index`, (S, S) from 0 to 1, for a normalized image (3, S, S).

        The greatest is 1, unless nothing in the image speaks for the class: then all is 0.
        """
        images = torch.from_numpy(np.ascontiguousarray(image))[None]
        total = torch.stack([apply_view(view, self._seen_in(view, images, index)) for view in self._views]).sum(dim=0)
        heat: NDArray[np.float32] = (total / total.max().clamp(min=torch.finfo().tiny))[0, 0].numpy()
        return heat

    def _seen_in(self, view: str, images: Tensor, index: int) -> Tensor:
        """Return the heat (1, 1, S, S) in a view, and as that view shows the image."""
        features, logits = from_last_map(self._network, apply_view(view, images), self._call)
        [gradient] = torch.autograd.grad(logits[0, index], features)
        features = features.detach()
        heat = (gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1, keepdim=True).relu()
        return functional.interpolate(heat, images.shape[-2:], mode="bilinear", align_corners=False)

    @cached_property
    def _call(self) -> int:
        return find_last_map(self._network, torch.zeros(1, 3, self._size, self._size))


def find_last_map(network: nn.Module, images: Tensor) -> int:
    """Return the number of the call, among those that a forward pass makes of torch, that makes the last map.

    All that is computed after it from the images (1, 3, S, S), is computed from that map alone.
    """
    calls = _Calls()
    with calls:
        network(images)
    earliest = len(calls.inputs)  # among what the calls after this one take
    for number in reversed(range(len(calls.inputs))):
        if calls.is_map[number] and earliest >= number:
            return number
        earliest = min(earliest, calls.inputs[number])
    raise ValueError(f"{type(network).__name__} makes no map of an image")


def from_last_map(network: nn.Module, images: Tensor, call: int) -> tuple[Tensor, Tensor]:
    """Return the map that `call` makes, and what `network` makes of it in the end, as a function of that map."""
    cut = _Cut(call)
    with cut:
        answer: Tensor = network(images)
    assert cut.made is not None
    return cut.made, answer


class _Calls(TorchFunctionMode):
    """Keeps of each call of torch what `find_last_map` asks for; tensors live no longer than they do without it."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[int] = []  # the earliest call that made something that this one takes
        self.is_map: list[bool] = []  # whether it makes a single square of more than one place

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        number = len(self.inputs)
        taken = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self.inputs.append(min((getattr(tensor, _MADE, number) for tensor in taken), default=number))
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                setattr(leaf, _MADE, number)
        self.is_map.append(isinstance(result, Tensor) and result.ndim == 4 and result.shape[2] == result.shape[3] > 1)
        return result


class _Cut(TorchFunctionMode):
    """Lets a network go on from the result of one call as if that had been given to it."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.made: Tensor | None = None
        self._left = call

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self._left -= 1
        if self._left != -1:
            return result
        self.made = result.detach().requires_grad_()
        return self.made.clone()  # what comes next may work in place

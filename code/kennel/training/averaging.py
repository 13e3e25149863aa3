"""The moving average of a network's weights, which is often a better model than the weights of any one step."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """A copy of a network that holds the exponential moving average of its weights.

    Batch norm's running statistics are averaged like weights, as in timm's ModelEmaV2; whole numbers are taken as they
    are. In the first steps the average keeps less than `decay` says, min(decay, (1 + steps) / (10 + steps)) as in
    TensorFlow's `ExponentialMovingAverage`, so that it forgets the first weights in a short training too.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Begin with the weights that `module` has now; `decay` is the share of the average that a step keeps."""
        self._module = copy.deepcopy(module).eval().requires_grad_(False)
        self._decay = decay
        self._steps = 0

    @property
    def module(self) -> nn.Module:
        """The averaged network, in eval mode, without gradients: to validate and to save."""
        return self._module

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the weights of `module` (not of its distributed wrapper) after an optimizer's step."""
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        self._steps += 1
        averaged, current = _tensors(self._module), _tensors(module)
        pairs = [pair for pair in zip(averaged, current, strict=True) if pair[0].is_floating_point()]
        torch._foreach_lerp_([mine for mine, _ in pairs], [new for _, new in pairs], 1 - decay)
        for mine, new in zip(averaged, current, strict=True):
            if not mine.is_floating_point():
                mine.copy_(new)

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on exactly here: `steps`, and `weights` that are no copies."""
        return {"steps": self._steps, "weights": self._module.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self._steps = state["steps"]
        self._module.load_state_dict(state["weights"])


def _tensors(module: nn.Module) -> list[Tensor]:
    """Return all weights and buffers."""
    return [*(parameter.detach() for parameter in module.parameters()), *module.buffers()]

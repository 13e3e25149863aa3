"""The names of a network's tensors, as smdebug's hook gives them (contract D2.3)."""

from torch import nn

LOSS = "CrossEntropyLoss_output_0"
LABELS, PREDICTIONS = "labels", "predictions"
_CALLED = ((nn.ReLU, "relu"), (nn.ReLU6, "relu"), (nn.Tanh, "tanh"), (nn.Sigmoid, "sigmoid"))


def parameter_name(root: nn.Module, name: str) -> str:
    """Return the name of a parameter that `root` calls `name`; its gradient has `gradient/` before it."""
    return f"{type(root).__name__}_{name}"


def module_names(root: nn.Module) -> dict[str, nn.Module]:
    """Return every module by the name that its inputs and outputs have, which end in `_input_0` and `_output_0`.

    An activation that the network has only numbered is also called by what it is, as AWS's expressions look for it:
    `features.0.2_relu`.
    """
    return {(_called(path, module) if path else type(root).__name__): module for path, module in root.named_modules()}


def _called(path: str, module: nn.Module) -> str:
    kind = next((word for known, word in _CALLED if isinstance(module, known)), None)
    return path if kind is None or kind in path.lower() else f"{path}_{kind}"

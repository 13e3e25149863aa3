"""Pretrained weights for user functions that ask torchvision for them, from the image instead of the network."""

import os
from pathlib import Path

from kennel.model.weights_files import weights_at_hand
from kennel.serving.scratch import make_scratch

_TORCH_HOME = "TORCH_HOME"  # torch's own variable: where downloaded weights are looked for


def offer_weights(weights_dir: Path) -> None:
    """Let `models.resnet50(pretrained=True)` find the image's weights, where it has any.

    People build a network so before they load their own state dict into it.
    """
    files = weights_at_hand({}, weights_dir)
    if not files or _TORCH_HOME in os.environ:
        return
    from kennel.model.weights import link_for_torchvision  # noqa: PLC0415 - torch is slow to import

    folder = make_scratch("torch")
    if link_for_torchvision(folder, files):
        os.environ[_TORCH_HOME] = str(folder)

"""Which weights of a network are trained, each how fast, and which of its layers behave as in training."""

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from kennel.errors import HyperparameterError
from kennel.hyperparameters import Hyperparameters
from kennel.model.blocks import backbone_blocks
from kennel.model.classifier import Classifier


def trained_blocks(backbone: nn.Module, hp: Hyperparameters) -> list[tuple[str, ...]]:
    """Return the blocks that `unfreeze` names, as names of parameters, from the input to the output.

    Raises HyperparameterError when the backbone has fewer.
    """
    blocks = list(backbone_blocks(hp.backbone, backbone))
    if hp.unfreeze in ("all", "auto"):
        return blocks
    count = int(hp.unfreeze)
    if count > len(blocks):
        raise HyperparameterError(
            f"unfreeze={count}: {hp.backbone} has {len(blocks)} blocks; use 1 to {len(blocks)}, or unfreeze=all"
        )
    return blocks[-count:]


def unfreeze(classifier: Classifier, hp: Hyperparameters) -> list[dict[str, Any]]:
    """Freeze what is not trained, and return parameter groups for the rest.

    The head and the last block have the learning rate `fine_tune_learning_rate`, each block below that of the one above
    it times `layer_decay` (ULMFiT's discriminative fine-tuning, arXiv:1801.06146, with the factor of BEiT's,
    arXiv:2106.08254). Biases and norms are not pulled towards zero.
    """
    blocks = trained_blocks(classifier.backbone, hp)
    weights = dict(classifier.backbone.named_parameters())
    for weight in weights.values():
        weight.requires_grad_(False)
    layers = [[weights[name] for name in block] for block in reversed(blocks)]
    layers[0] += classifier.head.parameters()
    groups: list[dict[str, Any]] = []
    for depth, layer in enumerate(layers):
        rate = hp.fine_tune_learning_rate * hp.layer_decay**depth
        for weight in layer:
            weight.requires_grad_(True)
        plain = {"params": [w for w in layer if w.ndim > 1], "lr": rate}
        free = {"params": [w for w in layer if w.ndim <= 1], "lr": rate, "weight_decay": 0.0}
        groups += [group for group in (plain, free) if group["params"]]
    return groups


def train_mode(classifier: Classifier, norms: bool) -> None:
    """Let every layer behave as in training, but those of frozen blocks and, unless `norms`, the batch norms.

    A pretrained network keeps the statistics of its batch norms: a few hundred photos in small batches make worse ones,
    and processes that share a batch would each make their own.
    """
    classifier.train()
    for module in classifier.backbone.modules():
        weights = list(module.parameters())
        frozen = bool(weights) and not any(weight.requires_grad for weight in weights)
        if frozen or (isinstance(module, _BatchNorm) and not norms):
            module.eval()

"""The loss that training lowers: cross-entropy with smoothed labels, weighted classes and mixed labels.

It comes row by row, with the weight of each row. The loss of a batch is the sum of the losses over the sum of the
weights, and both sums can be added up over several processes first.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor


def row_losses(
    logits: Tensor, labels: Tensor, smoothing: float = 0.0, class_weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the weighted loss and the weight of each row, both (B,) float32.

    The sum of losses over the sum of weights is torch's own mean, `cross_entropy(…, weight=class_weights,
    label_smoothing=smoothing)`. `logits` (B, classes) may be of half precision, `labels` are (B,) int64,
    `class_weights` (classes,) float32 or None where classes count alike.
    """
    losses = F.cross_entropy(logits.float(), labels, class_weights, reduction="none", label_smoothing=smoothing)
    return losses, torch.ones_like(losses) if class_weights is None else class_weights[labels]


def mixed_row_losses(
    logits: Tensor,
    labels: Tensor,
    other_labels: Tensor,
    share: float,
    smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return losses and weights as `row_losses`, of images of which a `share` has `labels` and the rest `other_labels`.

    These are the images that `kennel.training.mixing.mix` makes.
    """
    logits = logits.float()
    losses, weights = row_losses(logits, labels, smoothing, class_weights)
    if share == 1:
        return losses, weights
    other_losses, other_weights = row_losses(logits, other_labels, smoothing, class_weights)
    return share * losses + (1 - share) * other_losses, share * weights + (1 - share) * other_weights

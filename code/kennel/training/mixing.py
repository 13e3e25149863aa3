"""Batches whose images are blended in pairs, and whose labels are shared between the two.

Mixup is Zhang et al. 2018 (arXiv:1710.09412), CutMix Yun et al. 2019 (arXiv:1905.04899), drawn once a batch as in timm.
"""

import numpy as np
import torch
from torch import Tensor


def mix(
    images: Tensor, labels: Tensor, mixup_alpha: float, cutmix_alpha: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, float]:
    """Blend normalized `images` (B, 3, S, S), in place, each with the one before it in the batch.

    Returns the images, the labels (B,) of those they were blended with, and the share of its own image in each, from 0
    to 1: the loss is share · CE(labels) + (1 - share) · CE(other labels). An alpha of 0 switches its kind off; where
    both are set, each batch draws one. The first image is blended with the last; one alone stays as it is.

    `generator` is on the CPU, and moves on equally far for batches of any size. Processes that share a batch, and
    whose generators are in the same state, draw the same kind, share and rectangle, and blend within their own rows.
    """
    if not mixup_alpha and not cutmix_alpha:
        return images, labels, 1.0
    # torch's own beta distribution takes no generator
    seed = int(torch.randint(2**62, (), generator=generator))
    random = np.random.default_rng(seed)
    cut = not mixup_alpha or (cutmix_alpha > 0 and random.random() < 0.5)
    alpha = cutmix_alpha if cut else mixup_alpha
    share = float(random.beta(alpha, alpha))
    if cut:
        share = _paste(images, share, random)
    else:
        images.lerp_(images.roll(1, 0), 1 - share)
    return images, labels.roll(1, 0), share


def _paste(images: Tensor, share: float, random: np.random.Generator) -> float:
    """Paste a rectangle of each image's partner into it, and return the share of itself that is left.

    The rectangle has 1 - `share` of the area, and loses what reaches over the edge.
    """
    height, width = images.shape[2:]
    side = (1 - share) ** 0.5
    top, bottom = _span(height, side, random)
    left, right = _span(width, side, random)
    box = images[:, :, top:bottom, left:right]
    box.copy_(box.roll(1, 0))
    return 1 - (bottom - top) * (right - left) / (height * width)


def _span(length: int, part: float, random: np.random.Generator) -> tuple[int, int]:
    """Return begin and end of a `part` of `length`, around a point drawn evenly."""
    middle, wide = int(random.integers(length)), int(length * part)
    begin = middle - wide // 2
    return max(begin, 0), min(begin + wide, length)

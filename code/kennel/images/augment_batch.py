"""What training does to a batch of packed images before the network sees them: mirrored, moved and recoloured.

RandAugment is Cubuk et al. 2019 (arXiv:1909.13719), TrivialAugment the wide one of Müller and Hutter 2021
(arXiv:2103.10158), both with the tables, signs and defaults of `torchvision.transforms.autoaugment`.

What to do is drawn on the CPU for a whole batch at once (`draw_changes`), then done on the device that the images are
on (`augment_batch`): the draws depend neither on the device nor on how many processes share the batch, where each
process draws for the whole batch and takes its rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kennel.images import augment_operations as operate
from kennel.images.augment_operations import MOVING, OPERATIONS

_BINS = 31  # steps of a table of magnitudes
_RANDAUGMENT_BIN = 9  # the step that RandAugment always takes
_ROUNDS = {"none": 0, "flip": 0, "randaugment": 2, "trivialaugment": 1}  # operations an image
_SIGNED = torch.tensor([name in (*MOVING, "Brightness", "Color", "Contrast", "Sharpness") for name in OPERATIONS])

_RECOLOURING: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Brightness": operate.brightness,
    "Color": operate.color,
    "Contrast": operate.contrast,
    "Sharpness": operate.sharpness,
    "Posterize": operate.posterize,
    "Solarize": operate.solarize,
    "AutoContrast": lambda images, _: operate.autocontrast(images),
    "Equalize": lambda images, _: operate.equalize(images),
}
_KINDS = ("Identity", "move", *_RECOLOURING)  # what is done in one go
_KIND_OF = torch.tensor([_KINDS.index("move" if name in MOVING else name) for name in OPERATIONS])


@dataclass(frozen=True)
class Changes:
    """What is to be done to each image of a batch, on the CPU."""

    mirrored: Tensor  # (B,) bool
    operations: Tensor  # (B, rounds) int64, indices into OPERATIONS
    magnitudes: Tensor  # (B, rounds) float32, in each operation's own unit, with its sign

    def rows(self, rows: slice | Tensor) -> "Changes":
        """Return what is to be done to some of the images."""
        return Changes(self.mirrored[rows], self.operations[rows], self.magnitudes[rows])


def draw_changes(augment: str, count: int, side: int, generator: torch.Generator) -> Changes:
    """Draw for `count` images of `side` pixels what the hyperparameter `augment` asks for.

    `generator` is on the CPU, and moves on equally far for equal counts. With `none` nothing is drawn.
    """
    if augment == "none":
        mirrored = torch.zeros(count, dtype=torch.bool)
    else:
        mirrored = torch.randint(2, (count,), generator=generator).bool()
    shape = (count, _ROUNDS[augment])
    if not shape[1]:
        return Changes(mirrored, torch.zeros(shape, dtype=torch.int64), torch.zeros(shape))
    operations = torch.randint(len(OPERATIONS), shape, generator=generator)
    if augment == "randaugment":
        bins = torch.full(shape, _RANDAUGMENT_BIN)
    else:
        bins = torch.randint(_BINS, shape, generator=generator)
    negative = torch.randint(2, shape, generator=generator).bool() & _SIGNED[operations]
    magnitudes = magnitude_table(augment, side)[operations, bins]
    return Changes(mirrored, operations, torch.where(negative, -magnitudes, magnitudes))


def magnitude_table(augment: str, side: int) -> Tensor:
    """Return the magnitudes (operations, 31) float32 of `randaugment` or `trivialaugment`, weakest first.

    Shears are slopes, translations whole pixels, rotations degrees; blends are the distance from the image itself,
    posterize has bits that stay, solarize the lowest value that is turned.
    """
    wide = augment == "trivialaugment"
    shear, degrees, blend, bits = (0.99, 135.0, 0.99, 6) if wide else (0.3, 30.0, 0.9, 4)
    pixels = 32.0 if wide else 150.0 / 331.0 * side
    table = torch.zeros(len(OPERATIONS), _BINS)
    for name, highest in (
        *(("ShearX", shear), ("ShearY", shear), ("TranslateX", pixels), ("TranslateY", pixels), ("Rotate", degrees)),
        *((name, blend) for name in ("Brightness", "Color", "Contrast", "Sharpness")),
    ):
        table[OPERATIONS.index(name)] = torch.linspace(0.0, highest, _BINS)
    for name in ("TranslateX", "TranslateY"):
        table[OPERATIONS.index(name)].trunc_()
    table[OPERATIONS.index("Posterize")] = 8 - (torch.arange(_BINS) / ((_BINS - 1) / bits)).round()
    table[OPERATIONS.index("Solarize")] = torch.linspace(255.0, 0.0, _BINS)
    return table


def augment_batch(images: Tensor, changes: Changes) -> Tensor:
    """Return `images` (B, S, S, 3) uint8, changed, on the device that they are on; they themselves stay as they are."""
    side, device = images.shape[1], images.device
    if changes.mirrored.any():
        mirrored = changes.mirrored.to(device, non_blocking=True)
        images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(2), images)
    for operations, magnitudes in zip(changes.operations.T, changes.magnitudes.T, strict=True):
        kinds = _KIND_OF[operations]
        order = kinds.argsort(stable=True)  # equal kinds lie together, and go together
        sizes = kinds.bincount(minlength=len(_KINDS)).tolist()
        matrices = operate.source_matrices(operations[order], magnitudes[order], side)
        rows = order.to(device, non_blocking=True)
        parts = zip(
            _KINDS,
            torch.split(images.index_select(0, rows), sizes),
            torch.split(magnitudes[order].to(device, non_blocking=True), sizes),
            torch.split(matrices.to(device, non_blocking=True), sizes),
            strict=True,
        )
        changed = [_apply(kind, *part) for kind, *part in parts if len(part[0])]
        images = torch.empty_like(images).index_copy_(0, rows, torch.cat(changed))
    return images


def _apply(kind: str, images: Tensor, magnitudes: Tensor, matrices: Tensor) -> Tensor:
    if kind == "Identity":
        return images
    return operate.move(images, matrices) if kind == "move" else _RECOLOURING[kind](images, magnitudes)

"""The operations of RandAugment and TrivialAugment, each on many images at once with a magnitude of its own an image.

They give what torchvision's give on uint8 tensors (`torchvision.transforms.functional`, with its defaults: the nearest
pixel where an image is moved, black where nothing is left of it). Images stay (n, S, S, 3) uint8, as they are packed:
moving a pixel then moves its three bytes, and the result is channels-last already. No sum depends on how many images
there are, and nothing waits for the device.
"""

import torch
from torch import Tensor

# torchvision's names in torchvision's order
OPERATIONS = (
    *("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast"),
    *("Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize"),
)
MOVING = OPERATIONS[1:6]  # all five are one `move`, each with its matrix


def source_matrices(operations: Tensor, magnitudes: Tensor, side: int) -> Tensor:
    """Return where each image's pixels come from, (n, 2, 3) float32: (x', y') = matrix · (x, y, 1) in pixels.

    `operations` (n,) int64 points into OPERATIONS, and those that move nothing get the identity. Pixel centres lie at
    halves. Images turn about their centre and are sheared from their upper left corner, as in torchvision.
    """

    def of(name: str) -> Tensor:
        return torch.where(operations == OPERATIONS.index(name), magnitudes.double(), 0.0)

    angle = torch.deg2rad(of("Rotate"))
    cos, sin, centre = angle.cos(), angle.sin(), side / 2
    x = torch.stack((cos, of("ShearX") - sin, centre * (1 - cos + sin) - of("TranslateX")), 1)
    y = torch.stack((of("ShearY") + sin, cos, centre * (1 - cos - sin) - of("TranslateY")), 1)
    return torch.stack((x, y), 1).float()


def move(images: Tensor, matrices: Tensor) -> Tensor:
    """Take each pixel from where `matrices` (n, 2, 3) float32 says: the nearest one, or black from outside."""
    count, side = images.shape[:2]
    centres = torch.arange(side, device=images.device) + 0.5
    across, down = centres.view(1, 1, side), centres.view(1, side, 1)

    def source(row: Tensor) -> Tensor:
        a, b, shift = row.view(count, 3, 1, 1).unbind(1)
        return (a * across + b * down + (shift - 0.5)).round_()  # (n, S, S) whole numbers

    x, y = source(matrices[:, 0]), source(matrices[:, 1])
    outside = (x < 0) | (x >= side) | (y < 0) | (y >= side)
    first = torch.arange(count, device=images.device).view(count, 1, 1) * side * side
    pixels = (y * side + x).long().masked_fill_(outside, 0).add_(first)  # exact in float32 up to 4,096 pixels a side
    moved = images.reshape(-1, 3).index_select(0, pixels.view(-1)).view(images.shape)
    return moved.masked_fill_(outside.unsqueeze(-1), 0)


def brightness(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Blend with black; magnitude -1 is black, 0 the image."""
    return _blend(images, torch.zeros((), device=images.device), magnitudes)


def color(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Blend with the image's own grey; magnitude -1 is grey, 0 the image."""
    return _blend(images, _grey(images), magnitudes)


def contrast(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Blend with the mean grey of the image; magnitude -1 is that grey, 0 the image."""
    # whole numbers are added up, so that the sum does not depend on its order
    mean = _grey(images).to(torch.int32).sum((1, 2, 3), keepdim=True) / images[0, ..., 0].numel()
    return _blend(images, mean, magnitudes)


def sharpness(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Blend with the smoothed image; magnitude -1 is smooth, 0 the image. The outermost pixels stay."""
    whole = images.to(torch.int16)
    rows = whole[:, :-2] + whole[:, 1:-1] + whole[:, 2:]
    sums = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:] + 4 * whole[:, 1:-1, 1:-1]
    smooth = images.float()
    smooth[:, 1:-1, 1:-1] = (sums / 13).round_()  # the kernel is 1 all around and 5 in the middle
    return _blend(images, smooth, magnitudes)


def posterize(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Keep the highest bits, as many as `magnitudes` say."""
    return images & _each(256 - 2 ** (8 - magnitudes)).to(torch.uint8)


def solarize(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Turn all values of `magnitudes` and above into their negatives."""
    return torch.where(images >= _each(magnitudes), 255 - images, images)


def autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel from its darkest and its brightest value to 0 and 255; a flat channel stays."""
    darkest, brightest = images.amin((1, 2), keepdim=True).float(), images.amax((1, 2), keepdim=True).float()
    flat = darkest == brightest
    stretched = (images - darkest.masked_fill(flat, 0)) * (255 / (brightest - darkest)).masked_fill(flat, 1)
    return stretched.clamp_(0, 255).to(torch.uint8)


def equalize(images: Tensor) -> Tensor:
    """Let all values be about equally frequent in each channel, with Pillow's rounding; a flat channel stays."""
    channels = images.flatten(1, 2).transpose(1, 2).long()  # (n, 3, S·S)
    counts = channels.new_zeros((*channels.shape[:2], 256)).scatter_add_(2, channels, torch.ones_like(channels))
    at_brightest = counts.gather(2, channels.amax(2, keepdim=True))
    step = (channels.shape[2] - at_brightest) // 255  # (n, 3, 1)
    below = counts.cumsum(2) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(0, 255)
    table = torch.where(step == 0, torch.arange(256, device=images.device), table)
    return table.gather(2, channels).to(torch.uint8).transpose(1, 2).reshape(images.shape)


def _each(values: Tensor) -> Tensor:
    """Return (n,) so that it meets images one by one."""
    return values.view(-1, 1, 1, 1)


def _grey(images: Tensor) -> Tensor:
    """Return the brightness (n, S, S, 1) float32, in whole numbers, with the weights of ITU-R 601."""
    red, green, blue = images.unbind(-1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).floor_().unsqueeze(-1)


def _blend(images: Tensor, other: Tensor, magnitudes: Tensor) -> Tensor:
    """Return `other` at magnitude -1, the images at 0, and what lies beyond them above."""
    distance = _each(magnitudes)
    return ((1 + distance) * images - distance * other).clamp_(0, 255).to(torch.uint8)

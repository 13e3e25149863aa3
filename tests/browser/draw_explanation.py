"""Draw the README's heat map: `python -m tests.browser.draw_explanation mobilenet_v2.pth`.

It shows drawn shapes, which are nobody's photos, to a MobileNetV2 whose head was fitted to tell them apart.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn

from kennel.engines.grad_cam import GradCam
from kennel.images.preprocess import Preprocessing
from kennel.model.backbones import build_backbone, load_weights
from kennel.model.classifier import Classifier, make_head
from kennel.serving.explain import lay_over

SHAPES = ("circle", "square", "star")
SIDE = 224
DRAWN = 40  # of each shape, to fit the head to
FILE = Path(__file__).parent / "screenshots" / "explanation.png"


def draw(shape, noise):
    """Return one shape somewhere on a grey ground, (224, 224, 3) uint8."""
    ground = Image.new("RGB", (SIDE, SIDE), tuple(int(value) for value in noise.integers(150, 230, 3)))
    pen, radius = ImageDraw.Draw(ground), int(noise.integers(38, 52))
    x, y = (int(noise.integers(radius + 4, SIDE - radius - 4)) for _ in range(2))
    colour = tuple(int(value) for value in noise.integers(0, 140, 3))
    if shape == "circle":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    elif shape == "square":
        pen.rectangle((x - radius, y - radius, x + radius, y + radius), fill=colour)
    else:
        angles = np.arange(10) * np.pi / 5
        reach = np.where(np.arange(10) % 2, radius * 0.45, radius * 1.2)
        pen.polygon([(x + r * np.sin(a), y - r * np.cos(a)) for a, r in zip(angles, reach, strict=True)], fill=colour)
    return np.asarray(ground)


def main(weights):
    noise = np.random.default_rng(1)
    torch.manual_seed(0)
    preprocessing = Preprocessing.for_size(SIDE)
    backbone = build_backbone("mobilenet_v2").eval()
    load_weights(backbone, "mobilenet_v2", weights)
    drawn = np.stack([draw(shape, noise) for shape in SHAPES for _ in range(DRAWN)])
    images = torch.from_numpy(np.ascontiguousarray(preprocessing.normalize(drawn)))
    with torch.no_grad():
        features = torch.cat([backbone(part) for part in images.split(16)])
    head, classes = make_head(backbone, 128, 0.3, len(SHAPES)), torch.arange(len(SHAPES)).repeat_interleave(DRAWN)
    optimizer = torch.optim.AdamW(head.parameters(), 1e-3)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(features), classes).backward()
        optimizer.step()
    grad_cam = GradCam(Classifier(backbone, head).eval(), SIDE)
    tiles = []
    for index, shape in enumerate(SHAPES):
        pixels = draw(shape, noise)
        heat = grad_cam.heat(np.ascontiguousarray(preprocessing.normalize(pixels[None])[0]), index)
        tiles += [pixels, lay_over(pixels.astype(np.float32), heat)]
    Image.fromarray(np.hstack(tiles)).resize((900, 150), Image.Resampling.LANCZOS).save(FILE, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

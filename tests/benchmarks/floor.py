"""The floor that jobs and searches are measured against: one decode and one forward of all images."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchvision

from kennel.engines.device import fast_precision, pick_device
from kennel.engines.torch_engine import FrozenBackbone
from kennel.images.index import index_images
from kennel.images.preprocess import Preprocessing
from kennel.machine import available_cores
from kennel.model.backbones import build_backbone, load_weights

DATA = Path(os.environ.get("KENNEL_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
WEIGHTS = DATA / "mobilenet_v2_imagenet.pth"
PLAIN_BATCH = 64  # what a data loader usually gives a network


@dataclass(frozen=True)
class Floor:
    """Seconds for all images of the data set."""

    decode: float
    plain: float  # one forward, eager, in the fast precision, channels-last, in batches of 64
    folded: float  # one forward as Kennel does it

    @property
    def seconds(self) -> float:
        """One decode and one plain forward."""
        return self.decode + self.plain


def precision() -> str:
    """Return the name of the precision that a frozen backbone runs in here."""
    return str(fast_precision(pick_device())).removeprefix("torch.")


def measure_floor(backbone_name: str, weights: Path) -> Floor:
    """Return the floor of a network on dogs10."""
    index = index_images({"training": DATA / "dogs10"})
    records = (*index.train, *index.valid, *index.test)
    preprocessing = Preprocessing.for_size(224)
    started = time.perf_counter()
    with ThreadPoolExecutor(available_cores()) as pool:
        pixels = np.stack(list(pool.map(lambda record: preprocessing.pixels(record.path.read_bytes()), records)))
    decode = time.perf_counter() - started

    device = pick_device()
    network = getattr(torchvision.models, backbone_name)()
    network.load_state_dict(torch.load(weights, weights_only=True))
    network.eval().to(device, fast_precision(device), memory_format=torch.channels_last)
    plain = time_forward(
        lambda images: network(torch.from_numpy(images).to(device, fast_precision(device))), pixels, PLAIN_BATCH
    )
    backbone = build_backbone(backbone_name)
    load_weights(backbone, backbone_name, weights)
    ours = FrozenBackbone(backbone, fast_precision(device)).to(device)
    return Floor(decode, plain, time_forward(ours.features, pixels, 16))


@torch.inference_mode()
def time_forward(forward, pixels: np.ndarray, batch: int) -> float:
    """Return the seconds that `forward` needs for all images, a first batch to warm up not counted."""
    preprocessing = Preprocessing.for_size(224)
    forward(preprocessing.normalize(pixels[:batch]))
    started = time.perf_counter()
    for start in range(0, len(pixels), batch):
        forward(preprocessing.normalize(pixels[start : start + batch]))
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started

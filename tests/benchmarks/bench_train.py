"""Time a training job, command to artifact, against the floor of one decode and one forward of the same images.

    make bench-train

Every figure is taken in this one run, on a cold cache; read the ratios, machines differ and are noisy.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
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


def main() -> None:
    """Measure the floor, a first job, and a second job that finds the first one's features; print a table."""
    if not WEIGHTS.exists():
        sys.exit(f"there is no {WEIGHTS}; name the folder of the test data with KENNEL_TEST_DATA")
    decode, plain, folded = measure_floor()
    home = tempfile.mkdtemp(prefix="kennel-bench-")
    try:
        first, second = time_job(home), time_job(home)
    finally:
        shutil.rmtree(home)
    floor = decode + plain
    print("| what | seconds | × floor |\n|---|---|---|")
    for what, seconds in (
        ("decode all images once", decode),
        (f"one forward each: eager, {precision()}, channels-last, batch {PLAIN_BATCH}", plain),
        ("**the floor: both**", floor),
        (f"one forward each as Kennel does it: {precision()}, batch norms folded, batch 16", folded),
        ("first job, `kennel train` to its last line, cold cache", first),
        ("second job, other seed, same images and backbone", second),
    ):
        print(f"| {what} | {seconds:.1f} | {seconds / floor:.2f} |")


def precision() -> str:
    """Return the name of the precision that a frozen backbone runs in here."""
    return str(fast_precision(pick_device())).removeprefix("torch.")


def measure_floor() -> tuple[float, float, float]:
    """Return the seconds of decoding all images, of a plain forward over them, and of our forward over them."""
    index = index_images({"training": DATA / "dogs10"})
    records = (*index.train, *index.valid, *index.test)
    preprocessing = Preprocessing.for_size(224)
    started = time.perf_counter()
    with ThreadPoolExecutor(available_cores()) as pool:
        pixels = np.stack(list(pool.map(lambda record: preprocessing.pixels(record.path.read_bytes()), records)))
    decode = time.perf_counter() - started

    device = pick_device()
    network = torchvision.models.mobilenet_v2()
    network.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    network.eval().to(device, fast_precision(device), memory_format=torch.channels_last)
    plain = time_forward(
        lambda images: network(torch.from_numpy(images).to(device, fast_precision(device))), pixels, PLAIN_BATCH
    )
    backbone = build_backbone("mobilenet_v2")
    load_weights(backbone, "mobilenet_v2", WEIGHTS)
    ours = FrozenBackbone(backbone, fast_precision(device)).to(device)
    return decode, plain, time_forward(ours.features, pixels, 16)


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


def time_job(home: str) -> float:
    """Return the seconds of one `kennel train` on all defaults but the backbone."""
    kennel = Path(sys.executable).with_name("kennel")
    command = [kennel, "train", "--data", DATA / "dogs10", "--weights", WEIGHTS, "--backbone", "mobilenet_v2"]
    started = time.perf_counter()
    seed = str(time.time_ns() % 1000)
    environment = {**os.environ, "KENNEL_HOME": home}
    done = subprocess.run([*command, "--seed", seed], env=environment, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    print(next(line for line in done.stdout.splitlines() if line.startswith("best_epoch=")), flush=True)
    return seconds


if __name__ == "__main__":
    main()

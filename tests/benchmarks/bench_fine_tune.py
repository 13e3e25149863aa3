"""Time fine-tuning against the bare training step, against the usual loop, and features against the bare forward.

    make bench-fine-tune
    python -m tests.benchmarks.bench_fine_tune mobilenet_v2:64 resnet50:128 --rounds 5

Every figure of a case (backbone:batch) is taken in this one run, one after the other in each round, and is the median
of the rounds; read the ratios, machines differ and are noisy. Kennel's figure is that of its real loop, from packed
images, one epoch's line to the next. Validation is in it, but sees one image a class; the decoding, the training of
the head and the first epoch of fine-tuning are not. The usual loop is the same training as course projects write it,
decoding included.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
import torchvision
from torch import nn
from torchvision import transforms

from kennel.cache import Cache
from kennel.engines.device import describe_device, fast_precision, pick_device
from kennel.engines.torch_engine import FrozenBackbone
from kennel.hyperparameters import parse_hyperparameters
from kennel.images.index import index_images
from kennel.images.pack import pack_images
from kennel.images.preprocess import Preprocessing
from kennel.machine import available_cores
from kennel.model.backbones import build_backbone, load_weights
from kennel.model.classifier import Classifier, make_head
from kennel.training.features import extract_features
from kennel.training.fine_tuning import train_mode
from kennel.training.job import Job
from kennel.training.progress import StopSignal
from kennel.training.run import Trainer
from tests.benchmarks.bench_tune import random_weights
from tests.benchmarks.floor import DATA, WEIGHTS, precision

SIDE, CLASSES = 224, 10
PLAIN_BATCH = 64  # of the bare forward: what a data loader usually gives a network
CPU_CASES = ("mobilenet_v2:64",)
GPU_CASES = (*CPU_CASES, "resnet50:64", "resnet50:128", "resnet50:256")


@dataclass(frozen=True)
class Options:
    """How much of everything is measured."""

    rounds: int
    epochs: int  # of fine-tuning a round, of which the first is not timed
    steps: int  # of the bare loops
    usual: int  # images of the usual loop


@dataclass(frozen=True)
class Case:
    """What is trained, and on what."""

    backbone: str
    batch: int
    weights: Path
    data: Path  # train, valid and test
    work: Path  # a folder for what a job writes
    cache: Path  # of jobs: photos are decoded once for all cases


def main() -> None:
    """Measure each case, and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    gpu = pick_device().type == "cuda"
    cases = GPU_CASES if gpu else CPU_CASES
    parser.add_argument("cases", nargs="*", default=cases, help=f"backbone:batch; default {' '.join(cases)}")
    parser.add_argument("--rounds", type=int, default=3, help="times that everything is measured (%(default)s)")
    parser.add_argument("--epochs", type=int, default=3 if gpu else 2, help="of fine-tuning a round (%(default)s)")
    parser.add_argument("--steps", type=int, default=50 if gpu else 6, help="of the bare loops (%(default)s)")
    parser.add_argument("--usual", type=int, default=128, help="images of the usual loop (%(default)s)")
    parser.add_argument("--copies", type=int, default=20 if gpu else 1, help="of each photo (%(default)s)")
    given = parser.parse_args()
    if given.epochs < 2:
        parser.error("--epochs must be 2 or more: the first is not timed")
    if not WEIGHTS.exists():
        sys.exit(f"there is no {WEIGHTS}; name the folder of the test data with KENNEL_TEST_DATA")
    torch.set_num_threads(available_cores())
    print(f"{describe_device(pick_device())}, torch {torch.__version__}, {precision()}")
    folder = Path(tempfile.mkdtemp(prefix="kennel-bench-"))
    try:
        data = link_photos(folder / "data", given.copies)
        for name in given.cases:
            backbone, _, batch = name.partition(":")
            weights = WEIGHTS if backbone == "mobilenet_v2" else random_weights(backbone, folder)
            case = Case(backbone, int(batch or 64), weights, data, folder / "work", folder / "cache")
            measure(case, Options(given.rounds, given.epochs, given.steps, given.usual))
    finally:
        shutil.rmtree(folder)


def link_photos(folder: Path, copies: int) -> Path:
    """Link the training photos of dogs10, each under several names, and one photo a class to validate and to test."""
    for breed in sorted((DATA / "dogs10" / "train").iterdir()):
        photos = sorted(breed.iterdir())
        for split, chosen, times in (("train", photos, copies), ("valid", photos[:1], 1), ("test", photos[:1], 1)):
            (folder / split / breed.name).mkdir(parents=True)
            for copy in range(times):
                for photo in chosen:
                    (folder / split / breed.name / f"{copy}-{photo.name}").symlink_to(photo.resolve())
    return folder


def measure(case: Case, options: Options) -> None:
    """Print the table of one case."""
    kennel, features = kennel_epochs(case, options.epochs), kennel_features(case)
    measures: dict[str, Callable[[], float]] = {
        "step": lambda: bare_step(case, options.steps),
        "kennel": kennel,
        "usual": lambda: usual_loop(case, options.usual),
        "forward": lambda: bare_forward(case, options.steps),
        "features": features,
    }
    rounds: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(options.rounds):
        for name, take in measures.items():
            rounds[name].append(take())
            print(f"round {number + 1}: {name} {rounds[name][-1]:.1f} images/s", file=sys.stderr, flush=True)
    rate = {name: statistics.median(taken) for name, taken in rounds.items()}
    print(f"\n### {case.backbone}, batch {case.batch}\n")
    print("| what | images/s | lowest – highest | × bare | × usual loop |\n|---|---|---|---|---|")
    for name, what, bare in (
        (
            "step",
            f"the bare step: forward, backward, AdamW; {precision()}, channels-last, images on the device",
            "step",
        ),
        ("kennel", "**`unfreeze=all` from packed images, mirrored at random**", "step"),
        ("usual", f"the usual loop: Pillow, float32, {case.batch} a step, no workers", "step"),
        (
            "forward",
            f"the bare forward: {precision()}, channels-last, batch {PLAIN_BATCH}, images on the device",
            "forward",
        ),
        ("features", "**features of a frozen backbone from packed images**", "forward"),
    ):
        spread = f"{shown(min(rounds[name]))} – {shown(max(rounds[name]))}"
        against_usual = f"{rate[name] / rate['usual']:.1f}" if bare == "step" else ""
        print(f"| {what} | {shown(rate[name])} | {spread} | {rate[name] / rate[bare]:.2f} | {against_usual} |")


def shown(rate: float) -> str:
    """Return images a second with about three digits."""
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.1f}"


def bare_step(case: Case, steps: int) -> float:
    """Return the images a second of training steps on images that lie on the device already."""
    device = pick_device()
    backbone = build_backbone(case.backbone)
    network = Classifier(backbone, make_head(backbone, 512, 0.5, CLASSES))
    network.to(device, memory_format=torch.channels_last)
    train_mode(network, norms=False)  # as Kennel's step: pretrained batch norms keep their statistics, which is quicker
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    half = fast_precision(device)
    scaler = torch.amp.GradScaler(device.type, enabled=half == torch.float16)
    images = synthetic(case.batch)
    labels = torch.arange(case.batch, device=device) % CLASSES

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, half, enabled=half != torch.float32):
            logits = network(images)
        scaler.scale(F.cross_entropy(logits.float(), labels)).backward()
        scaler.step(optimizer)
        scaler.update()

    return rate_of(step, steps, case.batch)


@torch.inference_mode()
def bare_forward(case: Case, steps: int) -> float:
    """Return the images a second of forwards of images that lie on the device already."""
    device = pick_device()
    half = fast_precision(device)
    network = build_backbone(case.backbone).eval().to(device, half, memory_format=torch.channels_last)
    images = synthetic(PLAIN_BATCH).to(half)
    return rate_of(lambda: network(images), steps, PLAIN_BATCH)


def synthetic(count: int) -> torch.Tensor:
    """Return noise on the device, (count, 3, 224, 224) float32, channels-last."""
    noise = torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return noise.to(pick_device(), memory_format=torch.channels_last)


def rate_of(step: Callable[[], object], steps: int, batch: int) -> float:
    """Return the images a second of `steps`, with cuDNN at its quickest, two steps to warm up not counted."""
    with quickest_cudnn():
        for _ in range(2):
            step()
        wait()
        started = time.perf_counter()
        for _ in range(steps):
            step()
        wait()
        return steps * batch / (time.perf_counter() - started)


@contextmanager
def quickest_cudnn() -> Iterator[None]:
    """Let cuDNN choose by trial, among inexact orders of additions too: Kennel's loop has its own settings."""
    before = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = True, False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = before


def wait() -> None:
    """Wait until the device has done all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def kennel_epochs(case: Case, epochs: int) -> Callable[[], float]:
    """Return what fine-tunes once, and returns the images a second of all epochs but the first."""
    values = {
        **{"backbone": case.backbone, "weights": str(case.weights), "unfreeze": "all", "image_size": str(SIDE)},
        **{"batch_size": str(case.batch), "epochs": str(epochs), "fine_tune_epochs": str(epochs)},
    }
    case.work.mkdir(exist_ok=True)
    job = Job(
        parse_hyperparameters(values),
        {"training": case.data},
        model_dir=case.work / "model",
        output_dir=case.work,
        cache_dir=case.cache,
        weights_dir=case.work,
    )
    trainer = Trainer(job, StopSignal())
    images = sum(1 for _ in (case.data / "train").glob("*/*"))

    def fit() -> float:
        ends: list[float] = []

        def on_epoch(epoch: int, metrics: object) -> bool:
            ends.append(time.perf_counter())
            return True

        trainer.fit(job.hyperparameters, on_epoch)
        timed = ends[-epochs:]  # those before are the head's
        return images * (epochs - 1) / (timed[-1] - timed[0])

    return fit


def kennel_features(case: Case) -> Callable[[], float]:
    """Return what computes the features of all training photos, and returns the images a second."""
    preprocessing, device = Preprocessing.for_size(SIDE), pick_device()
    records = index_images({"training": case.data}).train
    images = pack_images(records, preprocessing, Cache(case.cache), available_cores(), lambda done: None)
    fresh = Cache(case.work / "fresh")
    backbone = build_backbone(case.backbone)
    load_weights(backbone, case.backbone, case.weights)
    frozen = FrozenBackbone(backbone, fast_precision(device)).to(device)

    def extract() -> float:
        shutil.rmtree(fresh.root, ignore_errors=True)
        started = time.perf_counter()
        extract_features(frozen, images, preprocessing, "original", fresh, lambda done: None)
        return len(images) / (time.perf_counter() - started)

    extract()  # folds and warms up
    return extract


def usual_loop(case: Case, count: int) -> float:
    """Return the images a second of what most course projects write, with all weights trained, on some of the photos.

    Pillow in a DataLoader without workers, float32, planes of colour, Adam.
    """
    device = pick_device()
    normalize = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    varied = transforms.Compose(
        [transforms.RandomResizedCrop(SIDE), transforms.RandomHorizontalFlip(), transforms.ToTensor(), normalize]
    )
    images = torchvision.datasets.ImageFolder(str(DATA / "dogs10" / "train"), varied)
    count = min(max(count, case.batch), len(images))
    some = torch.utils.data.Subset(images, [place * len(images) // count for place in range(count)])
    loader = torch.utils.data.DataLoader(some, batch_size=case.batch, shuffle=True)
    backbone = build_backbone(case.backbone)
    network = nn.Sequential(backbone, make_head(backbone, 256, 0.3, CLASSES)).train().to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(images.to(device)), labels.to(device)).backward()
        optimizer.step()

    step(torch.zeros(2, 3, SIDE, SIDE), torch.zeros(2, dtype=torch.int64))
    wait()
    started = time.perf_counter()
    for batch, labels in loader:
        step(batch, labels)
    wait()
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    main()

"""Time a search, command to summary, against the usual student loop and the floor of one decode and one forward.

    make bench-tune

Every figure of a network is taken in this one run, on cold caches; read the ratios, machines differ and are noisy. The
loop is run once, and counted eight times. `python -m tests.benchmarks.bench_tune mobilenet_v2` leaves ResNet-50 out.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
import torchvision
from torch import nn
from torchvision import transforms

from tests.benchmarks.floor import DATA, WEIGHTS, measure_floor

TRIALS, EPOCHS, MANY = 8, 4, 32
LAST_LAYER = {"mobilenet_v2": ("classifier", 1280), "resnet50": ("fc", 2048)}
SPACE = (
    *("--range", "learning_rate=1e-4:1e-2:log", "--range", "dropout=0.2:0.6", "--choice", "fc_units=256,512"),
    *("--choice", "batch_size=32,64", "--choice", "optimizer=adamw,adam", "--static", f"epochs={EPOCHS}"),
)


def main() -> None:
    """Measure each network, and print its table."""
    if not WEIGHTS.exists():
        sys.exit(f"there is no {WEIGHTS}; name the folder of the test data with KENNEL_TEST_DATA")
    for backbone in sys.argv[1:] or LAST_LAYER:
        folder = Path(tempfile.mkdtemp(prefix="kennel-bench-"))
        try:
            weights = WEIGHTS if backbone == "mobilenet_v2" else random_weights(backbone, folder)
            measure(backbone, weights, folder)
        finally:
            shutil.rmtree(folder)


def random_weights(backbone: str, folder: Path) -> Path:
    """Write random weights: the time is that of real ones, the accuracy means nothing."""
    torch.manual_seed(0)
    torch.save(getattr(torchvision.models, backbone)().state_dict(), folder / "weights.pth")
    return folder / "weights.pth"


def measure(backbone: str, weights: Path, folder: Path) -> None:
    """Print the table of one network."""
    floor = measure_floor(backbone, weights)
    trial, accuracy = student_loop(backbone, weights)
    rows = [
        ("the floor: one decode, one plain forward", floor.seconds, None),
        (f"the student loop, {EPOCHS} epochs, once", trial, accuracy),
        (f"the student loop, {TRIALS} times", TRIALS * trial, accuracy),
    ]
    for what, options in (
        (f"`kennel tune`, {TRIALS} trials, two at a time", ("--jobs", TRIALS)),
        (f"`kennel tune --in-one-job`, {TRIALS} trials", ("--in-one-job", "--jobs", TRIALS)),
        (f"`kennel tune --in-one-job`, {MANY} trials", ("--in-one-job", "--jobs", MANY)),
    ):
        rows.append((what, *time_search(backbone, weights, folder, options)))
    print(f"\n### {backbone}\n\n| what | seconds | × floor | loop ÷ this | test accuracy |\n|---|---|---|---|---|")
    for what, seconds, reached in rows:
        shown = "" if reached is None or weights != WEIGHTS else f"{reached:.3f}"
        ratio = TRIALS * trial / seconds
        print(f"| {what} | {seconds:.1f} | {seconds / floor.seconds:.2f} | {ratio:.1f} | {shown} |")


def time_search(backbone: str, weights: Path, folder: Path, options: tuple[object, ...]) -> tuple[float, float]:
    """Return the seconds of a search on a cold cache, and the test accuracy of its best trial."""
    home = folder / "home"
    kennel = Path(sys.executable).with_name("kennel")
    command = [kennel, "tune", "--data", DATA / "dogs10", "--weights", weights, "--backbone", backbone, "--seed", "0"]
    command += [*SPACE, "--name", "bench", *options]
    started = time.perf_counter()
    done = subprocess.run(
        list(map(str, command)),
        check=False,
        env={**os.environ, "KENNEL_HOME": str(home)},
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(done.stderr)
    best = json.loads((home / "tuning/bench/tuning.json").read_text())["best"]
    job = best["job"] or "bench"
    status = json.loads((home / "training-jobs" / job / "status.json").read_text())
    metrics = {entry["MetricName"]: entry["Value"] for entry in status["FinalMetricDataList"]}
    print(f"{' '.join(map(str, options))}: {seconds:.1f} s, best {best}", file=sys.stderr, flush=True)
    shutil.rmtree(home)
    return seconds, metrics["test_accuracy"]


def student_loop(backbone: str, weights: Path) -> tuple[float, float]:
    """Run what most course projects run, and return its seconds and its test accuracy.

    A frozen backbone, a new last layer, float32, Pillow in a DataLoader without workers, a full pass of training and
    validation images an epoch, and a test in the end.
    """
    started = time.perf_counter()
    torch.set_num_threads(os.cpu_count() or 1)
    normalize = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    still = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), normalize])
    varied = transforms.Compose(
        [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), transforms.ToTensor(), normalize]
    )

    def loader(split: str, transform: transforms.Compose) -> torch.utils.data.DataLoader:
        images = torchvision.datasets.ImageFolder(str(DATA / "dogs10" / split), transform)
        return torch.utils.data.DataLoader(images, batch_size=64, shuffle=split == "train")

    network = getattr(torchvision.models, backbone)()
    network.load_state_dict(torch.load(weights, weights_only=True))
    network.requires_grad_(False)
    name, features = LAST_LAYER[backbone]
    setattr(network, name, nn.Sequential(nn.Linear(features, 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, 10)))
    optimizer = torch.optim.Adam(getattr(network, name).parameters(), lr=1e-3)
    train, valid, test = loader("train", varied), loader("valid", still), loader("test", still)
    for _ in range(EPOCHS):
        network.train()
        for images, labels in train:
            optimizer.zero_grad()
            F.cross_entropy(network(images), labels).backward()
            optimizer.step()
        accuracy(network, valid)
    reached = accuracy(network, test)
    return time.perf_counter() - started, reached


@torch.no_grad()
def accuracy(network: nn.Module, images: torch.utils.data.DataLoader) -> float:
    """Return the share of images that the network names rightly."""
    network.eval()
    right = sum(int((network(batch).argmax(1) == labels).sum()) for batch, labels in images)
    return right / len(images.dataset)


if __name__ == "__main__":
    main()

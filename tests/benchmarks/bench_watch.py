"""Time the steps of fine-tuning with everything that watches them against nobody watching.

    make bench-watch
    python -m tests.benchmarks.bench_watch --rounds 8 --epochs 4

Each round trains the same network twice, with and without, and each round begins with the other of the two. What is
timed is a whole step, from the end of the one before it in the same epoch; the steps that torch's profiler looks into,
and those before them, are left out of both. The ratio is the geometric mean over the rounds, with its 95 % confidence
interval.
"""

import argparse
import math
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from scipy import stats

from kennel.container.environment import Folders, TrainingEnvironment
from kennel.container.watching import watched
from kennel.engines.device import describe_device, pick_device
from kennel.hyperparameters import DECLARATIONS, parse_hyperparameters
from kennel.machine import available_cores
from kennel.training.job import Job
from kennel.training.progress import StopSignal
from kennel.training.run import Trainer
from kennel.training.watching import UNWATCHED, Part, Timer, Watching
from tests.benchmarks.bench_fine_tune import link_photos
from tests.benchmarks.floor import WEIGHTS, precision

START, LOOKED_INTO = (DECLARATIONS[name].default for name in ("profile_start_step", "profile_steps"))
LEFT_OUT = START + LOOKED_INTO  # the first steps of the network, of both


@dataclass
class Stopwatch:
    """A timer that times whole steps itself, and tells another timer all that it is told."""

    told: Timer
    steps: list[float] = field(default_factory=list)  # seconds, of the stage that is trained last
    _before: float | None = None  # the end of the step before, in the same epoch

    def mark(self, part: Part) -> None:
        self.told.mark(part)
        if part in ("start-up", "evaluation"):
            self._before = None
            if part == "start-up":
                self.steps.clear()

    def end_step(self, images: int) -> None:
        self.told.end_step(images)
        now = time.perf_counter()
        self.steps.append(math.nan if self._before is None else now - self._before)
        self._before = now


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="times that both are measured (%(default)s)")
    parser.add_argument("--epochs", type=int, default=4, help="of fine-tuning each time (%(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="images a step (%(default)s)")
    parser.add_argument("--size", type=int, default=224, help="side of an image (%(default)s)")
    given = parser.parse_args()
    if not WEIGHTS.exists():
        sys.exit(f"there is no {WEIGHTS}; name the folder of the test data with KENNEL_TEST_DATA")
    torch.set_num_threads(available_cores())
    print(f"{describe_device(pick_device())}, torch {torch.__version__}, {precision()}")
    folder = Path(tempfile.mkdtemp(prefix="kennel-bench-"))
    try:
        data = link_photos(folder / "data", 1)
        means: dict[bool, list[float]] = {True: [], False: []}
        medians: dict[bool, list[float]] = {True: [], False: []}
        for number in range(given.rounds):
            for watching in (True, False) if number % 2 else (False, True):
                steps = train(folder, data, given, watching)
                means[watching].append(statistics.mean(steps))
                medians[watching].append(statistics.median(steps))
                line = f"round {number + 1}: {'watched' if watching else 'alone'} {1000 * means[watching][-1]:.1f} ms"
                print(f"{line}, {len(steps)} steps", file=sys.stderr, flush=True)
        print("\n| a step | alone, ms | watched, ms | ratio | 95 % interval |\n|---|---|---|---|---|")
        for name, taken in (("mean", means), ("median", medians)):
            alone, with_all = (1000 * statistics.mean(taken[watching]) for watching in (False, True))
            middle, low, high = ratio(taken[True], taken[False])
            print(f"| {name} | {alone:.1f} | {with_all:.1f} | {middle:.3f} | {low:.3f} – {high:.3f} |")
    finally:
        shutil.rmtree(folder)


def train(folder: Path, data: Path, given: argparse.Namespace, is_watched: bool) -> list[float]:
    """Fine-tune once, and return the seconds of each step that counts."""
    values = {
        **{"backbone": "mobilenet_v2", "weights": str(WEIGHTS), "unfreeze": "all", "image_size": str(given.size)},
        **{"batch_size": str(given.batch), "epochs": "1", "fine_tune_epochs": str(given.epochs)},
    }
    work = Path(tempfile.mkdtemp(dir=folder))
    tree = Folders(work)
    hp = parse_hyperparameters(values)
    job = Job(hp, {"training": data}, tree.model, tree.output_data, folder / "cache", work)
    stop = StopSignal()
    environment = TrainingEnvironment(tree, {}, {}, folder / "cache", work, "", None, frozenset())
    with watched(job, environment, stop) if is_watched else nullcontext(UNWATCHED) as watching:
        stopwatch = Stopwatch(watching.timer)
        Trainer(job, stop, watching=Watching(watching.inspector, stopwatch)).fit(hp, lambda epoch, metrics: True)
        steps = [seconds for seconds in stopwatch.steps[LEFT_OUT:] if not math.isnan(seconds)]
    if len(steps) < 5:
        sys.exit(f"{len(steps)} steps are left to measure; take more --epochs, or a smaller --batch")
    return steps


def ratio(over: list[float], under: list[float]) -> tuple[float, float, float]:
    """Return the geometric mean of the ratios, and the ends of its 95 % confidence interval."""
    logs = [math.log(a / b) for a, b in zip(over, under, strict=True)]
    middle = statistics.mean(logs)
    if len(logs) < 2:
        return math.exp(middle), math.nan, math.nan
    room = float(stats.t.ppf(0.975, len(logs) - 1)) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(middle), math.exp(middle - room), math.exp(middle + room)


if __name__ == "__main__":
    main()

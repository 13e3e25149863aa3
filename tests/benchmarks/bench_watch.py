"""Time the steps of fine-tuning with everything that watches them against the same steps with nobody watching.

    make bench-watch
    python -m tests.benchmarks.bench_watch --epochs 20 --batch 32

Two processes train the same network, one watched as every job is, one not. They take turns of a few steps: each stops
itself, threads and all, and waits until the other has done its own, so that what else the machine does hits both alike.
The steps that torch's profiler looks into, and those before them, are left out of both. A turn of one is compared with
the other's turn beside it; the ratio is their geometric mean, with its 95 % confidence interval.
"""

import argparse
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
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

NAMES = ("alone", "watched")
LEFT_OUT = sum(DECLARATIONS[name].default for name in ("profile_start_step", "profile_steps"))  # steps, of both


class Turns:
    """A timer that times whole steps itself, tells another timer all that it is told, and stops after each turn."""

    def __init__(self, told: Timer, length: int) -> None:
        self.turns: list[float] = []  # mean seconds of a step in each turn; NaN where there was none to time
        self.is_network = False  # the head is not timed
        self._told, self._length = told, length
        self._steps: list[float] = []
        self._done = 0
        self._before: float | None = None  # the end of the step before, in the same epoch

    def mark(self, part: Part) -> None:
        self._told.mark(part)
        if part == "evaluation":
            self._before = None

    def end_step(self, images: int, slowed: bool) -> None:
        self._told.end_step(images, slowed)
        if not self.is_network:
            return
        now = time.perf_counter()
        if self._before is not None and self._done >= LEFT_OUT:
            self._steps.append(now - self._before)
        self._before = now
        self._done += 1
        if self._done % self._length == 0:
            self.turns.append(statistics.mean(self._steps) if self._steps else math.nan)
            self._steps = []
            os.kill(os.getpid(), signal.SIGSTOP)
            self._before = time.perf_counter()


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=12, help="of fine-tuning (%(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="images a step (%(default)s)")
    parser.add_argument("--size", type=int, default=224, help="side of an image (%(default)s)")
    parser.add_argument("--turn", type=int, default=3, help="steps of a turn (%(default)s)")
    parser.add_argument("--train", choices=NAMES, help=argparse.SUPPRESS)  # what the two processes are started with
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not WEIGHTS.exists():
        sys.exit(f"there is no {WEIGHTS}; name the folder of the test data with KENNEL_TEST_DATA")
    if given.train:
        print(json.dumps(train(given)))
        return
    torch.set_num_threads(available_cores())
    print(f"{describe_device(pick_device())}, torch {torch.__version__}, {precision()}")
    folder = Path(tempfile.mkdtemp(prefix="kennel-bench-"))
    try:
        link_photos(folder / "data", 1)
        turns = take_turns(folder)
    finally:
        shutil.rmtree(folder)
    pairs = [pair for pair in zip(*turns, strict=True) if not math.isnan(sum(pair))]
    if len(pairs) < 5:
        sys.exit(f"{len(pairs)} turns are left to compare; take more --epochs, or a smaller --batch")
    alone, with_all = (1000 * statistics.mean(values) for values in zip(*pairs, strict=True))
    middle, low, high = ratio(pairs)
    print("\n| turns of each | a step alone, ms | watched, ms | ratio | 95 % interval |\n|---|---|---|---|---|")
    print(f"| {len(pairs)} | {alone:.1f} | {with_all:.1f} | {middle:.3f} | {low:.3f} – {high:.3f} |")


def take_turns(folder: Path) -> list[list[float]]:
    """Let both train, one at a time, and return the turns of each."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_watch", *sys.argv[1:], "--folder", str(folder)]
    files = [folder / name for name in NAMES]
    processes = []
    for name, file in zip(NAMES, files, strict=True):  # each trains its head, and a first turn, before the next begins
        with file.open("w") as output:
            processes.append(subprocess.Popen([*command, "--train", name], stdout=output))
        _stopped(processes[-1])
    number = 0
    running = [True, True]
    while any(running):
        for which in (0, 1) if number % 2 else (1, 0):
            if running[which]:
                os.kill(processes[which].pid, signal.SIGCONT)
                running[which] = _stopped(processes[which])
        number += 1
    return [json.loads(file.read_text()) for file in files]


def _stopped(process: subprocess.Popen[bytes]) -> bool:
    """Wait until a process has stopped itself; return False when it has ended instead."""
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        return True
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"a training ended with {process.returncode}")
    return False


def train(given: argparse.Namespace) -> list[float]:
    """Fine-tune, and return the turns."""
    values = {
        **{"backbone": "mobilenet_v2", "weights": str(WEIGHTS), "unfreeze": "all", "image_size": str(given.size)},
        **{"batch_size": str(given.batch), "epochs": "1", "fine_tune_epochs": str(given.epochs)},
    }
    folder: Path = given.folder
    work = Path(tempfile.mkdtemp(dir=folder))
    tree = Folders(work)
    hp = parse_hyperparameters(values)
    job = Job(hp, {"training": folder / "data"}, tree.model, tree.output_data, folder / "cache", work)
    stop = StopSignal()
    environment = TrainingEnvironment(tree, {}, {}, folder / "cache", work, "", None, None, frozenset())
    with watched(job, environment, stop) if given.train == "watched" else nullcontext(UNWATCHED) as watching:
        turns = Turns(watching.timer, given.turn)

        def on_epoch(epoch: int, metrics: object) -> bool:
            turns.is_network = True
            return True

        Trainer(job, stop, watching=Watching(watching.inspector, turns)).fit(hp, on_epoch)
    return turns.turns


def ratio(pairs: list[tuple[float, ...]]) -> tuple[float, float, float]:
    """Return the geometric mean of the ratios, and the ends of its 95 % confidence interval."""
    logs = [math.log(with_all / alone) for alone, with_all in pairs]
    middle = statistics.mean(logs)
    room = float(stats.t.ppf(0.975, len(logs) - 1)) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(middle), math.exp(middle - room), math.exp(middle + room)


if __name__ == "__main__":
    main()

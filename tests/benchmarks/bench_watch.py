"""Time the steps of fine-tuning with everything that watches them against the same steps with nobody watching.

    make bench-watch
    python -m tests.benchmarks.bench_watch --epochs 20 --batch 32

One process trains one network, and is watched as every job is in every other turn of a few steps; in the turns
between, nobody looks, nothing is timed, and the thread that samples the machine waits. Two processes would not do: they
differ by several percent for as long as they live. The steps that torch's profiler looks into, and those before them,
are left out. The ratio is that of the mean steps, its interval that of the differences of neighbouring turns.
"""

import argparse
import math
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from scipy import stats
from torch import Tensor, nn

from kennel.container.environment import Folders, TrainingEnvironment
from kennel.container.watching import watched
from kennel.engines.device import describe_device, pick_device
from kennel.hyperparameters import DECLARATIONS, parse_hyperparameters
from kennel.machine import available_cores
from kennel.profiler.profiler import Profiler, Settings
from kennel.training.job import Job
from kennel.training.progress import StopSignal
from kennel.training.run import Trainer
from kennel.training.watching import Inspector, Part, Timer, Watching
from tests.benchmarks.bench_fine_tune import link_photos
from tests.benchmarks.floor import WEIGHTS, precision

LEFT_OUT = sum(DECLARATIONS[name].default for name in ("profile_start_step", "profile_steps"))  # watched steps


class Turns:
    """Whose turn it is, and how long the steps of each took: off, on, on, off, and so on."""

    def __init__(self, length: int) -> None:
        self.turns: list[tuple[bool, list[float]]] = []  # whether it was watched, and its steps' seconds
        self.is_network = False  # the head is watched throughout, and not timed
        self._length = length
        self._is_on = threading.Event()
        self._is_on.set()
        self._steps: list[float] = []
        self._watched = 0  # steps of the network
        self._before: float | None = None  # the end of the step before, in the same epoch

    @property
    def is_on(self) -> bool:
        """Whether this turn is watched."""
        return self._is_on.is_set()

    def clock(self) -> float:
        """Return the time; the thread that samples the machine is kept until a watched turn."""
        if threading.current_thread() is not threading.main_thread():
            self._is_on.wait()
        return time.perf_counter()

    def end_epoch(self) -> None:
        """Take note that what comes before the next step's end is no step alone."""
        self._before = None

    def end_step(self) -> None:
        """Take note of a step's end, and give the turn to the other when it is over."""
        now = time.perf_counter()
        if not self.is_network:
            return
        self._watched += self.is_on
        if self._before is not None and self._watched >= LEFT_OUT:
            self._steps.append(now - self._before)
        self._before = now
        if self._watched >= LEFT_OUT and len(self._steps) >= self._length:
            self.turns.append((self.is_on, self._steps))
            self._steps = []
            if len(self.turns) % 2:  # after two turns of a pair, the next pair begins with the same
                (self._is_on.clear if self.is_on else self._is_on.set)()
            self._before = time.perf_counter()


class EveryOther:
    """Tells an inspector what it is told, in watched turns and outside of training steps."""

    def __init__(self, told: Inspector, turns: Turns) -> None:
        self._told, self._turns = told, turns
        self._is_told = True

    def begin_phase(self, module: nn.Module) -> None:
        self._told.begin_phase(module)

    def begin_step(self, mode: Literal["TRAIN", "EVAL"], labels: Tensor) -> None:
        self._is_told = self._turns.is_on or mode == "EVAL"
        if self._is_told:
            self._told.begin_step(mode, labels)

    def end_forward(self, logits: Tensor, loss: Tensor) -> None:
        if self._is_told:
            self._told.end_forward(logits, loss)

    def end_backward(self, scale: Callable[[], float]) -> None:
        if self._is_told:
            self._told.end_backward(scale)

    def end_step(self) -> bool:
        return self._is_told and self._told.end_step()

    def end_evaluation(self) -> None:
        self._told.end_evaluation()

    def end_training(self) -> None:
        self._told.end_training()


class TimedTurns:
    """Tells a timer what it is told, in watched turns, and ends the turns."""

    def __init__(self, told: Timer, turns: Turns) -> None:
        self._told, self._turns = told, turns

    def mark(self, part: Part) -> None:
        if self._turns.is_on:
            self._told.mark(part)
        if part == "evaluation":
            self._turns.end_epoch()

    def end_step(self, images: int, slowed: bool) -> None:
        if self._turns.is_on:
            self._told.end_step(images, slowed)
        self._turns.end_step()


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=12, help="of fine-tuning (%(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="images a step (%(default)s)")
    parser.add_argument("--size", type=int, default=224, help="side of an image (%(default)s)")
    parser.add_argument("--turn", type=int, default=3, help="steps of a turn (%(default)s)")
    given = parser.parse_args()
    if not WEIGHTS.exists():
        sys.exit(f"there is no {WEIGHTS}; name the folder of the test data with KENNEL_TEST_DATA")
    torch.set_num_threads(available_cores())
    print(f"{describe_device(pick_device())}, torch {torch.__version__}, {precision()}")
    folder = Path(tempfile.mkdtemp(prefix="kennel-bench-"))
    try:
        link_photos(folder / "data", 1)
        pairs = paired(train(given, folder))
    finally:
        shutil.rmtree(folder)
    if len(pairs) < 5:
        sys.exit(f"{len(pairs)} turns are left to compare; take more --epochs, or a smaller --batch")
    alone, with_all = (1000 * statistics.mean(values) for values in zip(*pairs, strict=True))
    middle, room = ratio(pairs)
    print("\n| turns of each | a step alone, ms | watched, ms | ratio | 95 % interval |\n|---|---|---|---|---|")
    print(f"| {len(pairs)} | {alone:.1f} | {with_all:.1f} | {middle:.3f} | {middle - room:.3f} – {middle + room:.3f} |")


def train(given: argparse.Namespace, folder: Path) -> list[tuple[bool, list[float]]]:
    """Fine-tune, and return the turns."""
    values = {
        **{"backbone": "mobilenet_v2", "weights": str(WEIGHTS), "unfreeze": "all", "image_size": str(given.size)},
        **{"batch_size": str(given.batch), "epochs": "1", "fine_tune_epochs": str(given.epochs), "profiler": "off"},
    }
    tree = Folders(folder)
    hp = parse_hyperparameters(values)
    job = Job(hp, {"training": folder / "data"}, tree.model, tree.output_data, folder / "cache", folder)
    stop, turns = StopSignal(), Turns(given.turn)
    environment = TrainingEnvironment(tree, {}, {}, folder / "cache", folder, "", None, None, frozenset())

    def on_epoch(epoch: int, metrics: object) -> bool:
        turns.is_network = True
        return True

    # the profiler is made here, so that its thread can be kept waiting
    profiler = Profiler(hp, Settings(tree.output_data, tree.output_data, available_cores()), turns.clock)
    with watched(job, environment, stop) as watching:
        every_other = Watching(EveryOther(watching.inspector, turns), TimedTurns(profiler.timer, turns))
        Trainer(job, stop, watching=every_other).fit(hp, on_epoch)
    return turns.turns


def paired(turns: list[tuple[bool, list[float]]]) -> list[tuple[float, float]]:
    """Return for each two neighbouring turns the mean step of the one alone, and of the watched one."""
    pairs = []
    for one, other in zip(turns[::2], turns[1::2], strict=False):
        means = {is_on: statistics.mean(steps) for is_on, steps in (one, other)}
        pairs.append((means[False], means[True]))
    return pairs


def ratio(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the ratio of the mean steps, and how far its 95 % confidence interval reaches to each side."""
    alone = statistics.mean(one for one, _ in pairs)
    differences = [with_all - one for one, with_all in pairs]
    reach = float(stats.t.ppf(0.975, len(pairs) - 1)) * statistics.stdev(differences) / math.sqrt(len(pairs))
    return 1 + statistics.mean(differences) / alone, reach / alone


if __name__ == "__main__":
    main()

"""Show a training job as it runs: its log, with a bar on a terminal where the log reports progress."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from kennel.hyperparameters import DECLARATIONS
from kennel_cli.platforms.local import LocalSageMaker

RUNNING = ("InProgress", "Stopping")
_PROGRESS = re.compile(r"^progress step=(.+); split=(.+); done=(\d+); total=(\d+);$")
_EPOCH = re.compile(r"^epoch=(\d+) ")
_POLL = 0.2  # seconds between two looks at the log


def follow_training(sagemaker: LocalSageMaker, name: str, console: Console) -> dict[str, Any]:
    """Print the job's log until the job ends, and return its last description."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        request = sagemaker.describe_training_job(TrainingJobName=name)
        epochs = request.get("HyperParameters", {}).get("epochs", "")
        total = int(epochs) if epochs.isdecimal() else DECLARATIONS["epochs"].default
        screen = _Screen(progress, console, total)
        for line in _lines(sagemaker, name):
            screen.show(line)
    return sagemaker.describe_training_job(TrainingJobName=name)


class _Screen:
    """Where lines go: progress lines move a bar if there is one, all others are printed."""

    def __init__(self, progress: Progress, console: Console, epochs: int) -> None:
        self._progress = progress
        self._console = console
        self._epochs = epochs
        self._bars: dict[str, TaskID] = {}

    def show(self, line: str) -> None:
        step, epoch = _PROGRESS.match(line), _EPOCH.match(line)
        if epoch:
            self._move("epochs", int(epoch.group(1)), self._epochs)
        if step and self._console.is_terminal:
            self._move(f"{step.group(1)} {step.group(2)}", int(step.group(3)), int(step.group(4)))
        else:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _move(self, name: str, done: int, total: int) -> None:
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(name, total=total)
        self._progress.update(self._bars[name], completed=done, visible=done < total)


def _lines(sagemaker: LocalSageMaker, name: str) -> Iterator[str]:
    """Yield the lines of the job's log as they are written, until the job has ended."""
    log, position = sagemaker.training_log(name), 0
    while True:
        running = sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] in RUNNING
        lines, position = _new_lines(log, position, unfinished=not running)
        yield from lines
        if not running:
            return
        time.sleep(_POLL)


def _new_lines(log: Path, position: int, unfinished: bool) -> tuple[list[str], int]:
    """Return the complete lines after `position`, with the unfinished last one if so asked, and the next position."""
    if not log.exists():
        return [], position
    with log.open("rb") as file:
        file.seek(position)
        data = file.read()
    end = len(data) if unfinished else data.rfind(b"\n") + 1
    return data[:end].decode("utf-8", "replace").splitlines(), position + end

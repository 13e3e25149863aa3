"""Show a training job as it runs, with a bar on a terminal where its log reports progress, and how it ended."""

import contextlib
import re
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import typer
from botocore.exceptions import WaiterError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from kennel.errors import KennelError
from kennel.hyperparameters import DECLARATIONS
from kennel_cli.operations.job_cost import training_cost
from kennel_cli.platforms.account import AwsError, aws_errors
from kennel_cli.platforms.platform import RUNNING, Platform, unless_ended

_PROGRESS = re.compile(r"^progress step=(.+); split=(.+); done=(\d+); total=(\d+);$")
_EPOCH = re.compile(r"^epoch=(\d+) ")


class JobFailed(KennelError):
    """A training job has failed; the message is its own reason."""


def follow_training(platform: Platform, name: str, console: Console) -> dict[str, Any]:
    """Print the job's log until the job ends, and return its last description."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        request = platform.sagemaker.describe_training_job(TrainingJobName=name)
        epochs = request.get("HyperParameters", {}).get("epochs", "")
        total = int(epochs) if epochs.isdecimal() else DECLARATIONS["epochs"].default
        screen = _Screen(progress, console, total)
        for line in _lines(platform, name):
            screen.show(line)
    description: dict[str, Any] = platform.sagemaker.describe_training_job(TrainingJobName=name)
    return description


def show_to_end(platform: Platform, name: str, console: Console, again: str = "kennel logs -f") -> None:
    """Follow a job and say how it ended; Ctrl-C asks whether to stop it.

    `again` is the command that follows it once more. Raises JobFailed, or typer.Exit when the job is left alone.
    """
    there = f"{name}{platform.option}"
    commands = f"`{again} {there}` follows it again, `kennel stop {there}` ends it"
    try:
        with aws_errors("sagemaker"):
            try:
                description = follow_training(platform, name, console)
            except KeyboardInterrupt:
                if not wants_to_stop("job"):
                    console.print(f"\nthe job goes on; {commands}", highlight=False, soft_wrap=True)
                    raise typer.Exit(130) from None
                with unless_ended():
                    platform.sagemaker.stop_training_job(TrainingJobName=name)
                description = _ended(platform, name)
    except AwsError as error:
        raise AwsError(f"{error}; the job goes on; {commands}") from error
    print_end(platform, description, console)


def stop_training(platform: Platform, name: str) -> dict[str, Any]:
    """Stop a training job, wait for its end, and return its last description."""
    platform.sagemaker.stop_training_job(TrainingJobName=name)
    return _ended(platform, name)


def _ended(platform: Platform, name: str) -> dict[str, Any]:
    """Wait for a training job's end, and return its last description."""
    with contextlib.suppress(WaiterError):  # the job has failed before it could be stopped; its description says why
        waiter = platform.sagemaker.get_waiter("training_job_completed_or_stopped")
        waiter.wait(TrainingJobName=name, WaiterConfig={"Delay": platform.poll, "MaxAttempts": 10**6})
    description: dict[str, Any] = platform.sagemaker.describe_training_job(TrainingJobName=name)
    return description


def wants_to_stop(what: str) -> bool:
    """Ask at a terminal, after Ctrl-C, whether to stop what was followed; elsewhere, and on Ctrl-C again, do not."""
    if not sys.stdin.isatty():
        return False
    try:
        return typer.confirm(f"\nStop the {what}? Otherwise it goes on.", default=False)
    except (typer.Abort, KeyboardInterrupt):
        return False


def print_end(platform: Platform, description: Mapping[str, Any], console: Console) -> None:
    """Say how a job ended and where its model lies. Raises JobFailed with the job's own reason."""
    job, status = description["TrainingJobName"], description["TrainingJobStatus"]
    if status == "Failed":
        raise JobFailed(f"the job {job} failed: {description.get('FailureReason', '')}")
    seconds = description.get("TrainingTimeInSeconds", 0)  # missing when it was stopped before it began
    console.print(f"job {job} is {status} after {seconds} s", soft_wrap=True)
    if reason := description.get("FailureReason"):
        console.print(reason, markup=False, soft_wrap=True)
    if platform.option and (cost := training_cost(description)):
        console.print(cost, markup=False, highlight=False, soft_wrap=True)
    if "ModelArtifacts" in description:
        file = platform.locate(description["ModelArtifacts"]["S3ModelArtifacts"])
        console.print(f"the model:     {file}", soft_wrap=True)
        console.print(f"its report:    kennel report {job}{platform.option}", soft_wrap=True)
        console.print(f"serve it with: kennel deploy --model {job}{platform.option}", soft_wrap=True)


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


def _lines(platform: Platform, name: str) -> Iterator[str]:
    """Yield the lines of the job's log as they are written, until the job has ended."""
    position, waited = None, False
    while True:
        running = platform.sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] in RUNNING
        if waited and not running:
            time.sleep(platform.log_delay)
        lines, position = platform.read_log(name, position, ended=not running)
        yield from lines
        if not running:
            return
        time.sleep(platform.poll)
        waited = True

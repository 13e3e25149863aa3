"""Follow a search to its end, whatever it runs in, and show what it found."""

import contextlib
import tarfile
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import typer
from botocore.exceptions import ClientError

from kennel.atomic import write_text
from kennel.errors import KennelError, SearchError
from kennel.hyperparameters import SEARCH
from kennel.tuning.summary import Summary, read_summary
from kennel_cli.follow import show_to_end, wants_to_stop
from kennel_cli.places import console
from kennel_cli.platforms.account import AwsError, aws_errors
from kennel_cli.platforms.platform import Kind, Platform, is_not_there, unless_ended
from kennel_cli.settings import kennel_home
from kennel_cli.status import status_of
from kennel_cli.tune.screen import final_table, follow_search, write_files
from kennel_cli.tune.watch import Watch, prepare

_POLL_AWS = 15.0  # seconds; each look asks once for all jobs, and again for each that ended
_MISSING = ("404", "NoSuchKey")  # how S3 says that there is no such object


class SearchFailed(KennelError):
    """A search has failed; the message is its own reason."""


def summary_folder(name: str) -> Path:
    """Return the folder with the summary of a search."""
    return kennel_home() / "tuning" / name


def stop_search(platform: Platform, name: str) -> None:
    """Stop a search, wait for the ends of its jobs, and show what it found."""
    platform.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    follow(platform, name, stopping=True)


def resume(platform: Platform, name: str) -> None:
    """Follow a search again, or the one job that is a search; a tuner that is gone is started again."""
    if status_of(platform, Kind.SEARCH, name) is None:
        if not _is_one_job(platform, name):
            raise SearchError(f"there is no search {name}; see `kennel jobs{platform.option}`")
        follow_one_job(platform, name)
        return
    if not platform.option:  # on AWS a tuner does not die
        with contextlib.suppress(ClientError):  # it runs, or the search has ended: there is only something to look at
            platform.sagemaker.resume_hyper_parameter_tuning_job(name)
    follow(platform, name)


def follow(platform: Platform, name: str, stopping: bool = False) -> Summary:
    """Show a search until it ends, and return what it found.

    Raises SearchFailed, typer.Exit when it is left running, or AwsError when AWS can no longer be asked.
    """
    try:
        with aws_errors("sagemaker"):
            summary = _watch_to_end(platform, name, stopping)
    except (AwsError, ClientError) as error:
        said = error.response["Error"]["Message"] if isinstance(error, ClientError) else error
        raise AwsError(f"{said}; {_way_on(platform, name, stopping)}") from error
    write_files(summary_folder(name), summary)
    _show(summary, platform)
    return summary


def _watch_to_end(platform: Platform, name: str, stopping: bool) -> Summary:
    """Show a search until it ends and return what it found; Ctrl-C may stop it, and once more leaves it."""
    watch = Watch(platform, name)
    while True:
        try:
            prepare()
            summary = follow_search(watch, console, _POLL_AWS if platform.option else platform.poll)
            if not watch.settled:
                time.sleep(platform.log_delay)
                summary = watch.summary()
            return summary
        except KeyboardInterrupt:
            _leave_or_stop(platform, name, stopping)
            stopping = True


def _leave_or_stop(platform: Platform, name: str, stopping: bool) -> None:
    """Ask whether the jobs should be stopped; raises typer.Exit when they should not, or are already."""
    if stopping or not wants_to_stop("search with its running jobs"):
        console.print(f"\n{_way_on(platform, name, stopping)}", highlight=False, soft_wrap=True)
        raise typer.Exit(130)
    with unless_ended():
        platform.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)


def _way_on(platform: Platform, name: str, stopping: bool) -> str:
    """Say what becomes of a search that is no longer watched, and which commands are for it."""
    there = f"{name}{platform.option}"
    follow = f"`kennel tune --resume {there}` follows it again"
    if stopping:
        return f"the search is stopping; {follow}"
    return f"the search goes on; {follow}, `kennel stop {there}` ends it"


def _is_one_job(platform: Platform, name: str) -> bool:
    """Return whether there is a training job of that name that runs a whole search."""
    try:
        described: Mapping[str, Any] = platform.sagemaker.describe_training_job(TrainingJobName=name)
    except ClientError as error:
        if is_not_there(error):
            return False
        raise
    return SEARCH in described.get("HyperParameters", {})


def follow_one_job(platform: Platform, name: str) -> None:
    """Follow the job to its end, take the summary out of its output, and show it."""
    show_to_end(platform, name, console, again="kennel tune --resume")
    described = platform.sagemaker.describe_training_job(TrainingJobName=name)
    folder = summary_folder(name)
    archive = f"{described['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{name}/output/output.tar.gz"
    with tempfile.TemporaryDirectory() as copy, tarfile.open(_fetch(platform, archive, name, Path(copy))) as tar:
        for member in tar.getmembers():
            file = PurePosixPath(member.name)  # without the ./ that some archives put before every name
            content = tar.extractfile(member)  # None for what is no file
            if content and len(file.parts) == 1 and file.name.startswith("tuning."):
                write_text(folder / file.name, content.read().decode())
    _show(read_summary(folder), platform)


def _fetch(platform: Platform, archive: str, name: str, folder: Path) -> Path:
    """Return the job's output.

    Raises SearchError when it has left none, as one that was stopped before it began, and AwsError when S3 cannot be
    asked.
    """
    problem = f"the job {name} has left no summary of its search ({platform.locate(archive)} is missing)"
    try:
        file = platform.fetch(archive, folder)
    except ClientError as error:
        if error.response["Error"]["Code"] in _MISSING:
            raise SearchError(problem) from error
        raise
    except AwsError as error:
        again = f"`kennel tune --resume {name}{platform.option}` fetches what the search found"
        raise AwsError(f"{error}; {again}") from error
    if not file.exists():
        raise SearchError(problem)
    return file


def _show(summary: Summary, platform: Platform) -> None:
    """Print the trials, best first, and what can be done now. Raises SearchFailed with the search's own reason."""
    folder = summary_folder(summary.name)
    if summary.trials:
        console.print(final_table(summary))
    if summary.status == "Failed":
        raise SearchFailed(f"the search {summary.name} failed: {summary.reason}")
    console.print(f"search {summary.name} is {summary.status} after {summary.seconds:.1f} s", highlight=False)
    if best := summary.best:
        console.print(f"the best:      trial {best.number}, {summary.metric} {best.objective:.4f}", highlight=False)
        weights = "" if summary.static.get("weights") == "none" else " --weights …"
        again = f"kennel train --from-tuning {summary.name}{platform.option} --data …{weights}"
        console.print(f"train with it: {again}", highlight=False, soft_wrap=True)
        if not platform.option:
            console.print(f"serve it with: kennel deploy --model {best.job or summary.name}", soft_wrap=True)
    console.print(f"all of it:     {folder / 'tuning.html'}", highlight=False, soft_wrap=True)

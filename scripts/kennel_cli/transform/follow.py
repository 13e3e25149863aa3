"""Follow a batch transform job to its end, with a bar of the answers that are there."""

import time
from typing import Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from kennel_cli.follow import wants_to_stop
from kennel_cli.places import console, say
from kennel_cli.platforms.account import AwsError, aws_errors
from kennel_cli.platforms.platform import RUNNING, Platform, unless_ended


def follow_transform(platform: Platform, name: str) -> dict[str, Any]:
    """Wait for the job's end and return its last description; Ctrl-C asks whether to stop it.

    Raises typer.Exit when the job is left alone, ClientError when there is none.
    """
    there = f"{name}{platform.option}"
    ways = f"the job goes on; `kennel transform --again {there}` follows it again, `kennel stop {there}` ends it"
    try:
        with aws_errors("sagemaker"):
            try:
                return _watch(platform, name)
            except KeyboardInterrupt:
                if not wants_to_stop("job"):
                    console.print(f"\n{ways}", highlight=False, soft_wrap=True)
                    raise typer.Exit(130) from None
                with unless_ended():
                    platform.sagemaker.stop_transform_job(TransformJobName=name)
                return _watch(platform, name)
    except AwsError as error:
        raise AwsError(f"{error}; {ways}") from error


def stop_transform(platform: Platform, name: str) -> None:
    """Stop a job, and wait for its end."""
    platform.sagemaker.stop_transform_job(TransformJobName=name)
    _watch(platform, name)
    say(f"what it has answered: kennel transform --again {name}{platform.option}")


def _watch(platform: Platform, name: str) -> dict[str, Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    began, before = time.monotonic(), ""
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        job: dict[str, Any] = platform.sagemaker.describe_transform_job(TransformJobName=name)
        source = job["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"]
        bar = progress.add_task("pictures", total=len(platform.names(source)) if console.is_terminal else None)
        while True:
            status = job["TransformJobStatus"]
            if status != before:
                say(f"{name} is {status} after {time.monotonic() - began:.0f} s")
                before = status
            if status not in RUNNING:
                return job
            if console.is_terminal:
                done = len(platform.names(job["TransformOutput"]["S3OutputPath"].rstrip("/") + "/"))
                progress.update(bar, completed=done)
            time.sleep(platform.poll)
            job = platform.sagemaker.describe_transform_job(TransformJobName=name)

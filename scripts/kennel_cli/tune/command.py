"""The command `kennel tune`."""

import contextlib
import json
import secrets
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import typer
from botocore.exceptions import ClientError

from kennel.errors import KennelError, SearchError
from kennel.hyperparameters import SEARCH
from kennel.tuning.summary import JSON, Summary, read_summary
from kennel_cli.follow import show_to_end
from kennel_cli.jobs import JobInputs, job_inputs
from kennel_cli.places import DryRun, Isolated, On, Place, Spot, console, job_options, platform_of
from kennel_cli.platforms.account import AwsError, aws_errors
from kennel_cli.platforms.platform import Platform
from kennel_cli.settings import kennel_home
from kennel_cli.tune.plan import Plan, make_plan, read_plan
from kennel_cli.tune.presets import PRESETS
from kennel_cli.tune.screen import final_table, follow_search, write_files
from kennel_cli.tune.start import one_job_request, require_space, search_request, send
from kennel_cli.tune.watch import Watch

_POLL_AWS = 15.0  # seconds; each look asks once for all jobs, and again for each that ended
_UNKNOWN = ("ResourceNotFound", "ValidationException")  # how the service says that there is no job of a name
_MISSING = ("404", "NoSuchKey")  # how S3 says that there is no such object


class SearchFailed(KennelError):
    """A search has failed; the message is its own reason."""


def tune(
    data: Annotated[str | None, typer.Option(help="folder with train/, valid/ and test/; or its s3:// URI")] = None,
    weights: Annotated[str | None, typer.Option(help="state dict of the backbone, or none")] = None,
    backbone: Annotated[str | None, typer.Option(help="short for --static backbone=…")] = None,
    preset: Annotated[str | None, typer.Option(help="a search made before: " + ", ".join(PRESETS))] = None,
    space: Annotated[Path | None, typer.Option(help="a search in YAML or JSON: ranges, static, strategy, …")] = None,
    ranges: Annotated[
        list[str] | None, typer.Option("--range", help="learning_rate=1e-5:1e-1:log (linear, log or reverse-log)")
    ] = None,
    choices: Annotated[list[str] | None, typer.Option("--choice", help="batch_size=32,64,128")] = None,
    static: Annotated[list[str] | None, typer.Option("--static", help="epochs=4: fixed, not searched")] = None,
    strategy: Annotated[str | None, typer.Option(help="bayesian, random, hyperband or grid (default bayesian)")] = None,
    jobs: Annotated[
        int | None, typer.Option(help="trials in all (default 8); a grid has as many as combinations")
    ] = None,
    parallel: Annotated[int | None, typer.Option(help="trials at a time (default 2)")] = None,
    objective: Annotated[str | None, typer.Option(help="the metric to improve (default valid_accuracy)")] = None,
    early_stopping: Annotated[
        bool | None, typer.Option("--early-stopping", help="stop trials that are worse than the median of the others")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="start of the random numbers of the search")] = None,
    target: Annotated[float | None, typer.Option(help="end when a trial is as good as this")] = None,
    patience: Annotated[int | None, typer.Option(help="end after so many trials without a better one")] = None,
    warm_start: Annotated[list[str] | None, typer.Option(help="begin with what a finished search found")] = None,
    in_one_job: Annotated[
        bool, typer.Option("--in-one-job", help="run the whole search in one training job, with one pass over the data")
    ] = False,
    name: Annotated[str | None, typer.Option(help="name of the search, 32 characters at most")] = None,
    resume: Annotated[
        str | None, typer.Option(help="follow this search again; if its tuner was killed, it goes on")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="return at once; --resume follows it")] = False,
    dry_run: DryRun = False,
    spot: Spot = False,
    isolated: Isolated = False,
    on: On = Place.LOCAL,
) -> None:
    """Search for the best hyperparameters: many trials, the best one, and a page that shows them all."""
    platform = platform_of(on)
    if resume:
        if dry_run:
            raise SearchError(
                "--resume follows a search that was sent; --dry-run has no request to print, leave it out"
            )
        _resume(platform, resume)
        return
    if data is None:
        raise SearchError("give the images with --data DIR, or a search to follow with --resume NAME")
    plan = make_plan(
        _base(preset, space),
        ranges or (),
        choices or (),
        [*(static or ()), *([f"backbone={backbone}"] if backbone else ())],
        strategy=strategy,
        jobs=jobs,
        parallel=parallel,
        objective=objective,
        early_stopping=early_stopping,
        seed=seed,
        target=target,
        patience=patience,
        warm_start=tuple(warm_start or ()),
    )
    asked = job_options(on, spot, isolated)
    name = name or new_search_name("tune")
    if not dry_run:
        platform.require_means()
    inputs = job_inputs(platform, data, weights, plan.static)
    request = (one_job_request if in_one_job else search_request)(platform, inputs, plan, name, asked)
    if dry_run:
        print(json.dumps(request, indent=2))
        return
    _start(platform, inputs, plan, request)
    console.print(f"search {name}", highlight=False)
    if detach:
        return
    if in_one_job:
        _follow_one_job(platform, name)
    else:
        _follow(platform, name)


def new_search_name(stem: str) -> str:
    """Return a name that no search has had, short enough for one."""
    return f"{stem}-{time.strftime('%y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def summary_folder(name: str) -> Path:
    """Return the folder with the summary of a search."""
    return kennel_home() / "tuning" / name


def is_search(platform: Platform, name: str) -> bool:
    """Return whether there is a tuning job of that name."""
    try:
        platform.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    except ClientError as error:
        if error.response["Error"]["Code"] in _UNKNOWN:
            return False
        raise
    return True


def stop_search(platform: Platform, name: str) -> None:
    """Stop a search, wait for the ends of its jobs, and show what it found."""
    platform.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    _follow(platform, name, stopping=True)


def _base(preset: str | None, space: Path | None) -> Plan | None:
    if preset and space:
        raise SearchError("give --preset or --space; a file may name its preset with `preset:`")
    if preset and preset not in PRESETS:
        raise SearchError(f"there is no preset {preset}; there are {', '.join(PRESETS)}")
    if preset:
        return PRESETS[preset]
    return read_plan(space, PRESETS) if space else None


def _start(platform: Platform, inputs: JobInputs, plan: Plan, request: object) -> None:
    if not platform.option:
        require_space(kennel_home(), inputs, plan)
    send(platform, inputs, request)  # type: ignore[arg-type]  # either kind of request


def _resume(platform: Platform, name: str) -> None:
    """Follow a search again, or the one job that is a search; a tuner that is gone is started again."""
    if not is_search(platform, name):
        if not _is_one_job(platform, name):
            raise SearchError(f"there is no search {name}; see `kennel jobs{platform.option}`")
        _follow_one_job(platform, name)
        return
    if not platform.option:  # on AWS a tuner does not die
        with contextlib.suppress(ClientError):  # it runs, or the search has ended: there is only something to look at
            platform.sagemaker.resume_hyper_parameter_tuning_job(name)
    _follow(platform, name)


def _follow(platform: Platform, name: str, stopping: bool = False) -> None:
    """Show a search until it ends, and what it found.

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


def _watch_to_end(platform: Platform, name: str, stopping: bool) -> Summary:
    """Show a search until it ends and return what it found; Ctrl-C may stop it, and once more leaves it."""
    watch = Watch(platform, name)
    while True:
        try:
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
    stop = False
    if sys.stdin.isatty() and not stopping:
        with contextlib.suppress(typer.Abort):  # a second Ctrl-C: leave at once
            stop = typer.confirm("\nStop the running jobs? Otherwise they go on.", default=False)
    if not stop:
        console.print(f"\n{_way_on(platform, name, stopping)}", highlight=False, soft_wrap=True)
        raise typer.Exit(130)
    try:
        platform.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    except ClientError as error:
        if error.response["Error"]["Code"] not in _UNKNOWN:  # as when it has ended meanwhile
            raise


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
        if error.response["Error"]["Code"] in _UNKNOWN:
            return False
        raise
    return SEARCH in described.get("HyperParameters", {})


def _follow_one_job(platform: Platform, name: str) -> None:
    """Follow the job to its end, take the summary out of its output, and show it."""
    show_to_end(platform, name, console, again="kennel tune --resume")
    described = platform.sagemaker.describe_training_job(TrainingJobName=name)
    folder = summary_folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    archive = f"{described['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{name}/output/output.tar.gz"
    with tarfile.open(_fetch(platform, archive, name)) as tar:
        for member in tar.getmembers():
            file = PurePosixPath(member.name)  # without the ./ that some archives put before every name
            if member.isfile() and len(file.parts) == 1 and file.name.startswith("tuning."):
                tar.extract(member, folder, filter="data")
    _show(read_summary(folder), platform)


def _fetch(platform: Platform, archive: str, name: str) -> Path:
    """Return the job's output.

    Raises SearchError when it has left none, as one that was stopped before it began, and AwsError when S3 cannot be
    asked.
    """
    problem = f"the job {name} has left no summary of its search ({platform.locate(archive)} is missing)"
    try:
        file = platform.fetch(archive)
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
        again = f"kennel train --from-tuning {summary.name}{platform.option} --data …"
        console.print(f"train with it: {again}", highlight=False, soft_wrap=True)
        if not platform.option:
            console.print(f"serve it with: kennel deploy --model {best.job or summary.name}", soft_wrap=True)
    console.print(f"all of it:     {folder / JSON.replace('json', 'html')}", highlight=False, soft_wrap=True)

"""The command `kennel tune`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from kennel.errors import SearchError
from kennel_cli.jobs import job_inputs
from kennel_cli.places import (
    DryRun,
    FastFile,
    InstanceCount,
    Isolated,
    On,
    Place,
    Retries,
    Spot,
    console,
    job_options,
    platform_of,
    say_page,
)
from kennel_cli.platforms.means import require_tuner
from kennel_cli.platforms.platform import Kind
from kennel_cli.settings import kennel_home
from kennel_cli.tune.follow import follow, follow_one_job
from kennel_cli.tune.follow import resume as resume_search
from kennel_cli.tune.plan import Plan, make_plan, read_plan
from kennel_cli.tune.presets import PRESETS
from kennel_cli.tune.start import new_search_name, one_job_request, require_space, search_request, send


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
    parallel: Annotated[
        int | None, typer.Option(help="trials at a time (default 2); in one job they take turns")
    ] = None,
    objective: Annotated[str | None, typer.Option(help="the metric to improve (default valid_loss)")] = None,
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
    fast_file: FastFile = False,
    instance_count: InstanceCount = 1,
    retries: Retries = 0,
    on: On = Place.LOCAL,
) -> None:
    """Search for the best hyperparameters: many trials, the best one, and a page that shows them all."""
    platform = platform_of(on)
    if resume:
        if dry_run:
            raise SearchError(
                "--resume follows a search that was sent; --dry-run has no request to print, leave it out"
            )
        resume_search(platform, resume)
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
    asked = job_options(
        on,
        spot=spot,
        isolated=isolated,
        fast_file=fast_file,
        instance_count=instance_count,
        retries=retries,
    )
    name = name or new_search_name("tune")
    if not dry_run:
        platform.require_means()
    inputs = job_inputs(data, weights, plan.static)
    request = (one_job_request if in_one_job else search_request)(platform, inputs, plan, name, asked)
    if dry_run:
        print(json.dumps(request, indent=2))
        return
    if on is not Place.AWS:
        if not in_one_job:
            require_tuner()
        require_space(kennel_home(), inputs, 1 if in_one_job else plan.trials)
    send(platform, inputs, request)
    console.print(f"search {name}", highlight=False)
    say_page(platform, Kind.TRAINING if in_one_job else Kind.SEARCH, name)
    if detach:
        return
    (follow_one_job if in_one_job else follow)(platform, name)


def _base(preset: str | None, space: Path | None) -> Plan | None:
    if preset and space:
        raise SearchError("give --preset or --space; a file may name its preset with `preset:`")
    if preset and preset not in PRESETS:
        raise SearchError(f"there is no preset {preset}; there are {', '.join(PRESETS)}")
    if preset:
        return PRESETS[preset]
    return read_plan(space, PRESETS) if space else None

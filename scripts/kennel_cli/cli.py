"""The command `kennel`."""

import functools
import inspect
import json
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.progress import DownloadColumn, Progress, TransferSpeedColumn
from rich.table import Table

import kennel
from kennel.errors import KennelError, SearchError
from kennel.hyperparameters import DECLARATIONS
from kennel.tuning.summary import JSON, read_best
from kennel_cli import dataset, endpoints, registry
from kennel_cli.debug import debug
from kennel_cli.demo import run_demo
from kennel_cli.export import export
from kennel_cli.follow import print_end, show_to_end, stop_training
from kennel_cli.jobs import earlier_model, job_inputs, start_training, training_request
from kennel_cli.load.command import bench_endpoint
from kennel_cli.operations.alarms import alarms
from kennel_cli.operations.cost import cost
from kennel_cli.operations.dashboard import dashboard
from kennel_cli.operations.scaling import scale
from kennel_cli.places import (
    AwsDebugger,
    DryRun,
    Isolated,
    Machine,
    OfPlace,
    On,
    Place,
    Spot,
    TensorBoard,
    console,
    job_options,
    platform_of,
)
from kennel_cli.platforms.account import aws_sentence
from kennel_cli.platforms.local import LocalSageMaker
from kennel_cli.platforms.runtime import LocalSageMakerRuntime
from kennel_cli.predictor import ask
from kennel_cli.reports import report
from kennel_cli.settings import LOCAL, kennel_home
from kennel_cli.smoke import run_smoke
from kennel_cli.tune.command import tune
from kennel_cli.tune.follow import is_search, stop_search, summary_folder

JOBS_OF_AWS = 20  # jobs of an account that are listed; each is asked for its metrics
NEWEST_FIRST = {"SortBy": "CreationTime", "SortOrder": "Descending"}  # else AWS lists the oldest, or by name

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def main() -> None:
    """Run the command line; what the user can mend is one red line and exit code 1, never a traceback."""
    try:
        app()
    except KennelError as error:
        _leave(str(error))
    except ClientError as error:
        _leave(aws_sentence(error) or error.response["Error"]["Message"])
    except (BotoCoreError, Boto3Error) as error:
        _leave(aws_sentence(error) or str(error))
    except OSError as error:
        _leave(f"{error.filename or 'the machine'}: {error.strerror or error}")


def _leave(message: str) -> None:
    Console(stderr=True).print(f"kennel: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(1)


def _with_hyperparameters(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option a hyperparameter, made from its declaration; they arrive as `hyperparameters`."""
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "hyperparameters"]
    declared = [d for d in DECLARATIONS.values() if d.name != "weights"]  # it has an option of its own
    options = []
    for d in declared:
        flag, text = "--" + d.name.replace("_", "-"), f"{d.help}; {d.bounds} (default {d.default})"
        option = typer.Option(flag, help=text, metavar=d.type.__name__.upper(), rich_help_panel="Hyperparameters")
        kind = Annotated[str | None, option]
        options.append(inspect.Parameter(d.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind))

    def wrapper(**values: Any) -> None:
        given = {d.name: values.pop(d.name) for d in declared}
        command(**values, hyperparameters={name: value for name, value in given.items() if value is not None})

    wrapper.__doc__ = command.__doc__
    wrapper.__name__ = command.__name__
    wrapper.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    return wrapper


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="print the version and leave")] = False,
) -> None:
    """Train image classifiers and serve them, on this machine as on Amazon SageMaker."""
    if version:
        console.print(f"kennel {kennel.__version__}", highlight=False)
        raise typer.Exit


@app.command()
@_with_hyperparameters
def train(
    *,
    data: Annotated[
        str, typer.Option(help="folder with train/, valid/ and test/, one folder a class in each; or its s3:// URI")
    ],
    weights: Annotated[
        str | None,
        typer.Option(
            help="state dict of the backbone (.pth, .safetensors) or its s3:// URI, or none to train from scratch"
        ),
    ] = None,
    from_tuning: Annotated[
        str | None, typer.Option(help="a finished search: start from the hyperparameters of its best trial")
    ] = None,
    from_model: Annotated[
        str | None, typer.Option(help="a finished training job, or a model folder: go on with its model")
    ] = None,
    name: Annotated[str | None, typer.Option(help="name of the job; made from backbone and time unless given")] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="return at once; see `kennel jobs` and `kennel logs`")
    ] = False,
    dry_run: DryRun = False,
    spot: Spot = False,
    isolated: Isolated = False,
    tensorboard: TensorBoard = False,
    aws_debugger: AwsDebugger = False,
    on: On = Place.LOCAL,
    hyperparameters: dict[str, str],
) -> None:
    """Train a classifier and follow the job to its end."""
    platform = platform_of(on)
    asked = job_options(on, spot=spot, isolated=isolated, tensorboard=tensorboard, debugger=aws_debugger)
    if from_tuning:
        best = _best_of(from_tuning, platform.option)
        if weights:
            best.pop("weights", None)  # `none` would leave the given file unread
        elif best.get("weights") == "none":
            weights = "none"
        hyperparameters = {**best, **hyperparameters}
    model = None
    if from_model:
        model, before = earlier_model(platform, from_model)
        hyperparameters = {**before, **hyperparameters}
    if dry_run:
        inputs = job_inputs(data, weights, hyperparameters, model)
        print(json.dumps(training_request(platform, inputs, name, asked), indent=2))
        return
    job = start_training(platform, data, weights, hyperparameters, name, asked, model)
    console.print(f"job {job}")
    if not detach:
        show_to_end(platform, job, console)


app.command()(tune)
app.command()(debug)
app.command()(report)
app.command()(export)
app.command()(bench_endpoint)
app.command()(scale)
app.command()(alarms)
app.command()(dashboard)
app.command()(cost)


@app.command()
def jobs(on: OfPlace = Place.LOCAL) -> None:
    """List the training jobs, searches and endpoints on this machine, or the newest jobs and searches on AWS."""
    sagemaker = platform_of(on).sagemaker
    table = Table("job", "status", "started", "seconds", "test accuracy")
    limit = {"MaxResults": JOBS_OF_AWS} if on is Place.AWS else {}
    for summary in sagemaker.list_training_jobs(**NEWEST_FIRST, **limit)["TrainingJobSummaries"]:
        d = sagemaker.describe_training_job(TrainingJobName=summary["TrainingJobName"])
        metrics = {metric["MetricName"]: f"{metric['Value']:.4f}" for metric in d.get("FinalMetricDataList", [])}
        started = d["CreationTime"].astimezone().strftime("%Y-%m-%d %H:%M:%S")
        seconds = str(d.get("TrainingTimeInSeconds", ""))
        table.add_row(d["TrainingJobName"], d["TrainingJobStatus"], started, seconds, metrics.get("test_accuracy", ""))
    console.print(table if table.row_count else "no training jobs yet; start one with `kennel train --data DIR`")
    _list_searches(sagemaker, limit)
    if on is not Place.AWS:
        _list_endpoints(sagemaker)


@app.command()
def logs(
    name: Annotated[str, typer.Argument(help="a training job or an endpoint")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on until the training job ends")] = False,
    endpoint: Annotated[bool, typer.Option("--endpoint", help="the endpoint, where a job has the same name")] = False,
    on: OfPlace = Place.LOCAL,
) -> None:
    """Print the log of a training job or an endpoint."""
    platform = platform_of(on)
    if follow:
        show_to_end(platform, name, console)
    elif on is Place.AWS:
        lines, _ = platform.read_log(name, None, ended=True)
        if not lines:
            raise KennelError(f"there is no job {name} with a log on AWS; see `kennel jobs --on aws`")
        print("\n".join(lines))
    else:
        sys.stdout.write(_local_log(platform.sagemaker, name, endpoint))


@app.command()
def stop(
    name: Annotated[str, typer.Argument(help="a running training job or search")],
    on: OfPlace = Place.LOCAL,
) -> None:
    """Stop a training job, of which the best model so far is kept, or a search with all its jobs."""
    platform = platform_of(on)
    if is_search(platform, name):
        stop_search(platform, name)
        return
    print_end(platform, stop_training(platform, name), console)


@app.command()
def deploy(
    model: Annotated[str, typer.Option(help="a finished training job, or a model folder (with a kennel.json)")],
    name: Annotated[str | None, typer.Option(help="name of the endpoint; the job's unless given")] = None,
    update: Annotated[
        bool, typer.Option("--update", help="replace the model of a running endpoint, the only one unless named")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="let it also show where in a picture it sees what it answers")
    ] = False,
    on: Annotated[
        Machine | None, typer.Option("--on", help="processes of this machine unless given, or containers of the image")
    ] = None,
) -> None:
    """Start an endpoint that serves a model, and wait until it answers."""
    sagemaker = LocalSageMaker(kennel_home(), on or Machine.LOCAL)
    environment = {"KENNEL_EXPLAIN": "true"} if explain else {}
    if update and on:
        raise KennelError(f"--on {on} is for a new endpoint; one that is updated stays where it runs, so leave it out")
    if update:
        endpoint = name or _only_endpoint(sagemaker, "--name")
        with console.status(f"updating {endpoint}"):
            endpoints.update_endpoint(sagemaker, model, endpoint, environment)
    else:
        endpoint = endpoints.start_endpoint(sagemaker, model, name, environment)
        with console.status(f"starting {endpoint}"):
            endpoints.wait_until_in_service(sagemaker, endpoint)
    console.print(f"endpoint {endpoint} is in service at {sagemaker.endpoint_url(endpoint)}", soft_wrap=True)
    console.print(f"ask it with: kennel invoke --endpoint {endpoint} PICTURE", soft_wrap=True)


@app.command()
def invoke(
    pictures: Annotated[list[Path], typer.Argument(help="JPEG, PNG, WebP or BMP files")],
    endpoint: Annotated[str | None, typer.Option(help="needed when more than one endpoint is in service")] = None,
    top_k: Annotated[int, typer.Option(min=1, help="how many classes to show")] = 5,
    explain: Annotated[
        bool, typer.Option("--explain", help="write a picture of where it sees the first class, and open it")
    ] = False,
) -> None:
    """Ask an endpoint what is in a picture."""
    home = kennel_home()
    endpoint = endpoint or _only_endpoint(LocalSageMaker(home))
    runtime = LocalSageMakerRuntime(home)
    for picture in pictures:
        table = Table("class", "probability", title=picture.name, title_justify="left")
        answer = ask(runtime, endpoint, picture, top_k, explain)
        for prediction in answer.predictions:
            table.add_row(prediction.label, f"{prediction.probability:.4f}")
        console.print(table)
        if answer.explanation:
            file = Path(f"{picture.stem}-explained.png").absolute()
            file.write_bytes(answer.explanation)
            console.print(f"why {answer.predictions[0].label}: {file}", highlight=False, soft_wrap=True)
            webbrowser.open(file.as_uri())


@app.command()
def delete(
    name: Annotated[str, typer.Argument(help="an endpoint")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
) -> None:
    """Delete an endpoint with its configuration and its model entry; jobs, model data and images stay."""
    sagemaker = LocalSageMaker(kennel_home())
    sagemaker.describe_endpoint(EndpointName=name)
    if not yes:
        typer.confirm(f"Delete the endpoint {name}, its configuration and its model entry?", abort=True)
    endpoints.delete_endpoint(sagemaker, name)
    console.print(f"endpoint {name} is deleted")


@app.command()
def data(
    folder: Annotated[Path, typer.Option(help="where to unpack it")] = Path("data"),
    url: Annotated[str, typer.Option(envvar="KENNEL_DATA_URL", help="a zip file")] = dataset.DOG_IMAGES_URL,
    sha256: Annotated[str, typer.Option(envvar="KENNEL_DATA_SHA256", help="expected checksum of the zip file")] = "",
) -> None:
    """Download and unpack a data set of images; by default the photos of 133 breeds of dogs (1.1 GB)."""
    with Progress(*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn(), console=console) as bars:
        bar = bars.add_task("download", total=None, visible=console.is_terminal)
        target = dataset.fetch_dataset(url, folder, sha256, lambda d, t: bars.update(bar, completed=d, total=t or None))
    archive = target.with_name(f"{target.name}.zip")
    if archive.exists():
        console.print(
            f"{archive}: {archive.stat().st_size:,} bytes, sha256 {dataset.checksum(archive)}", soft_wrap=True
        )
    console.print(f"the images are in {target}", soft_wrap=True)


@app.command()
def demo(
    data: Annotated[Path | None, typer.Option(help="your images; handwritten digits unless given")] = None,
    weights: Annotated[str | None, typer.Option(help="state dict of the backbone, or none")] = None,
    backbone: Annotated[str | None, typer.Option(help=DECLARATIONS["backbone"].bounds)] = None,
) -> None:
    """Tune, serve and predict on real images, from one end to the other."""
    run_demo(kennel_home(), data, weights, backbone, console)


@app.command()
def smoke() -> None:
    """Train, serve and predict once in containers of the image; a tick a line."""
    run_smoke(console)


@app.command()
def push(
    repository: Annotated[str, typer.Option(envvar="KENNEL_REPOSITORY", help="in Amazon ECR")] = "kennel",
    region: Annotated[str | None, typer.Option(envvar="AWS_REGION", help="your AWS profile's unless given")] = None,
    source: Annotated[Path, typer.Option(help="the checkout that the image was built from")] = Path(),
) -> None:
    """Push the image to Amazon ECR and print the URI that jobs should name."""
    errors = Console(stderr=True)
    say = functools.partial(errors.print, markup=False, highlight=False, soft_wrap=True)
    print(registry.push(LOCAL.image, repository, region, source, say))


def _only_endpoint(sagemaker: LocalSageMaker, option: str = "--endpoint") -> str:
    names = endpoints.endpoint_names(sagemaker, "InService")
    if len(names) == 1:
        return names[0]
    if not names:
        raise KennelError("no endpoint is in service; start one with `kennel deploy --model JOB`")
    raise KennelError(f"{len(names)} endpoints are in service, choose one with {option}: {', '.join(names)}")


def _best_of(search: str, option: str) -> dict[str, str]:
    """Return the best hyperparameters of a search. Raises SearchError when its summary is not on this machine."""
    folder = summary_folder(search)
    if not (folder / JSON).exists():
        raise SearchError(
            f"there is no summary of a search {search} in {folder}; `kennel tune --resume {search}{option}` fetches it"
        )
    return read_best(folder)


def _list_searches(sagemaker: Any, limit: dict[str, int]) -> None:
    table = Table("search", "status", "strategy", "started", "trials")
    for search in sagemaker.list_hyper_parameter_tuning_jobs(**NEWEST_FIRST, **limit)[
        "HyperParameterTuningJobSummaries"
    ]:
        started = search["CreationTime"].astimezone().strftime("%Y-%m-%d %H:%M:%S")
        name, status = search["HyperParameterTuningJobName"], search["HyperParameterTuningJobStatus"]
        table.add_row(name, status, search["Strategy"], started, str(sum(search["TrainingJobStatusCounters"].values())))
    if table.row_count:
        console.print(table)


def _list_endpoints(sagemaker: LocalSageMaker) -> None:
    table = Table("endpoint", "status", "address")
    for endpoint in sagemaker.list_endpoints()["Endpoints"]:
        name, status = endpoint["EndpointName"], endpoint["EndpointStatus"]
        table.add_row(name, status, sagemaker.endpoint_url(name) if status == "InService" else "")
    if table.row_count:
        console.print(table)


def _local_log(sagemaker: LocalSageMaker, name: str, endpoint: bool) -> str:
    """Return the log of a job, or of an endpoint where there is no such job or `endpoint` says so."""
    logs = [log for log in (sagemaker.training_log(name), sagemaker.endpoint_log(name)) if log.exists()]
    if not logs:
        raise KennelError(f"there is no job or endpoint {name} with a log; see `kennel jobs`")
    return logs[-1 if endpoint else 0].read_text(encoding="utf-8", errors="replace")


if __name__ == "__main__":
    main()

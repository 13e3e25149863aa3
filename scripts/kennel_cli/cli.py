"""The command `kennel`."""

import functools
import io
import json
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.progress import DownloadColumn, Progress, TransferSpeedColumn
from rich.table import Table

import kennel
from kennel.errors import KennelError, SearchError
from kennel.hyperparameters import DECLARATIONS
from kennel.tuning.summary import JSON, read_best
from kennel_cli import dataset, registry
from kennel_cli.app.command import show_page
from kennel_cli.debug import debug
from kennel_cli.demo import run_demo
from kennel_cli.deploy import delete, deploy, only_endpoint, update
from kennel_cli.doctor import doctor
from kennel_cli.export import export
from kennel_cli.follow import print_end, show_to_end, stop_training
from kennel_cli.init import init
from kennel_cli.jobs import earlier_model, job_inputs, start_training, training_request
from kennel_cli.load.command import bench_endpoint
from kennel_cli.logs import logs
from kennel_cli.operations.alarms import alarms
from kennel_cli.operations.cost import cost
from kennel_cli.operations.dashboard import dashboard
from kennel_cli.operations.scaling import scale
from kennel_cli.places import (
    OF_ENDPOINTS,
    OF_JOBS,
    AwsDebugger,
    DryRun,
    FastFile,
    InstanceCount,
    Isolated,
    OfPlace,
    On,
    Place,
    Retries,
    Spot,
    TensorBoard,
    console,
    given_settings,
    job_options,
    platform_of,
    say_page,
    text_option,
    with_options,
    with_settings,
)
from kennel_cli.platforms.account import aws_sentence
from kennel_cli.platforms.aws import AwsPlatform
from kennel_cli.platforms.platform import Kind, Platform
from kennel_cli.prediction.drawing import draw_answer
from kennel_cli.prediction.pictures import picture_bytes, save_picture
from kennel_cli.predictor import ImagePredictor
from kennel_cli.register import register
from kennel_cli.reports import report
from kennel_cli.settings import LOCAL, kennel_home
from kennel_cli.settings_command import settings
from kennel_cli.settings_file import settings_file, write_settings
from kennel_cli.smoke import run_smoke
from kennel_cli.status import status_of
from kennel_cli.transform.command import transform
from kennel_cli.transform.follow import stop_transform
from kennel_cli.tune.command import tune
from kennel_cli.tune.follow import stop_search, summary_folder

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
    options = [
        text_option(
            d.name,
            "--" + d.name.replace("_", "-"),
            help=f"{d.help}; {d.bounds} (default {d.default})",
            metavar=d.type.__name__.upper(),
            rich_help_panel="Hyperparameters",
        )
        for d in DECLARATIONS.values()
        if d.name != "weights"  # it has an option of its own
    ]

    def with_given(values: dict[str, Any], given: dict[str, str]) -> None:
        command(**values, hyperparameters=given)

    return with_options(command, options, with_given, hidden="hyperparameters")


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="print the version and leave")] = False,
) -> None:
    """Train image classifiers and serve them, on this machine as on Amazon SageMaker."""
    if version:
        console.print(f"kennel {kennel.__version__}", highlight=False)
        raise typer.Exit


@app.command()
@with_settings(*OF_JOBS)
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
    fast_file: FastFile = False,
    instance_count: InstanceCount = 1,
    retries: Retries = 0,
    experiment: Annotated[str, typer.Option(help="on AWS: the experiment that the job is listed under")] = "",
    on: On = Place.LOCAL,
    hyperparameters: dict[str, str],
) -> None:
    """Train a classifier and follow the job to its end."""
    platform = platform_of(on)
    asked = job_options(
        on,
        spot=spot,
        isolated=isolated,
        tensorboard=tensorboard,
        debugger=aws_debugger,
        fast_file=fast_file,
        instance_count=instance_count,
        retries=retries,
        experiment=experiment,
    )
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
    say_page(platform, Kind.TRAINING, job)
    if not detach:
        show_to_end(platform, job, console)


app.command()(with_settings(*OF_JOBS)(tune))
app.command()(with_settings("region")(logs))
app.command()(debug)
app.command()(with_settings("region")(report))
app.command()(export)
app.command()(with_settings("region")(bench_endpoint))
app.command()(with_settings(*OF_ENDPOINTS)(deploy))
app.command()(with_settings(*OF_ENDPOINTS)(update))
app.command()(with_settings("region")(delete))
app.command()(with_settings(*OF_ENDPOINTS)(transform))
app.command()(with_settings("region", "bucket", "image", "endpoint_instance")(register))
app.command()(settings)
app.command()(doctor)
app.command()(init)
app.command()(with_settings("region")(scale))
app.command()(with_settings("region")(alarms))
app.command()(with_settings("region")(dashboard))
app.command()(with_settings("region")(cost))
app.command("app")(with_settings("region")(show_page))


@app.command()
@with_settings("region")
def jobs(on: OfPlace = Place.LOCAL) -> None:
    """List the training jobs, searches, batch transforms and endpoints, on this machine or the newest on AWS."""
    platform = platform_of(on)
    sagemaker = platform.sagemaker
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
    _list_transforms(sagemaker, limit)
    _list_endpoints(platform)


@app.command()
@with_settings("region")
def stop(
    name: Annotated[str, typer.Argument(help="a running training job, search or batch transform job")],
    on: OfPlace = Place.LOCAL,
) -> None:
    """Stop a training job, of which the best model so far is kept, a search with all its jobs, or a batch transform."""
    platform = platform_of(on)
    if status_of(platform, Kind.SEARCH, name):
        stop_search(platform, name)
        return
    if status_of(platform, Kind.TRANSFORM, name):
        stop_transform(platform, name)
        return
    print_end(platform, stop_training(platform, name), console)


@app.command()
@with_settings("region")
def invoke(
    pictures: Annotated[list[Path], typer.Argument(help="JPEG, PNG, WebP or BMP files")],
    endpoint: Annotated[str | None, typer.Option(help="needed when more than one endpoint is in service")] = None,
    top_k: Annotated[int, typer.Option(min=1, help="how many classes to show")] = 5,
    explain: Annotated[
        bool, typer.Option("--explain", help="write a picture of where it sees the first class, and open it")
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="write a picture with the classes as bars beside it, and open it")
    ] = False,
    true_label: Annotated[str | None, typer.Option(help="with --show: the class it should be, green or red")] = None,
    on: OfPlace = Place.LOCAL,
) -> None:
    """Ask an endpoint what is in a picture."""
    if true_label is not None and not show:
        raise KennelError("--true-label is drawn into the picture of --show; add that, or leave it out")
    endpoint = endpoint or only_endpoint(platform_of(on))
    predictor = ImagePredictor(endpoint, on=on, region=given_settings().get("region"))
    taken: set[str] = set()
    for picture in pictures:
        table = Table("class", "probability", title=escape(picture.name), title_justify="left")
        answer = predictor.ask(picture, top_k, explain)
        for prediction in answer.predictions:
            table.add_row(escape(prediction.label), f"{prediction.probability:.4f}")
        console.print(table)
        stem, count = picture.stem, 1
        while stem in taken:  # pictures of two folders may have one name
            count += 1
            stem = f"{picture.stem}-{count}"
        taken.add(stem)
        if show:
            drawn = draw_answer(picture_bytes(picture), answer.predictions, true_label)
            _open_picture(drawn, "the answer", Path(f"{stem}-predicted.png"))
        if answer.explanation:
            seen = Image.open(io.BytesIO(answer.explanation))
            _open_picture(seen, f"why {answer.predictions[0].label}", Path(f"{stem}-explained.png"))


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
@with_settings("region", "bucket", "prefix")
def upload(
    source: Annotated[str, typer.Argument(help="a folder of images, or a file")],
) -> None:
    """Upload images or weights to the bucket, what is not there yet, and print the URI that jobs can be given."""
    platform = AwsPlatform(Console(stderr=True), given_settings())
    if not Path(source).exists():
        raise KennelError(f"there is no {source}; give a folder of images, or a file")
    print(platform.channel(source))


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
@with_settings("region", "repository")
def push(
    source: Annotated[Path, typer.Option(help="the checkout that the image was built from")] = Path(),
) -> None:
    """Push the image to Amazon ECR and print its URI, for jobs to name; a kennel.toml that is there is told."""
    from kennel_cli.user_settings import read_settings  # noqa: PLC0415 - slow to import

    given = read_settings(given_settings())
    errors = Console(stderr=True)
    say = functools.partial(errors.print, markup=False, highlight=False, soft_wrap=True)
    uri = registry.push(LOCAL.image, given.repository, given.region or None, source, say)
    print(uri)
    if file := settings_file():
        write_settings(file, {"image": uri})
        say(f"{file} names it")


def _open_picture(image: Image.Image, what: str, file: Path) -> None:
    file = file.absolute()
    save_picture(image, file)
    console.print(f"{what}: {file}", markup=False, highlight=False, soft_wrap=True)
    webbrowser.open(file.as_uri())


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


def _list_transforms(sagemaker: Any, limit: dict[str, int]) -> None:
    table = Table("batch transform", "status", "started")
    for job in sagemaker.list_transform_jobs(**NEWEST_FIRST, **limit)["TransformJobSummaries"]:
        started = job["CreationTime"].astimezone().strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(job["TransformJobName"], job["TransformJobStatus"], started)
    if table.row_count:
        console.print(table)


def _list_endpoints(platform: Platform) -> None:
    table = Table("endpoint", "status", "address")
    for endpoint in platform.sagemaker.list_endpoints(**NEWEST_FIRST)["Endpoints"]:
        name, status = endpoint["EndpointName"], endpoint["EndpointStatus"]
        table.add_row(name, status, platform.endpoint_url(name) if status == "InService" else "")
    if table.row_count:
        console.print(table)


if __name__ == "__main__":
    main()

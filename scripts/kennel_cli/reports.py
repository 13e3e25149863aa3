"""The command `kennel report`: the page of a training job, made anew of what the job left, or of two side by side."""

import re
import tarfile
import tempfile
import webbrowser
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import typer
from botocore.exceptions import ClientError

from kennel.atomic import replacing
from kennel.errors import ReportError
from kennel.report.comparison_page import write_comparison
from kennel.report.job_page import PAGE, write_job_page
from kennel.report.job_record import JOB, read_job
from kennel_cli.places import OfPlace, Place, console, platform_of
from kennel_cli.platforms.local import LocalSageMaker
from kennel_cli.platforms.platform import RUNNING, Platform, is_not_there
from kennel_cli.settings import kennel_home

PRICE = "KENNEL_INSTANCE_PRICE"

_MISSING = ("404", "NoSuchKey")  # how S3 says that there is no such object


def report(
    job: Annotated[str, typer.Argument(help="a training job, or a folder with what a job left in its output")],
    other: Annotated[str | None, typer.Argument(help="a second one, to compare it with")] = None,
    price: Annotated[
        float | None, typer.Option(envvar=PRICE, min=0, help="dollars that an hour of the machine costs")
    ] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="do not open the page")] = False,
    on: OfPlace = Place.LOCAL,
) -> None:
    """Show the report of a training job, or compare two."""
    platform = platform_of(on)
    found = [_find(platform, name, price) for name in (job, other) if name is not None]
    pages = [write_job_page(folder, known) for folder, known in found]
    page = pages[0]
    if len(found) == 2:
        first, second = (read_job(folder, known) for folder, known in found)
        names = (re.sub(r"[^\w-]", "-", record.name) for record in (first, second))
        page = kennel_home() / "reports" / f"{'--'.join(names)}.html"
        write_comparison(first, second, page)
    console.print(f"the report:    {page}", highlight=False, soft_wrap=True)
    if not no_open:
        webbrowser.open(page.as_uri())


def job_output(platform: Platform, job: str) -> Path:
    """Return the folder with what a job left in `output/data`; on AWS it is downloaded. Raises ReportError."""
    return _find(platform, job, None)[0]


def local_report(sagemaker: LocalSageMaker, job: str) -> Path | None:
    """Return the page that a job on this machine has left, if there is one."""
    page = _output(sagemaker, job) / PAGE
    return page if page.exists() else None


def _output(sagemaker: LocalSageMaker, job: str) -> Path:
    return sagemaker.training_folder(job) / "ml" / "output" / "data"


def _find(platform: Platform, job: str, price: float | None) -> tuple[Path, dict[str, Any]]:
    """Return the folder of a job's output, and what is known of the job beside it. Raises ReportError."""
    known: dict[str, Any] = {} if price is None else {"price": price}
    if (Path(job) / JOB).exists():
        return Path(job).absolute(), known
    described = _describe(platform, job)
    known |= {
        "name": job,
        "image": described["AlgorithmSpecification"].get("TrainingImage", ""),
        "status": "InProgress" if described["TrainingJobStatus"] in RUNNING else described["TrainingJobStatus"],
        "reason": described.get("FailureReason", ""),
    }
    if not platform.option:
        return _output(platform.sagemaker, job), known
    known["sources"] = _sources(described)
    return _fetch(platform, job, described), known


def _describe(platform: Platform, job: str) -> Mapping[str, Any]:
    try:
        described: Mapping[str, Any] = platform.sagemaker.describe_training_job(TrainingJobName=job)
    except ClientError as error:
        if is_not_there(error):
            raise ReportError(f"there is no training job {job}; see `kennel jobs{platform.option}`") from error
        raise
    return described


def _sources(described: Mapping[str, Any]) -> dict[str, str]:
    """Return the URI of each channel."""
    channels = {channel["ChannelName"]: channel["DataSource"] for channel in described.get("InputDataConfig", [])}
    return {name: source["S3DataSource"]["S3Uri"] for name, source in channels.items() if "S3DataSource" in source}


def _fetch(platform: Platform, job: str, described: Mapping[str, Any]) -> Path:
    """Download a job's output, and return its folder here. Raises ReportError when there is none."""
    archive = f"{described['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{job}/output/output.tar.gz"
    folder = kennel_home() / "reports" / job
    with tempfile.TemporaryDirectory() as copy:
        try:
            file = platform.fetch(archive, Path(copy))
        except ClientError as error:
            if error.response["Error"]["Code"] not in _MISSING:
                raise
            status = described["TrainingJobStatus"]
            raise ReportError(f"the job {job} is {status} and has left no output yet ({archive} is missing)") from error
        with tarfile.open(file) as tar:
            for member in tar.getmembers():
                name = PurePosixPath(member.name)  # without the ./ that some archives put before every name
                content = tar.extractfile(member)  # None for what is no file
                if content and len(name.parts) == 1:
                    with replacing(folder / name.name) as temporary:
                        temporary.write_bytes(content.read())
    return folder

"""The command `kennel transform`: ask a model about all pictures of a folder, and write a table of its answers."""

from __future__ import annotations

import contextlib
import json
import math
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from botocore.exceptions import ClientError
from rich.markup import escape
from rich.table import Table

from kennel.errors import DataError, KennelError
from kennel_cli.endpoints import Served, plan_model
from kennel_cli.jobs import new_name
from kennel_cli.operations.job_cost import transform_cost
from kennel_cli.paths import in_utf8
from kennel_cli.places import DryRun, On, Place, console, platform_of, say, say_page
from kennel_cli.platforms.platform import S3, Kind, Platform
from kennel_cli.platforms.store import files_below
from kennel_cli.platforms.validation import validate
from kennel_cli.prediction.answers import IMAGE, Answer, accept_header, asked_top_k
from kennel_cli.requests import transform_job
from kennel_cli.transform.follow import follow_transform
from kennel_cli.transform.table import join_answers, write_table

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.type_defs import CreateModelInputTypeDef, CreateTransformJobRequestTypeDef

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_MEGABYTE = 2**20
_USUAL = 6  # MB of a picture that the container says it takes (contract C4.2)
_MOST = 100  # MB of a picture, and of all that are asked about at once (contract C4.2)
_SHOWN = 10  # classes that are counted on the screen


class TransformFailed(KennelError):
    """A batch transform job has failed, or has no answer to some pictures."""


def transform(
    source: Annotated[
        str | None, typer.Argument(help="a picture, a folder of pictures and folders, or its s3:// URI")
    ] = None,
    model: Annotated[str | None, typer.Option(help="a finished training job, or a model folder")] = None,
    name: Annotated[str | None, typer.Option(help="name of the job; made from the model's unless given")] = None,
    to: Annotated[Path | None, typer.Option(help="the table, a CSV file; NAME.csv unless given")] = None,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="how many classes the table holds for each picture; 1 unless given")
    ] = None,
    max_payload: Annotated[
        int, typer.Option(min=0, max=_MOST, help="MB of the largest picture; needed for s3:// with more than 6")
    ] = 0,
    instance_count: Annotated[int, typer.Option(min=1, help="on AWS: machines that share the pictures")] = 1,
    again: Annotated[
        str | None, typer.Option("--again", help="an earlier job: follow it to its end, and write its table")
    ] = None,
    dry_run: DryRun = False,
    on: On = Place.LOCAL,
) -> None:
    """Ask a model about all pictures of a folder in one job, and write a table of its answers."""
    platform = platform_of(on)
    if again is not None:
        if source or model:
            raise KennelError("--again names a job that has its pictures and its model; leave out the others")
        _finish(platform, again, top_k, to)
        return
    if source is None or model is None:
        raise KennelError("give a folder of pictures and --model, or --again with the name of an earlier job")
    if instance_count > 1 and on is not Place.AWS:
        raise KennelError("--instance-count is for jobs on AWS; add --on aws, or leave it out")
    name = name or new_name(Path(model).absolute().name)
    source, size = _source(source, max_payload)
    created, packed = plan_model(platform, Served(model), name, packed=True)
    uri = platform.channel_uri(source)
    request = transform_job(
        name, name, uri, platform.settings, IMAGE, accept_header(top_k or 1, False), instance_count, size
    )
    validate("CreateTransformJob", request)
    if dry_run:
        print(json.dumps({"CreateModel": created, "CreateTransformJob": request}, indent=2))
        return
    platform.require_means()
    _start(platform, created, request, [packed, source] if packed else [source])
    console.print(f"job {name}", highlight=False)
    say_page(platform, Kind.TRANSFORM, name)
    _finish(platform, name, top_k, to)


def _source(source: str, max_payload: int) -> tuple[str, int]:
    """Return the source, a folder in the bucket with its slash, and the MB that a picture may have, 0 for the usual.

    Raises DataError for what is here and cannot all be answered.
    """
    if source.startswith(S3):
        is_picture = source.lower().endswith(PICTURES)
        return (source if is_picture else source.rstrip("/") + "/"), max_payload
    path = Path(source)
    if not path.exists():
        raise DataError(f"there is no {source}; give a picture, or a folder of pictures")
    files = sorted(files_below(path)) if path.is_dir() else [path]
    if not files:
        raise DataError(f"there is no picture in {source}")
    for file in files:
        in_utf8(str(file))
        if file.suffix.lower() not in PICTURES:
            raise DataError(
                f"{file} is no picture ({', '.join(PICTURES)}); the job would ask about each file, so move it away"
            )
    largest = max(files, key=lambda file: file.stat().st_size)
    needed = math.ceil(largest.stat().st_size / _MEGABYTE)
    if needed > (max_payload or _MOST):
        raise DataError(f"{largest} has {needed} MB, more than the {max_payload or _MOST} that a picture may have")
    return source, max_payload or (needed if needed > _USUAL else 0)


def _start(
    platform: Platform,
    model: CreateModelInputTypeDef,
    request: CreateTransformJobRequestTypeDef,
    sources: list[str],
) -> None:
    """Upload what has to be, and create the model and the job; both or none."""
    for source in sources:
        platform.channel(source)
    platform.sagemaker.create_model(**model)
    try:
        platform.sagemaker.create_transform_job(**request)
    except ClientError:
        platform.sagemaker.delete_model(ModelName=model["ModelName"])
        raise


def _finish(platform: Platform, name: str, top_k: int | None, to: Path | None) -> None:
    """Follow a job to its end, write the table, and forget the job's model entry.

    The table holds as many classes as the job was asked for, unless `top_k` is given.

    Raises TransformFailed, with the reason, unless every picture has an answer.
    """
    job = follow_transform(platform, name)
    output = job["TransformOutput"]["S3OutputPath"].rstrip("/") + "/"
    pictures = platform.names(job["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"])
    with tempfile.TemporaryDirectory() as folder:
        answers = join_answers(pictures, platform.fetch(output, Path(folder)))
    file = to or Path(f"{name}.csv")
    write_table(answers, top_k or asked_top_k(job["TransformOutput"].get("Accept", "")), file)
    _forget_model(platform, job)
    if platform.option and (cost := transform_cost(job)):
        say(cost)
    _show(answers)
    say(f"the table: {file.absolute()}")
    missing = sum(isinstance(answer, str) for answer in answers.values())
    if missing or job["TransformJobStatus"] == "Failed":
        without = f"{missing} of {len(answers)} pictures have no answer"
        reason = f"; {job['FailureReason']}" if job.get("FailureReason") else ""
        raise TransformFailed(f"the job {name} is {job['TransformJobStatus']}: {without}{reason}")


def _forget_model(platform: Platform, job: Mapping[str, Any]) -> None:
    """Delete the model entry that was made for a job, which has its name."""
    if job["ModelName"] == job["TransformJobName"]:
        with contextlib.suppress(ClientError):  # forgotten the first time
            platform.sagemaker.delete_model(ModelName=job["ModelName"])


def _show(answers: Mapping[str, Answer | str]) -> None:
    """Print how often each class comes first."""
    counts = Counter(answer.predictions[0].label for answer in answers.values() if not isinstance(answer, str))
    table = Table("class", "pictures")
    shown = counts.most_common(_SHOWN)
    for label, count in shown:
        table.add_row(escape(label), f"{count:,}")
    if len(counts) > _SHOWN:
        rest = counts.total() - sum(count for _, count in shown)
        table.add_row(f"{len(counts) - _SHOWN} more", f"{rest:,}")
    if counts:
        console.print(table)

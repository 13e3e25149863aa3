"""Start training: from the user's folders and values to a request, and to the place where it runs."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, ParamValidationError

from kennel.errors import ArtifactError, DataError, WeightsError
from kennel.hyperparameters import canonical_name, parse_hyperparameters
from kennel_cli.aws_debugger import add_debugger
from kennel_cli.platforms.platform import S3, Platform, is_not_there
from kennel_cli.platforms.validation import validate
from kennel_cli.requests import PLAIN, JobOptions, training_job

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.type_defs import CreateTrainingJobRequestTypeDef


@dataclass(frozen=True)
class JobInputs:
    """What a job is given, checked."""

    sources: Mapping[str, str]  # a channel's name and the user's path or s3:// URI
    hyperparameters: Mapping[str, str]
    backbone: str


def earlier_model(platform: Platform, model: str) -> tuple[str, dict[str, str]]:
    """Return where an earlier model lies, as a path or a URI, and the hyperparameters with which it goes on.

    `model` is a finished training job or a model folder. Raises ArtifactError when it is neither.
    """
    manifest = Path(model) / "kennel.json"
    if manifest.is_file():
        try:
            found = json.loads(manifest.read_text(encoding="utf-8"))
            size = found["preprocessing"]["crop"]
            return model, {"backbone": found["backbone"], "fc_units": str(found["fc_units"]), "image_size": str(size)}
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{manifest} is damaged: {error!r}; give another model folder, or a job") from error
    job = job_with_model(platform.sagemaker, model, platform.option)
    given = {canonical_name(name): value for name, value in job.get("HyperParameters", {}).items()}
    kept: dict[str, str] = {name: given[name] for name in given.keys() & {"backbone", "fc_units", "image_size"}}
    return job["ModelArtifacts"]["S3ModelArtifacts"], kept


def job_with_model(sagemaker: Any, name: str, option: str = "") -> Any:
    """Return the description of a finished training job; `option` is what `kennel jobs` needs to list it.

    Raises ArtifactError when there is no such job, or no model of it.
    """
    try:
        job = sagemaker.describe_training_job(TrainingJobName=name)
    except (ClientError, ParamValidationError) as error:
        if isinstance(error, ClientError) and not is_not_there(error):
            raise
        raise ArtifactError(
            f"{name} is neither a training job (see `kennel jobs{option}`) nor a folder with a kennel.json in it"
        ) from None
    if "ModelArtifacts" not in job:
        raise ArtifactError(f"the job {name} is {job['TrainingJobStatus']} and has no model")
    return job


def job_inputs(
    data: str, weights: str | None, hyperparameters: Mapping[str, str], model: str | None = None
) -> JobInputs:
    """Check what a job is given.

    `data` is a folder or an `s3://` URI; `weights` is a file, an `s3://` URI, `none`, or None for none given; `model`
    is where an earlier model lies that the job continues. Raises KennelError when a value, the folder or the file is
    not right.
    """
    if not data.startswith(S3) and not Path(data).is_dir():
        raise DataError(f"there is no folder {data}; give one that holds train/, valid/ and test/")
    sources, values = {"training": data}, dict(hyperparameters)
    if weights == "none":
        values["weights"] = "none"
    elif weights is not None:
        if not weights.startswith(S3) and not Path(weights).is_file():
            raise DataError(f"there is no weights file {weights}; give a file, or none to train from scratch")
        sources["pretrained"] = weights
    if model is not None:
        if weights is not None:
            raise WeightsError(f"weights {weights} and an earlier model: a job begins with one of them; leave out one")
        sources["model"] = model
    backbone = parse_hyperparameters(values).backbone
    return JobInputs(sources, values, backbone)


def training_request(
    platform: Platform,
    inputs: JobInputs,
    name: str | None = None,
    options: JobOptions = PLAIN,
) -> CreateTrainingJobRequestTypeDef:
    """Return a valid CreateTrainingJob request; nothing is linked, uploaded or started.

    Raises KennelError where the region lacks what `options` asks for.
    """
    channels = {channel: platform.channel_uri(source) for channel, source in inputs.sources.items()}
    name = name or new_name(inputs.backbone)
    request = training_job(name, channels, inputs.hyperparameters, platform.settings, options)
    if options.debugger:
        add_debugger(request)
    validate("CreateTrainingJob", request)
    return request


def start_training(
    platform: Platform,
    data: str,
    weights: str | None,
    hyperparameters: Mapping[str, str],
    name: str | None = None,
    options: JobOptions = PLAIN,
    model: str | None = None,
) -> str:
    """Start a training job on images and return its name; for `data`, `weights` and `model` see `job_inputs`.

    Raises KennelError, or what `validate` raises, before anything is uploaded or started.
    """
    platform.require_means()
    inputs = job_inputs(data, weights, hyperparameters, model)
    request = training_request(platform, inputs, name, options)
    for source in inputs.sources.values():
        platform.channel(source)
    platform.sagemaker.create_training_job(**request)
    return request["TrainingJobName"]


def new_name(stem: str) -> str:
    """Return a name for a job or an endpoint that nobody has used: the stem, the time, three random digits."""
    plain = "".join(c if c.isalnum() and c.isascii() else "-" for c in stem).strip("-") or "kennel"
    return f"{plain[:30].strip('-')}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)[:3]}"

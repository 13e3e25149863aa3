"""The command `kennel register`: a job's model as the next version of a group that people approve from."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from botocore.exceptions import ClientError

from kennel.atomic import write_json
from kennel.errors import KennelError
from kennel_cli import requests
from kennel_cli.jobs import job_with_model
from kennel_cli.places import DryRun, OfPlace, Place, console, platform_of
from kennel_cli.platforms.platform import Platform, is_not_there
from kennel_cli.platforms.validation import validate
from kennel_cli.settings import kennel_home

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.type_defs import CreateModelPackageInputTypeDef, InferenceSpecificationTypeDef

_REQUIREMENT = re.compile(r"\s*(\w+)\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*")
_COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


class NotGoodEnough(KennelError):
    """A model does not fulfil what is required of it."""


def register(
    job: Annotated[str, typer.Argument(help="a finished training job")],
    group: Annotated[str, typer.Option(help="the group of the model's versions; made if it is not there")],
    require: Annotated[
        list[str] | None, typer.Option(help="'test_accuracy>=0.85': register nothing less; repeatable")
    ] = None,
    approve: Annotated[bool, typer.Option("--approve", help="as approved; else somebody has to approve it")] = False,
    dry_run: DryRun = False,
    on: OfPlace = Place.LOCAL,
) -> None:
    """Register a job's model, with its metrics, as the next version of a group."""
    platform = platform_of(on)
    description = job_with_model(platform.sagemaker, job, platform.option)
    metrics = {metric["MetricName"]: metric["Value"] for metric in description.get("FinalMetricDataList", [])}
    check_requirements(require or [], metrics)
    file = kennel_home() / "models" / job / "metrics.json"
    write_json(file, metrics)
    request = package_request(platform, description, group, metrics, platform.channel_uri(str(file)), approve)
    validate("CreateModelPackage", request)
    if dry_run:
        print(json.dumps({"CreateModelPackage": request}, indent=2))
        return
    _ensure_group(platform, group)
    platform.channel(str(file))
    arn = platform.sagemaker.create_model_package(**request)["ModelPackageArn"]
    console.print(f"{arn} is {request['ModelApprovalStatus']}", highlight=False, soft_wrap=True)


def check_requirements(requirements: list[str], metrics: Mapping[str, float]) -> None:
    """Raise NotGoodEnough unless all hold; KennelError for one that is none, or is about an unknown metric."""
    failed = []
    for text in requirements:
        match = _REQUIREMENT.fullmatch(text)
        try:
            name, sign, bound = match[1], match[2], float(match[3])  # type: ignore[index]  # caught below
        except (TypeError, ValueError):
            raise KennelError(f"--require is {text!r}; it should be like test_accuracy>=0.85") from None
        if name not in metrics:
            known = ", ".join(sorted(metrics)) or "none"
            raise KennelError(f"--require asks for {name}, and the job's metrics are: {known}")
        if not _COMPARE[sign](metrics[name], bound):
            failed.append(f"{name} is {metrics[name]:.4f}, not {sign}{bound:g}")
    if failed:
        raise NotGoodEnough(f"nothing was registered: {'; '.join(failed)}")


def package_request(
    platform: Platform,
    job: Mapping[str, Any],
    group: str,
    metrics: Mapping[str, float],
    metrics_uri: str,
    approved: bool,
) -> CreateModelPackageInputTypeDef:
    """Return a CreateModelPackage request for a described training job."""
    settings = platform.settings
    known = {"training_job": job["TrainingJobName"], **{name: f"{value:.6g}" for name, value in metrics.items()}}
    specification: InferenceSpecificationTypeDef = {
        "Containers": [{"Image": settings.image, "ModelDataUrl": job["ModelArtifacts"]["S3ModelArtifacts"]}],
        "SupportedContentTypes": ["image/jpeg", "image/png", "application/x-image", "application/x-npy"],
        "SupportedResponseMIMETypes": ["application/json", "text/csv", "application/x-npy"],
        "SupportedRealtimeInferenceInstanceTypes": [settings.endpoint_instance],
    }
    return {
        "ModelPackageGroupName": group,
        "ModelPackageDescription": f"the model of the training job {job['TrainingJobName']}",
        "ModelApprovalStatus": "Approved" if approved else "PendingManualApproval",
        "InferenceSpecification": specification,
        "ModelMetrics": {"ModelQuality": {"Statistics": {"ContentType": "application/json", "S3Uri": metrics_uri}}},
        "CustomerMetadataProperties": known,
    }


def _ensure_group(platform: Platform, group: str) -> None:
    """Make a group unless it is there."""
    try:
        platform.sagemaker.describe_model_package_group(ModelPackageGroupName=group)
    except ClientError as error:
        if not is_not_there(error):
            raise
        request: dict[str, Any] = {"ModelPackageGroupName": group}
        if platform.settings.tags:
            request["Tags"] = requests.tag_list(platform.settings.tags)
        platform.sagemaker.create_model_package_group(**request)

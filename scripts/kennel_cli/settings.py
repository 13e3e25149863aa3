"""Whose account, which image, which machines: what a request needs beside the job itself."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from kennel.errors import KennelError
from kennel_cli.platforms.validation import service_model

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.literals import ProductionVariantInstanceTypeType, TrainingInstanceTypeType

ROLE = "KENNEL_ROLE"
BUCKET = "KENNEL_BUCKET"
IMAGE = "KENNEL_IMAGE"
TRAINING_INSTANCE = "KENNEL_TRAINING_INSTANCE"
ENDPOINT_INSTANCE = "KENNEL_ENDPOINT_INSTANCE"
TAGS = "KENNEL_TAGS"

_FORMS = (  # a variable, the form of its value, and that form in words
    (
        ROLE,
        re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+", re.ASCII),
        "the ARN of the role that jobs take on, such as arn:aws:iam::123456789012:role/kennel",
    ),
    (
        BUCKET,
        re.compile(r"|[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"),  # none is right too
        "the name of a bucket alone, such as my-bucket, without s3://",
    ),
    (
        IMAGE,
        re.compile(
            r"\d{12}\.dkr\.ecr(-fips)?\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[a-z0-9._/-]+(:[\w.-]+)?(@sha256:[0-9a-f]{64})?",
            re.ASCII,
        ),
        "the URI of the image in Amazon ECR, as `make push` prints it, such as "
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com/kennel@sha256:…",
    ),
)


class SettingsError(KennelError):
    """One or more settings are missing or malformed; the message lists all of them."""


@dataclass(frozen=True)
class Settings:
    """The values that fill the same fields in every request."""

    role_arn: str
    bucket: str
    image: str
    training_instance: "TrainingInstanceTypeType"
    endpoint_instance: "ProductionVariantInstanceTypeType"
    tags: Mapping[str, str] = field(default_factory=dict)  # on all that is created, so that a bill can be told apart


# SageMaker's requests cannot do without these, so a local job carries them too; but for the image, they
# name nothing that exists.
LOCAL = Settings(
    role_arn="arn:aws:iam::000000000000:role/kennel-local",
    bucket="kennel-local",
    image=os.environ.get(IMAGE) or "kennel",  # --on docker runs it; `make build` makes it under this name
    training_instance="ml.m5.large",
    endpoint_instance="ml.m5.large",
)


def aws_settings(environment: Mapping[str, str], default_bucket: Callable[[], str]) -> Settings:
    """Return the settings of jobs on AWS, from environment variables.

    `default_bucket` is asked only when no bucket is named. Raises SettingsError with one sentence for each variable
    that is missing or malformed.
    """
    problems = [_problem(environment, name, pattern, right) for name, pattern, right in _FORMS]
    training, more = _instance(environment, TRAINING_INSTANCE, "ml.g5.xlarge", "TrainingInstanceType")
    problems += more
    endpoint, more = _instance(environment, ENDPOINT_INSTANCE, "ml.m5.large", "ProductionVariantInstanceType")
    problems += more
    tags, more = _tags(environment)
    problems += more
    if any(problems):
        raise SettingsError("; ".join(filter(None, problems)))
    return Settings(
        role_arn=environment[ROLE],
        bucket=environment.get(BUCKET) or default_bucket(),
        image=environment[IMAGE],
        training_instance=cast("TrainingInstanceTypeType", training),
        endpoint_instance=cast("ProductionVariantInstanceTypeType", endpoint),
        tags=tags,
    )


def kennel_home() -> Path:
    """Return the folder of local jobs, endpoints, buckets and caches: `KENNEL_HOME`, or `~/.kennel`."""
    return Path(os.environ.get("KENNEL_HOME") or Path.home() / ".kennel").expanduser().absolute()


def _problem(environment: Mapping[str, str], name: str, pattern: re.Pattern[str], right: str) -> str:
    """Return what is wrong with the value of a variable, or ""; `right` says what it should be."""
    value = environment.get(name, "")
    if pattern.fullmatch(value):
        return ""
    return f"{name} is {value!r}; it should be {right}" if value else f"{name} is not set; set it to {right}"


def _instance(environment: Mapping[str, str], name: str, default: str, shape: str) -> tuple[str, list[str]]:
    """Return the instance type that `name` sets, and what is wrong with it."""
    instance = environment.get(name) or default
    if instance in service_model("sagemaker").shape_for(shape).metadata["enum"]:
        return instance, []
    return instance, [f"{name} is {instance!r}, which the installed boto3 does not know; one such as {default} is"]


def _tags(environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the tags of `team=vision,project=dogs`, and what is wrong with them."""
    tags: dict[str, str] = {}
    for part in filter(None, environment.get(TAGS, "").split(",")):
        key, sign, value = (text.strip() for text in part.partition("="))
        if not sign or not key or key in tags:
            return {}, [f"{TAGS} has {part.strip()!r}; it should be key=value pairs, such as team=vision,project=dogs"]
        tags[key] = value
    return tags, []

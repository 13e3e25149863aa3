"""Whose account, which image, which machines: what a request needs beside the job itself."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kennel_cli.paths import absolute

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.literals import ProductionVariantInstanceTypeType, TrainingInstanceTypeType


@dataclass(frozen=True)
class Settings:
    """The values that fill the same fields in every request."""

    role_arn: str
    endpoint_role_arn: str
    bucket: str
    image: str
    training_instance: "TrainingInstanceTypeType"
    endpoint_instance: "ProductionVariantInstanceTypeType"
    prefix: str = ""  # before all keys in the bucket; ends with a slash unless empty
    subnets: Sequence[str] = ()
    security_groups: Sequence[str] = ()
    kms_key: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)  # on all that is created, so that a bill can be told apart


# SageMaker's requests cannot do without these, so a local job carries them too; but for the image, they
# name nothing that exists.
LOCAL = Settings(
    role_arn="arn:aws:iam::000000000000:role/kennel-local",
    endpoint_role_arn="arn:aws:iam::000000000000:role/kennel-local",
    bucket="kennel-local",
    image=os.environ.get("KENNEL_IMAGE") or "kennel",  # --on docker runs it; `make build` makes it under this name
    training_instance="ml.m5.large",
    endpoint_instance="ml.m5.large",
)


def kennel_home() -> Path:
    """Return the folder of local jobs, endpoints, buckets and caches: `KENNEL_HOME`, or `~/.kennel`."""
    return absolute(Path(os.environ.get("KENNEL_HOME") or Path.home() / ".kennel").expanduser())

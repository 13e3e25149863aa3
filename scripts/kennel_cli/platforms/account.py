"""The user's AWS account: its clients, and what AWS and the network answer instead, in one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from boto3.exceptions import S3UploadFailedError
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's own name for it
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
    SSOError,
    TokenRetrievalError,
    WaiterError,
)

from kennel.errors import KennelError
from kennel_cli.platforms.refusals import refusal

# whoever follows a job for a day is throttled now and then; with more attempts, an address that is wrong hangs for long
_CONFIG = Config(retries={"mode": "standard", "max_attempts": 5})
_TITLES = {
    "application-autoscaling": "Application Auto Scaling",
    "cloudformation": "CloudFormation",
    "cloudwatch": "CloudWatch",
    "ecr": "ECR",
    "iam": "IAM",
    "s3": "S3",
    "sagemaker": "SageMaker",
    "service-quotas": "Service Quotas",
    "sagemaker-runtime": "SageMaker",
    "sts": "STS",
    "logs": "CloudWatch Logs",
}


class AwsError(KennelError):
    """AWS cannot be used: no credentials or region, not allowed, or no way to reach it."""


def aws_session(region: str | None, service: str = "sagemaker") -> boto3.Session:
    """Return a session in `region`, or in the region of the user's profile.

    Raises AwsError for no region, one in which AWS has no such service, or a profile that is not there.
    """
    with aws_errors():
        session = boto3.Session(region_name=region)
        known = {r for p in session.get_available_partitions() for r in session.get_available_regions(service, p)}
    if session.region_name is None:
        raise AwsError("no AWS region is set; set AWS_REGION, or the region of your AWS profile")
    if session.region_name not in known:
        title = _TITLES[service]
        raise AwsError(
            f"AWS has no region {session.region_name!r} with {title}; set AWS_REGION to one such as us-east-1"
        )
    return session


def aws_client(session: boto3.Session, service: str, config: Config = _CONFIG) -> Any:
    """Return boto3's client of a service; it tries a throttled or unanswered call again, unless `config` differs."""
    with aws_errors(service):
        return session.client(service, config=config)


def console_address(session: boto3.Session) -> str:
    """Return the address of the management console of the session's region."""
    region = str(session.region_name)
    domains = {"aws-cn": "amazonaws.cn", "aws-us-gov": "amazonaws-us-gov.com"}
    return f"https://{region}.console.{domains.get(session.get_partition_for_region(region), 'aws.amazon.com')}"


def default_bucket(session: boto3.Session, account: str) -> str:
    """Return the name that SageMaker's own tools give to an account's bucket in the session's region."""
    return f"sagemaker-{session.region_name}-{account}"


@contextmanager
def aws_errors(service: str = "") -> Iterator[None]:
    """Turn what is wrong with the account or the network, in the block, into an AwsError.

    A ClientError that is about the request itself, such as a name that is not there, is left to the caller.
    """
    try:
        yield
    except (ClientError, BotoCoreError, S3UploadFailedError) as error:
        sentence = aws_sentence(error, service)
        if not sentence:
            raise
        raise AwsError(sentence) from error


def aws_sentence(error: Exception, service: str = "") -> str:
    """Return what is wrong with the account or the network, or "" for an error that is about the request itself."""
    title = _TITLES.get(service, "AWS")
    cause = error.__context__ if isinstance(error, S3UploadFailedError) else error
    if isinstance(cause, ClientError):
        reason = refusal(cause, service, title)
        if reason or cause is error:
            return reason
    if isinstance(error, (ParamValidationError, WaiterError)):
        return ""
    if isinstance(error, NoCredentialsError):
        return "there are no AWS credentials; set AWS_PROFILE, or log in with `aws sso login`"
    if isinstance(error, (SSOError, TokenRetrievalError)):
        return f"the login at AWS is no longer good ({error}); log in again with `aws sso login`"
    if isinstance(error, (ConnectionError, HTTPClientError)):
        return f"{title} does not answer: {error}"
    return f"{title} cannot be used: {error}"

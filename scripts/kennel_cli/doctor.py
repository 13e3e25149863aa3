"""The command `kennel doctor`: what stands between the user and a job, and what to do about it."""

import json
import platform as machine
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from kennel.errors import KennelError
from kennel_cli.places import OfPlace, Place, console, given_settings, say
from kennel_cli.platforms.account import aws_client, aws_errors, aws_session, default_bucket
from kennel_cli.platforms.docker import require_image
from kennel_cli.platforms.means import require_image_packages
from kennel_cli.settings import LOCAL

OLDEST = (3, 11)  # Python


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    trouble: str = ""  # what is wrong, and what to do about it; "" for nothing
    needed: bool = True  # else there is a way without it


class DoctorFailed(KennelError):
    """Something that is needed is not there."""


def doctor(on: OfPlace = Place.LOCAL) -> None:
    """Look for what jobs and endpoints need, here or on AWS, and say what to do where it is not there."""
    findings = []
    for finding in _of_aws() if on is Place.AWS else _of_this_machine(on):
        findings.append(finding)
        mark = "[green]✓[/]" if not finding.trouble else "[red]✗[/]" if finding.needed else "[yellow]–[/]"
        console.print(f"{mark} ", end="")
        say(f"{finding.what}: {finding.trouble}" if finding.trouble else finding.what)
    if wrong := sum(bool(finding.trouble) and finding.needed for finding in findings):
        raise DoctorFailed(f"{wrong} of {len(findings)} things are not as they should be")


def _of_this_machine(on: Place) -> Iterator[Finding]:
    yield _python()
    yield _look("packages that jobs on this machine need", require_image_packages, needed=on is Place.LOCAL)
    yield _look(f"Docker, with the image {LOCAL.image}", lambda: require_image(LOCAL.image), needed=on is Place.DOCKER)


def _of_aws() -> Iterator[Finding]:
    from kennel_cli.user_settings import read_settings  # noqa: PLC0415 - slow to import

    yield _python()
    given: Any = None

    def settings() -> None:
        nonlocal given
        given = read_settings(given_settings())

    yield (read := _look("settings", settings))
    if read.trouble:
        return
    session: Any = None

    def connect() -> str:
        nonlocal session
        session = aws_session(given.region or None)
        return f"region {session.region_name}"

    yield (region := _look("region", connect))
    if region.trouble:
        return
    identity: dict[str, Any] = {}

    def who() -> str:
        with aws_errors("sts"):
            identity.update(aws_client(session, "sts").get_caller_identity())
        return f"credentials of {identity['Arn']}"

    yield (credentials := _look("credentials", who))
    if credentials.trouble:
        return
    yield _look("role of jobs", lambda: _check_role(session, given.role))
    if given.endpoint_role:
        yield _look("role of endpoints", lambda: _check_role(session, given.endpoint_role))
    bucket = given.bucket or default_bucket(session, identity["Account"])
    yield _look(f"bucket {bucket}", lambda: _check_bucket(session, bucket))
    yield _look("image", lambda: _check_image(session, given.image))
    for use, instance in (("training job", given.training_instance), ("endpoint", given.endpoint_instance)):
        yield _look(f"quota of {instance} for a {use}", _quota_check(session, f"{instance} for {use} usage"))


def _python() -> Finding:
    trouble = "" if sys.version_info >= OLDEST else f"install Python {OLDEST[0]}.{OLDEST[1]} or newer"
    return Finding(f"Python {machine.python_version()}", trouble)


def _look(what: str, check: Callable[[], str | None], needed: bool = True) -> Finding:
    """Run a check; what it returns says more precisely what was found."""
    try:
        return Finding(check() or what)
    except (KennelError, ClientError, BotoCoreError, ImportError) as error:
        return Finding(what, str(error), needed)


def _check_role(session: Any, arn: str) -> str:
    """Raise KennelError unless SageMaker may take the role on."""
    if not arn:
        raise KennelError("none is set; make one with `kennel init`, or put its ARN into kennel.toml")
    name = arn.rpartition("/")[2]
    try:
        with aws_errors("iam"):
            role = aws_client(session, "iam").get_role(RoleName=name)["Role"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchEntity":
            raise
        raise KennelError(f"there is no role {name} in this account; make one with `kennel init`") from None
    trust = role["AssumeRolePolicyDocument"]
    if "sagemaker.amazonaws.com" not in (trust if isinstance(trust, str) else json.dumps(trust)):
        raise KennelError(f"{name} does not trust sagemaker.amazonaws.com; add it to the role's trust policy")
    return f"role {name}, which SageMaker may take on"


def _check_bucket(session: Any, bucket: str) -> str:
    """Raise KennelError unless the bucket is there, can be listed, and lies in the session's region."""
    s3 = aws_client(session, "s3")
    try:
        with aws_errors("s3"):
            s3.list_objects_v2(Bucket=bucket, MaxKeys=1)
            region = s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] or "us-east-1"
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchBucket":
            raise KennelError("it is not there; make it with `kennel init`, or name yours in kennel.toml") from None
        raise
    if region != session.region_name:
        raise KennelError(f"it lies in {region}, and jobs run in {session.region_name}; set one to the other's region")
    return f"bucket {bucket}, which can be listed"


def _check_image(session: Any, uri: str) -> str:
    """Raise KennelError unless the image is in ECR."""
    if not uri:
        raise KennelError(
            "none is set; push one with `make build push`, and put the URI that it prints into kennel.toml"
        )
    registry, _, rest = uri.partition("/")
    name, digest = rest.split("@") if "@" in rest else (rest, "")
    name, _, tag = name.partition(":")
    identifier = {"imageDigest": digest} if digest else {"imageTag": tag or "latest"}
    ecr = aws_client(session, "ecr")
    try:
        with aws_errors("ecr"):
            ecr.describe_images(registryId=registry.partition(".")[0], repositoryName=name, imageIds=[identifier])
    except (ecr.exceptions.ImageNotFoundException, ecr.exceptions.RepositoryNotFoundException):
        raise KennelError(f"{uri} is not there; push it with `make build push`") from None
    return f"image {uri}"


def _quota_check(session: Any, title: str) -> Callable[[], str]:
    """Return a check that the account may use at least one machine; `title` is the quota's name."""

    def check() -> str:
        quotas = aws_client(session, "service-quotas")
        with aws_errors("service-quotas"):
            pages = quotas.get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker")
            values = {quota["QuotaName"]: quota["Value"] for page in pages for quota in page["Quotas"]}
        if title not in values:
            raise KennelError(f"the account has no quota called {title!r}; look at Service Quotas in the console")
        if values[title] < 1:
            raise KennelError("it is 0; ask for more with `aws service-quotas request-service-quota-increase`")
        return f"quota {title!r} is {values[title]:.0f}"

    return check

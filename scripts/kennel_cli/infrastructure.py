"""What Kennel needs of an AWS account: the stack of `scripts/infrastructure.yaml`, and the values that it is given."""

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import boto3

from kennel.errors import KennelError
from kennel_cli.platforms.account import aws_client, aws_errors
from kennel_cli.platforms.cloudwatch import GROUP, TRANSFORM_GROUP
from kennel_cli.registry import find_repository
from kennel_cli.requests import tag_list
from kennel_cli.stacks import owned_resources

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")  # good for a stack, a repository and a CodeBuild project
_LONGEST = 64
_SOURCE_TYPES = {"github.com": "GITHUB", "bitbucket.org": "BITBUCKET"}  # hosts, by CodeBuild's names for them
_SETTINGS = {  # names in kennel.toml, by the stack's outputs
    "Region": "region",
    "Role": "role",
    "EndpointRole": "endpoint_role",
    "Bucket": "bucket",
    "Repository": "repository",
}


class InfrastructureError(KennelError):
    """The stack cannot be asked for as it is."""


def check_name(name: str) -> None:
    """Raise InfrastructureError unless `name` is good for a stack and for what is named after it."""
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise InfrastructureError(
            f"the name is {name!r}; it should be at most {_LONGEST} lower-case letters, digits and single hyphens, "
            "such as kennel"
        )


def source_type(address: str) -> str:
    """Return CodeBuild's name for the host of a git repository. Raises InfrastructureError for one it has none for."""
    parts = urlsplit(address)
    if parts.scheme == "https" and parts.path.strip("/") and parts.netloc in _SOURCE_TYPES:
        return _SOURCE_TYPES[parts.netloc]
    raise InfrastructureError(
        f"the source repository is {address!r}; it should be an https address at {' or '.join(_SOURCE_TYPES)}, "
        "such as https://github.com/you/kennel, without a password in it"
    )


def stack_values(
    session: boto3.Session, name: str, stack: Mapping[str, Any] | None, given: Mapping[str, str]
) -> dict[str, str]:
    """Return the values of the template's parameters.

    What is not in `given` stays as it is in `stack`, the description of the one that is there already. A repository
    or a log group that is there, and not the stack's own, is left to whoever made it. Raises AwsError.
    """
    before = {p["ParameterKey"]: p["ParameterValue"] for p in stack.get("Parameters", [])} if stack else {}
    values = {"RepositoryName": name, "CreateKey": "false", "SourceRepository": "", "SourceType": "GITHUB"}
    values |= {key: before[key] for key in values.keys() & before.keys()} | dict(given)
    owned: dict[str, str] = {}
    if stack:
        with aws_errors("cloudformation"):
            owned = owned_resources(aws_client(session, "cloudformation"), stack["StackId"])
    repository, logs = values["RepositoryName"], aws_client(session, "logs")
    is_new = {
        "CreateRepository": owned.get("Repository") == repository
        or find_repository(aws_client(session, "ecr"), repository) is None,
        "CreateTrainingLogs": "TrainingLogs" in owned or not _has_group(logs, GROUP),
        "CreateTransformLogs": "TransformLogs" in owned or not _has_group(logs, TRANSFORM_GROUP),
    }
    return values | {parameter: str(value).lower() for parameter, value in is_new.items()}


def stack_request(name: str, values: Mapping[str, str], tags: Mapping[str, str]) -> dict[str, Any]:
    """Return the request with which the stack is created or updated. Raises InfrastructureError without a template."""
    return {
        "StackName": name,
        "TemplateBody": template(),
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()],
        "Capabilities": ["CAPABILITY_IAM"],
        **({"Tags": tag_list(tags)} if tags else {}),
    }


def template() -> str:
    """Return the template's text. Raises InfrastructureError where it is not installed."""
    file = files("kennel_cli") / "infrastructure.yaml"
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise InfrastructureError(
            f"there is no template {file} ({error.strerror}); run `kennel init` where Kennel was installed with pip or "
            "`make setup`, not in its image"
        ) from error


def stack_settings(outputs: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that a stack's outputs give, by their names in kennel.toml."""
    return {setting: outputs[output] for output, setting in _SETTINGS.items()}


def _has_group(logs: Any, name: str) -> bool:
    with aws_errors("logs"):
        groups = logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    return any(group["logGroupName"] == name for group in groups)

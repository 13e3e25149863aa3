"""The command `kennel init`: make what Kennel needs of an AWS account, and write the settings that name it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import boto3
import typer

from kennel_cli import infrastructure
from kennel_cli.places import DryRun, say
from kennel_cli.platforms.account import AwsError, aws_client, aws_errors, aws_session
from kennel_cli.settings_file import SETTINGS_FILE, write_settings
from kennel_cli.stacks import Event, check_ready, find_stack, follow, start


def init(
    name: Annotated[str, typer.Option(help="of the stack; and of the repository, unless that has a name")] = "kennel",
    region: Annotated[
        str | None, typer.Option(help="that of the settings, or of your AWS profile, unless given")
    ] = None,
    repository: Annotated[
        str | None,
        typer.Option(envvar="KENNEL_REPOSITORY", help="in Amazon ECR; one that is there already is used as it is"),
    ] = None,
    repository_source: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="git repository with Kennel in it: also make a CodeBuild project for its image"
        ),
    ] = None,
    kms: Annotated[bool, typer.Option("--kms", help="encrypt the bucket with a key of your own ($1 a month)")] = False,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
) -> None:
    """Make a bucket, a repository and roles in your AWS account, or bring them up to date, and write kennel.toml.

    What is not given stays as it is.
    """
    from kennel_cli.user_settings import read_settings  # noqa: PLC0415 - slow to import

    infrastructure.check_name(name)
    given = {"RepositoryName": repository} if repository else {}
    if repository_source is not None:
        given |= {
            "SourceRepository": repository_source,
            "SourceType": infrastructure.source_type(repository_source),
        }
    if kms:
        given["CreateKey"] = "true"
    settings = read_settings({})
    session = aws_session(region or settings.region or None, "cloudformation")
    _make(session, name, given, settings.tags, dry_run, yes)


def _make(
    session: boto3.Session, name: str, given: dict[str, str], tags: Mapping[str, str], dry_run: bool, yes: bool
) -> None:
    cloudformation = aws_client(session, "cloudformation")
    with aws_errors("cloudformation"):
        stack = find_stack(cloudformation, name)
    if stack:
        _check_ours(stack)
        check_ready(stack)
    request = infrastructure.stack_request(name, infrastructure.stack_values(session, name, stack, given), tags)
    if dry_run:
        print(json.dumps(request, indent=2))
        return
    if not yes:
        verb = "Update" if stack else "Create"
        typer.confirm(f"{verb} the stack {name} in {session.region_name}: a bucket, a repository, roles?", abort=True)
    if operation := start(cloudformation, request, stack):
        with _told_if_left(name):
            stack = follow(cloudformation, operation, _show)
    assert stack is not None  # what is up to date is there
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    for key, value in outputs.items():
        say(f"{key:14}{value}")
    file = Path(SETTINGS_FILE).absolute()
    write_settings(file, infrastructure.stack_settings(outputs))
    say(f"the stack {name} is {stack['StackStatus']}; its settings are in {file}")


def _check_ours(stack: Mapping[str, Any]) -> None:
    """Raise InfrastructureError for a stack of somebody else's: an update would remove all that is in it."""
    if not {"RepositoryName", "CreateTrainingLogs"} <= {one["ParameterKey"] for one in stack.get("Parameters", [])}:
        raise infrastructure.InfrastructureError(
            f"there is a stack {stack['StackName']} that `kennel init` has not made; give another name with --name"
        )


def _show(event: Event) -> None:
    time = event["Timestamp"].astimezone().strftime("%H:%M:%S")
    reason = event.get("ResourceStatusReason", "")
    say(f"{time}  {event['LogicalResourceId']:16}{event['ResourceStatus']:20}  {reason}".rstrip())


@contextmanager
def _told_if_left(name: str) -> Iterator[None]:
    """Say that the stack goes on, where the block ends before it does."""
    goes_on = (
        f"the stack {name} goes on by itself; run `kennel init` again when it has ended, which writes the settings"
    )
    try:
        yield
    except KeyboardInterrupt:
        say(f"\n{goes_on}")
        raise typer.Exit(130) from None
    except AwsError as error:
        raise AwsError(f"{error}; {goes_on}") from error

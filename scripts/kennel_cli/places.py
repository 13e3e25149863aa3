"""The option `--on`: where jobs and endpoints run."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from kennel.errors import KennelError
from kennel_cli.platforms import choice
from kennel_cli.platforms.aws import AwsPlatform
from kennel_cli.platforms.local_platform import LocalPlatform
from kennel_cli.platforms.platform import Platform
from kennel_cli.requests import JobOptions
from kennel_cli.settings import kennel_home


class Machine(StrEnum):
    """Where a new endpoint runs."""

    LOCAL = choice.LOCAL
    DOCKER = choice.DOCKER


class Place(StrEnum):
    """Where a job runs."""

    LOCAL = choice.LOCAL
    DOCKER = choice.DOCKER
    AWS = "aws"


On = Annotated[Place, typer.Option("--on", help="as processes of this machine, in containers of the image, or on AWS")]
OfPlace = Annotated[Place, typer.Option("--on", help="this machine's jobs, however they run, or those on AWS")]
Spot = Annotated[bool, typer.Option("--spot", help="on AWS: take spare machines, which are cheaper")]
Isolated = Annotated[bool, typer.Option("--isolated", help="on AWS: give the job no network")]
AwsDebugger = Annotated[
    bool,
    typer.Option(
        "--aws-debugger", help="on AWS: also use Amazon SageMaker Debugger, where the account still has that service"
    ),
]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="also write the curves for TensorBoard")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="print the request as JSON; send, upload and start nothing")]

console = Console()


def platform_of(on: Place) -> Platform:
    """Return the platform of a place."""
    return AwsPlatform(console) if on is Place.AWS else LocalPlatform(kennel_home(), on)


_OF_AWS = {"spot": "--spot", "isolated": "--isolated", "debugger": "--aws-debugger"}


def job_options(on: Place, **asked: bool) -> JobOptions:
    """Return the options of a job, by the names of JobOptions. Raises KennelError for one that only AWS has."""
    for name, flag in _OF_AWS.items():
        if asked.get(name) and on is not Place.AWS:
            raise KennelError(f"{flag} is for jobs on AWS; add --on aws, or leave it out")
    return JobOptions(**asked)

"""The option `--on`: where jobs and endpoints run."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import fields
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any

import typer
from rich.console import Console

from kennel.errors import KennelError
from kennel_cli.platforms import choice
from kennel_cli.platforms.aws import AwsPlatform
from kennel_cli.platforms.local_platform import LocalPlatform
from kennel_cli.platforms.platform import Kind, Platform
from kennel_cli.requests import JobOptions
from kennel_cli.settings import kennel_home


class Place(StrEnum):
    """Where a job or an endpoint runs."""

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
FastFile = Annotated[
    bool,
    typer.Option("--fast-file", help="on AWS: read images from S3 as they are needed, instead of copying all first"),
]
InstanceCount = Annotated[int, typer.Option(min=1, help="on AWS: machines that train together")]
Retries = Annotated[
    int, typer.Option(min=0, max=30, help="on AWS: times that a job is tried again after an error of the service")
]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="also write the curves for TensorBoard")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="print the request as JSON; send, upload and start nothing")]

console = Console()


def say(line: str) -> None:
    """Print a line as it is, however long."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def say_page(platform: Platform, kind: Kind, name: str) -> None:
    """Say where a page shows what runs, if there is one."""
    if page := platform.page(kind, name):
        say(f"its page: {page}")


def platform_of(on: Place) -> Platform:
    """Return the platform of a place.

    Raises KennelError for settings of AWS that the command line gives to another place.
    """
    given = given_settings()
    if on is Place.AWS:
        return AwsPlatform(console, given)
    for name in given:
        raise KennelError(f"--{name.replace('_', '-')} is for AWS; add --on aws, or leave it out")
    return LocalPlatform(kennel_home(), on)


_FLAGS = {"debugger": "--aws-debugger"}  # options that are not called as the members of JobOptions
_EVERYWHERE = {"tensorboard"}


def job_options(on: Place, **asked: Any) -> JobOptions:
    """Return the options of a job, by the names of JobOptions. Raises KennelError for one that only AWS has."""
    for option in fields(JobOptions):
        name = option.name
        if name not in _EVERYWHERE and asked.get(name, option.default) != option.default and on is not Place.AWS:
            flag = _FLAGS.get(name, f"--{name.replace('_', '-')}")
            raise KennelError(f"{flag} is for jobs on AWS; add --on aws, or leave it out")
    return JobOptions(**asked)


_GIVEN: ContextVar[Mapping[str, str]] = ContextVar("given settings", default=MappingProxyType({}))
_PANEL = "Settings of AWS (see `kennel settings`)"
OF_JOBS = ("region", "role", "bucket", "prefix", "image", "training_instance")
OF_ENDPOINTS = ("region", "endpoint_role", "bucket", "prefix", "image", "endpoint_instance")
_HELP = {
    "region": "region of AWS",
    "role": "ARN of the role that jobs take on",
    "endpoint_role": "ARN of the role that endpoints take on",
    "bucket": "where data and models go",
    "prefix": "folder in the bucket, before everything",
    "repository": "repository in Amazon ECR",
    "image": "URI of the image in Amazon ECR",
    "training_instance": "type of the machines that train",
    "endpoint_instance": "type of the machines that serve",
}


def with_settings(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option for each of these settings; `platform_of` takes what they say before all else."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        options = []
        for name in names:
            flags = (*(("--instance-type",) if name.endswith("_instance") else ()), f"--{name.replace('_', '-')}")
            options.append(text_option(name, *flags, help=_HELP[name], rich_help_panel=_PANEL))

        def with_given(values: dict[str, Any], given: dict[str, str]) -> None:
            before = _GIVEN.set(given)
            try:
                command(**values)
            finally:
                _GIVEN.reset(before)

        return with_options(command, options, with_given)

    return decorate


def text_option(name: str, *flags: str, **more: Any) -> inspect.Parameter:
    """Return an option of a command, for a text or None; `more` is what `typer.Option` takes."""
    annotation = Annotated[str | None, typer.Option(*flags, **more)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def with_options(
    command: Callable[..., None],
    options: Sequence[inspect.Parameter],
    call: Callable[[dict[str, Any], dict[str, str]], None],
    hidden: str = "",
) -> Callable[..., None]:
    """Return a command with more options: `call` is given its own values, and those of the options that were given.

    `hidden` is a parameter of the command that `call` fills.
    """

    def wrapper(**values: Any) -> None:
        given = {option.name: values.pop(option.name) for option in options}
        call(values, {name: value for name, value in given.items() if value is not None})

    own = inspect.signature(command, eval_str=True)
    shown = [parameter for parameter in own.parameters.values() if parameter.name != hidden]
    wrapper.__doc__ = command.__doc__
    wrapper.__name__ = command.__name__
    wrapper.__signature__ = own.replace(parameters=[*shown, *options])  # type: ignore[attr-defined]
    return wrapper


def given_settings() -> Mapping[str, str]:
    """Return the settings that the command line gives."""
    return _GIVEN.get()

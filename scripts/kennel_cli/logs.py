"""The command `kennel logs`: what jobs and endpoints wrote, here and on AWS."""

import time
from typing import Annotated

import typer

from kennel.errors import KennelError
from kennel_cli.follow import show_to_end
from kennel_cli.places import OfPlace, Place, console, platform_of
from kennel_cli.platforms.platform import RUNNING, Kind, Platform
from kennel_cli.status import status_of

_ENDED = ("Failed", "OutOfService", "Deleting")  # statuses of an endpoint that writes no more


def logs(
    name: Annotated[str, typer.Argument(help="a training job, an endpoint or a batch transform job")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on until it ends")] = False,
    endpoint: Annotated[bool, typer.Option("--endpoint", help="the endpoint, where a job has the same name")] = False,
    on: OfPlace = Place.LOCAL,
) -> None:
    """Print the log of a training job, an endpoint or a batch transform job."""
    platform = platform_of(on)
    kinds = (Kind.ENDPOINT,) if endpoint else (Kind.TRAINING, Kind.ENDPOINT, Kind.TRANSFORM)
    if follow:
        _follow(platform, name, kinds)
        return
    for kind in kinds:
        lines, _ = platform.read_log(name, None, ended=True, of=kind)
        if lines:
            print("\n".join(lines))
            return
    raise _no_log(platform, name)


def _follow(platform: Platform, name: str, kinds: tuple[Kind, ...]) -> None:
    """Follow the first of these kinds of which there is one."""
    for kind in kinds:
        if status_of(platform, kind, name) is None:
            continue
        if kind is Kind.TRAINING:
            show_to_end(platform, name, console)
        else:
            _print_to_end(platform, name, kind)
        return
    raise _no_log(platform, name)


def _print_to_end(platform: Platform, name: str, kind: Kind) -> None:
    """Print lines as they come until there can be no more, or until Ctrl-C, which ends nothing else."""
    position = None
    try:
        while True:
            status = status_of(platform, kind, name)
            running = status in RUNNING if kind is Kind.TRANSFORM else status is not None and status not in _ENDED
            lines, position = platform.read_log(name, position, ended=not running, of=kind)
            for line in lines:
                print(line, flush=True)
            if not running:
                return
            time.sleep(platform.poll)
    except KeyboardInterrupt:
        command = "delete" if kind is Kind.ENDPOINT else "stop"
        console.print(f"\n{name} goes on; `kennel {command} {name}{platform.option}` ends it", soft_wrap=True)
        raise typer.Exit(130) from None


def _no_log(platform: Platform, name: str) -> KennelError:
    where = " on AWS" if platform.option else ""
    return KennelError(f"there is no job or endpoint {name} with a log{where}; see `kennel jobs{platform.option}`")

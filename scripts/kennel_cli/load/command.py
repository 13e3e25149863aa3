"""The command `kennel bench-endpoint`: how much an endpoint carries, and how long its answers take."""

import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from kennel.atomic import write_json
from kennel.machine import available_cores
from kennel.report.load_page import RECORD, write_load_page
from kennel.report.load_record import LoadTest, Step, load_name
from kennel_cli.load.bodies import Body, read_bodies
from kennel_cli.load.generator import Budget, Generator, Load
from kennel_cli.load.screen import load_table
from kennel_cli.load.summary import summarize
from kennel_cli.load.targets import HttpTarget, LoadError, SageMakerTarget, Target, check
from kennel_cli.places import Place, console, given_settings
from kennel_cli.platforms.aws import AwsPlatform
from kennel_cli.platforms.local import LocalSageMaker
from kennel_cli.settings import kennel_home

CLIENTS = "1,4,16"
MOST_CLIENTS = 512
MOST_RATE = 10_000  # a second
OPEN_CONNECTIONS = 128  # at most in an open loop: twice as many as a server of Kennel's takes requests on

_LONGEST = 80  # characters of a target in the name of a folder
_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")


def bench_endpoint(
    target: Annotated[str, typer.Argument(help="an endpoint, or the address of a server", metavar="URL|NAME")],
    clients: Annotated[
        str,
        typer.Option(help="closed loop: so many clients, each waiting for its answer; 1,4,16 unless --rate is given"),
    ] = "",
    rate: Annotated[str, typer.Option(help="open loop: so many requests a second, such as 50,100")] = "",
    duration: Annotated[float, typer.Option(min=0.5, max=600, help="seconds that each load is measured")] = 10.0,
    warm_up: Annotated[float, typer.Option(min=0, max=600, help="seconds of each load before that")] = 2.0,
    pictures: Annotated[
        Path | None, typer.Option(help="a file or a folder to send; a made-up JPEG of 500x375 unless given")
    ] = None,
    content_type: Annotated[str, typer.Option(help="what the files are; their endings say it unless given")] = "",
    accept: Annotated[str, typer.Option(help="the answer to ask for, such as application/x-npy")] = "",
    timeout: Annotated[float, typer.Option(min=0.1, max=3600, help="seconds to wait for an answer")] = 60.0,
    max_requests: Annotated[int, typer.Option(min=2, help="to send in all")] = 100_000,
    output: Annotated[
        Path | None, typer.Option(help="folder for load.json and load.html; one below ~/.kennel unless given")
    ] = None,
    on: Annotated[Place, typer.Option("--on", help="this machine's endpoints, however they run, or those on AWS")] = (
        Place.LOCAL
    ),
) -> None:
    """Load an endpoint, and show how many requests a second it answers and how long that takes.

    Only the server that is named gets requests. Ctrl-C ends it with what was measured.
    """
    loads = _loads(clients, rate, duration, warm_up)
    bodies = read_bodies(pictures, content_type or None)
    where = _target(target, on, accept, timeout, max(load.connections for load in loads))
    payloads = [where.encode(body) for body in bodies]
    folder = output or _new_folder(target)
    budget = Budget(max_requests)
    budget.take()
    check(where, payloads[0])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LoadError(
            f"{folder} cannot be written to: {error.strerror}; give another folder with --output"
        ) from error
    steps, is_interrupted = _run(where, payloads, loads, budget)
    if not steps:
        raise LoadError("nothing was measured: it ended while the target warmed up")
    test = _record(where, bodies, accept, warm_up, steps, is_interrupted)
    console.print(load_table(test))
    for note in test.notes():
        console.print(note, style="yellow", markup=False, highlight=False, soft_wrap=True)
    if budget.is_spent:
        console.print(f"it ended after {max_requests:,} requests; see --max-requests", style="yellow", highlight=False)
    write_json(folder / RECORD, asdict(test))
    console.print(f"the figures:   {folder / RECORD}", highlight=False, soft_wrap=True)
    console.print(f"the picture:   {write_load_page(folder)}", highlight=False, soft_wrap=True)
    if failing := [step.name for step in steps if not step.answered]:
        raise LoadError(f"{where.name} answered no request well with {' and '.join(failing)}")
    if is_interrupted:
        raise typer.Exit(130)  # as a shell has it


def _loads(clients: str, rate: str, seconds: float, warm_up: float) -> list[Load]:
    """Return what was asked for, the closed loops first. Raises LoadError for what is no list of positive numbers."""
    counts = _numbers("--clients", clients or ("" if rate else CLIENTS), int, MOST_CLIENTS)
    rates = _numbers("--rate", rate, float, MOST_RATE)
    if not counts and not rates:
        raise LoadError("there is no number in --clients or --rate; give some with commas between, such as 4,16")
    closed = [Load(int(count), None, seconds, warm_up) for count in counts]
    return closed + [Load(OPEN_CONNECTIONS, value, seconds, warm_up) for value in rates]


def _numbers(option: str, given: str, kind: Callable[[str], float], most: int) -> list[float]:
    numbers = []
    for part in filter(None, given.split(",")):
        try:
            value = kind(part)
        except ValueError:
            value = 0
        if not 0 < value <= most:
            raise LoadError(
                f"{option} has {part.strip()!r}; give numbers up to {most:,} with commas between, such as 4,16"
            )
        numbers.append(value)
    return numbers


def _new_folder(target: str) -> Path:
    address = target.partition("?")[0]  # what follows may be a secret
    name = re.sub(r"[^\w-]+", "-", address).strip("-")[:_LONGEST]
    return kennel_home() / "load-tests" / f"{name}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"


def _target(target: str, on: Place, accept: str, timeout: float, connections: int) -> Target:
    """Return what the user has named. Raises LoadError, or a ClientError for an endpoint that is not there."""
    if on is Place.AWS:
        if not _NAME.fullmatch(target):
            raise LoadError(f"{target!r} is no name of an endpoint on AWS; leave out --on aws for an address")
        session = AwsPlatform(console, given_settings()).session
        return SageMakerTarget(target, accept, timeout, connections, session)
    if _NAME.fullmatch(target):
        return HttpTarget(LocalSageMaker(kennel_home()).endpoint_url(target), accept, timeout, target)
    return HttpTarget(target, accept, timeout)


def _run(target: Target, payloads: Sequence[Any], loads: Sequence[Load], budget: Budget) -> tuple[list[Step], bool]:
    """Send one load after the other; return what was measured, and whether it was interrupted."""
    steps: list[Step] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        for load in loads:
            bar = bars.add_task(load_name(load.connections, load.rate), total=1.0, visible=console.is_terminal)
            outcome = Generator(target, payloads, load, budget).run(partial(_advance, bars, bar))
            bars.remove_task(bar)
            if outcome.ended > outcome.began:
                steps.append(summarize(load, outcome))
            if outcome.is_interrupted or budget.is_spent:
                return steps, outcome.is_interrupted
    return steps, False


def _advance(bars: Progress, bar: TaskID, done: float) -> None:
    bars.update(bar, completed=done)


def _record(
    target: Target, bodies: Sequence[Body], accept: str, warm_up: float, steps: Sequence[Step], is_interrupted: bool
) -> LoadTest:
    return LoadTest(
        target=target.name,
        place=target.place,
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        content_types=tuple(sorted({body.content_type for body in bodies})),
        accept=accept,
        bodies=len(bodies),
        body_bytes=sum(len(body.data) for body in bodies) / len(bodies),
        warm_up=warm_up,
        client_machine=f"{available_cores()} cores, {platform.system()} {platform.machine()}",
        is_interrupted=is_interrupted,
        steps=tuple(steps),
    )

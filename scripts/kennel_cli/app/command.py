"""The command `kennel app`: a page of this machine to drop photos on."""

import logging
import socket
from pathlib import Path
from typing import Annotated

import typer

from kennel.errors import KennelError
from kennel_cli.app.collection import Collection
from kennel_cli.deploy import only_endpoint
from kennel_cli.places import OfPlace, Place, console, given_settings, platform_of, say
from kennel_cli.predictor import ImagePredictor
from kennel_cli.settings import kennel_home

HERE = "127.0.0.1"


def show_page(
    endpoint: Annotated[str | None, typer.Option(help="needed when more than one endpoint is in service")] = None,
    url: Annotated[str | None, typer.Option(help="a server instead, such as http://localhost:8080")] = None,
    model: Annotated[
        Path | None, typer.Option(help="a model folder instead (with a kennel.json), which is run in this process")
    ] = None,
    on: OfPlace = Place.LOCAL,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes one that is free")] = 8501,
    host: Annotated[str, typer.Option(help="0.0.0.0 lets others of your network in, such as your phone")] = HERE,
    collect: Annotated[
        Path | None, typer.Option(help="where photos that you have named go; ~/.kennel/collected unless given")
    ] = None,
) -> None:
    """Serve a page to drop photos on, until Ctrl-C."""
    from werkzeug.serving import make_server  # noqa: PLC0415 - slow, and not needed by other commands

    from kennel_cli.app.server import create_page, look_at  # noqa: PLC0415 - as above

    predictor = _predictor(endpoint, url, model, on)
    with predictor, _listen(host, port) as listening, console.status(f"asking {predictor.place}") as status:
        about = look_at(predictor)
        collection = Collection((collect or kennel_home() / "collected").absolute(), about.labels)
        page = create_page(predictor, about, collection, host)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request would drown the address
        server = make_server(host, port, page, threaded=True, fd=listening.fileno())
        status.stop()
        say(f"{predictor.place}: drop photos on http://{_name(host)}:{server.port}; Ctrl-C ends it")
        if host not in (HERE, "localhost", "::1"):
            console.print("whoever reaches this machine can ask the model with your account", style="yellow")
        with server:
            server.serve_forever()


def _predictor(endpoint: str | None, url: str | None, model: Path | None, on: Place) -> ImagePredictor:
    if (url or model) and on is Place.AWS:
        raise KennelError("--on aws is for an endpoint on AWS; leave it out with --url and --model")
    if not (endpoint or url or model):
        endpoint = only_endpoint(platform_of(on))
    return ImagePredictor(endpoint, url=url, model_dir=model, on=on, region=given_settings().get("region"))


def _name(host: str) -> str:
    """Return what an address calls the host; all addresses of a machine have its name."""
    if host in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises KennelError for an address that cannot be had."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]  # Python repeats the address
        raise KennelError(
            f"the page cannot be served at {host}, port {port}: {reason}; take another with --port or --host"
        ) from error

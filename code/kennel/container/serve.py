"""`serve` on the image's PATH: process 1 of a hosting container. It is gunicorn's master, with our application."""

import logging
import signal
import sys
from pathlib import Path
from types import FrameType

from flask import Flask
from gunicorn.app.wsgiapp import WSGIApplication

import kennel.serving
from kennel.container.environment import DEFAULT_ACCEPT, MAX_PAYLOAD, folders, number_variable, variable
from kennel.errors import KennelError


def main() -> None:
    """Serve until SIGTERM; gunicorn then lets the requests in work finish."""
    signal.signal(signal.SIGTERM, _leave)  # until gunicorn has a handler of its own: process 1 has no default one
    settings = Path(kennel.serving.__file__).with_name("gunicorn.conf.py")
    sys.argv = ["serve", "--config", str(settings), "kennel.container.serve:create_app()"]
    WSGIApplication("%(prog)s").run()


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def create_app() -> Flask:
    """Return the application for the model in `/opt/ml/model`, as gunicorn's master asks for it before it forks.

    What is wrong with the model is said once, in full, and ends the server (contract E7).
    """
    import torch  # noqa: PLC0415 - slow; bad variables are refused before

    from kennel.serving.app import Settings, load_service  # noqa: PLC0415 - as above
    from kennel.serving.app import create_app as create  # noqa: PLC0415 - as above

    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    torch.set_num_threads(1)  # a thread pool begun before the fork would hang the worker
    try:
        settings = Settings(
            max_payload=number_variable(MAX_PAYLOAD, 100) * 2**20,
            default_accept=variable(DEFAULT_ACCEPT, "application/json"),
        )
        return create(load_service(folders().model, settings), settings)
    except KennelError as error:
        sys.exit(f"serve: {error}")


if __name__ == "__main__":
    main()

"""`serve` on the image's PATH: process 1 of a hosting container. It is gunicorn's master, with our application."""

import signal  # the handler comes before every other import: process 1 has no default one (contract C1.2)
import sys

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # until gunicorn sets its own

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from kennel.container.environment import (
    BIND_TO_PORT,
    DEFAULT_ACCEPT,
    ENGINE,
    EXPLAIN,
    MAX_PAYLOAD,
    MAX_TRANSFORMS,
    METRICS_NAMESPACE,
    PROGRAM,
    REQUEST_LOG,
    SERVER_TIMEOUT,
    URL_HOSTS,
    flag_variable,
    folders,
    invocation_seconds,
    list_variable,
    number_variable,
    payload_limit,
    share_variable,
    variable,
)
from kennel.errors import KennelError

if TYPE_CHECKING:
    from flask import Flask


def main() -> None:
    """Serve until SIGTERM; gunicorn then lets the requests in work finish."""
    try:
        for name in (BIND_TO_PORT, MAX_PAYLOAD, MAX_TRANSFORMS, SERVER_TIMEOUT):
            number_variable(name, 0)
        share_variable(REQUEST_LOG, 1)
        flag_variable(EXPLAIN)
    except KennelError as error:
        sys.exit(f"serve: {error}")
    from gunicorn.app.wsgiapp import WSGIApplication  # noqa: PLC0415 - bad variables are refused before it

    import kennel.serving  # noqa: PLC0415 - as above

    settings = Path(kennel.serving.__file__).with_name("gunicorn.conf.py")
    sys.argv = ["serve", "--config", str(settings), "kennel.container.serve:create_app()"]
    WSGIApplication("%(prog)s").run()


def create_app() -> "Flask":
    """Return the application for the model in `/opt/ml/model`, as gunicorn's master asks for it before it forks.

    What is wrong with the model is said once, in full, and ends the server (contract E7).
    """
    from kennel.serving.app import create_app as create  # noqa: PLC0415 - slow, and not needed to refuse bad variables
    from kennel.serving.service import Settings, load_service  # noqa: PLC0415 - as above

    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    try:
        settings = Settings(
            max_payload=payload_limit(),
            patience=invocation_seconds(),
            default_accept=variable(DEFAULT_ACCEPT, "application/json"),
            log_share=share_variable(REQUEST_LOG, 1),
            engine=variable(ENGINE, Settings.engine),
            explain=flag_variable(EXPLAIN),
            metrics_namespace=variable(METRICS_NAMESPACE, ""),
            program=variable(PROGRAM, ""),
            url_hosts=list_variable(URL_HOSTS),
        )
        return create(load_service(folders().model, settings), settings)
    except KennelError as error:
        sys.exit(f"serve: {error}")


if __name__ == "__main__":
    main()

"""`serve` on the image's PATH: process 1 of a hosting container. It is gunicorn's master, with our application."""

import signal  # the handler comes before every other import: process 1 has no default one (contract C1.2)
import sys

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # until gunicorn sets its own

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import kennel.serving
from kennel.container.environment import (
    BIND_TO_PORT,
    DEFAULT_ACCEPT,
    ENGINE,
    EXPLAIN,
    MAX_TRANSFORMS,
    METRICS_NAMESPACE,
    MODEL_MEMORY,
    MULTI_MODEL,
    PROGRAM,
    REQUEST_LOG,
    SERVER_FOLDER,
    URL_HOSTS,
    first_number,
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
from kennel.lasting import lasting
from kennel.serving.processes import worker_processes
from kennel.serving.shared import shared_folder

if TYPE_CHECKING:
    from flask import Flask


def main() -> None:
    """Serve until SIGTERM; gunicorn then lets the requests in work finish."""
    try:
        for name in (BIND_TO_PORT, MAX_TRANSFORMS):
            number_variable(name, 0)
        payload_limit()
        invocation_seconds()
        worker_processes()
        _model_memory()
        share_variable(REQUEST_LOG, 1)
        for name in (EXPLAIN, MULTI_MODEL):
            flag_variable(name)
    except KennelError as error:
        sys.exit(f"serve: {error}")
    with shared_folder() as folder:
        os.environ[SERVER_FOLDER] = str(folder)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)  # read when prometheus_client is imported
        # Read when torch is: a model's threads that wait for each other would hold the cores that others need, which
        # was measured to take five times the CPU time on a busy machine.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from gunicorn.app.wsgiapp import WSGIApplication  # noqa: PLC0415 - bad variables are refused before it

        settings = Path(kennel.serving.__file__).with_name("gunicorn.conf.py")
        sys.argv = ["serve", "--config", str(settings), "kennel.container.serve:create_app()"]
        WSGIApplication("%(prog)s").run()


@lasting()
def create_app() -> "Flask":
    """Return the application for the model in `/opt/ml/model`, or for several, as gunicorn's master asks for it.

    It does so before it forks.

    What is wrong with the model is said once, in full, and ends the server (contract E7).
    """
    from kennel.serving.app import create_app as create  # noqa: PLC0415 - slow, and not needed to refuse bad variables
    from kennel.serving.batch_transform import most_requests  # noqa: PLC0415 - as above
    from kennel.serving.service import Settings, load_service  # noqa: PLC0415 - as above

    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    try:
        settings = Settings(
            max_requests=most_requests(Settings.max_requests),
            max_payload=payload_limit(),
            patience=invocation_seconds(),
            default_accept=variable(DEFAULT_ACCEPT, "application/json"),
            log_share=share_variable(REQUEST_LOG, 1),
            engine=variable(ENGINE, Settings.engine),
            processes=worker_processes(),
            explain=flag_variable(EXPLAIN),
            metrics_namespace=variable(METRICS_NAMESPACE, ""),
            program=variable(PROGRAM, ""),
            url_hosts=list_variable(URL_HOSTS),
        )
        if flag_variable(MULTI_MODEL):
            from kennel.serving.multi_model import MultiModelServer, create_multi_model_app  # noqa: PLC0415 - as above

            server = MultiModelServer(settings, Path(os.environ[SERVER_FOLDER]), folders().place, _model_memory())
            return create_multi_model_app(server, settings)
        return create(load_service(folders().model, settings), settings)
    except KennelError as error:
        sys.exit(f"serve: {error}")


def _model_memory() -> int:
    return first_number((MODEL_MEMORY,), sys.maxsize // 2**20, least=1) * 2**20


if __name__ == "__main__":
    main()

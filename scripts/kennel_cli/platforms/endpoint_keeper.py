"""The background process that runs one local endpoint."""

import logging
import socket
import time
from pathlib import Path
from typing import Any

import urllib3

from kennel.errors import KennelError
from kennel_cli.platforms.choice import choose_runner
from kennel_cli.platforms.opt_ml import LayoutError, lay_out_model
from kennel_cli.platforms.records import Record, last_lines
from kennel_cli.platforms.runners import Program
from kennel_cli.platforms.store import LocalStore

STARTUP_TIMEOUT = 480  # seconds until /ping must answer 200, unless the request says otherwise (contract C1.5)
PING_TIMEOUT = 2  # seconds (contract C1.4)
STOP_GRACE = 30  # seconds between SIGTERM and SIGKILL (contract C1.2)
POLL = 0.1  # seconds between two looks at the program


def keep(record: Record, home: Path) -> None:
    """Serve until somebody deletes the endpoint, and write its status as it goes."""
    request = record.request()
    container, variant = request["Container"], request["Variant"]
    try:
        lay_out_model(record.tree, container, LocalStore(home / "s3"))
        port = _free_port()
        variables = {"SAGEMAKER_BIND_TO_PORT": str(port), **container.get("Environment", {})}
        runner = choose_runner(record.runner(), container["Image"])
        program = runner.start("serve", record.tree, variables, record.log)
    except (LayoutError, KennelError) as error:
        record.update(EndpointStatus="Failed", FailureReason=str(error)[:1024])
        return
    timeout = variant.get("ContainerStartupHealthCheckTimeoutInSeconds", STARTUP_TIMEOUT)
    if _wait_until_healthy(record, program, port, time.monotonic() + timeout):
        record.update(EndpointStatus="InService", Port=port)
        while program.poll() is None and not record.is_asked_to_stop():
            time.sleep(POLL)
    code = program.poll()
    what = f"did not pass its health check within {timeout} s" if code is None else f"ended with exit code {code}"
    _end(program)
    if record.is_asked_to_stop():
        return
    reason = f"The primary container {what}; the end of its log: {last_lines(record.log, 5)}"
    record.update(EndpointStatus="Failed", FailureReason=reason[:1024])


def _wait_until_healthy(record: Record, program: Program, port: int, deadline: float) -> bool:
    pool = urllib3.PoolManager(retries=False, timeout=PING_TIMEOUT)
    while program.poll() is None and not record.is_asked_to_stop() and time.monotonic() < deadline:
        try:
            if pool.request("GET", f"http://127.0.0.1:{port}/ping").status == 200:
                return True
        except urllib3.exceptions.HTTPError:
            pass  # not listening yet
        time.sleep(POLL)
    return False


def _end(program: Program) -> None:
    if program.poll() is None:
        program.terminate()
    kill_at = time.monotonic() + STOP_GRACE
    while program.poll() is None:
        if time.monotonic() > kill_at:
            program.kill()
        time.sleep(POLL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def main(folder: Path) -> None:
    """Keep the endpoint in `folder`; whatever happens, its status says how it ended, until it is deleted."""
    record = Record(folder)
    try:
        keep(record, record.home)
    except Exception as error:
        logging.exception("the keeper failed")
        reason: Any = f"{type(error).__name__}: {error}; see {record.folder / 'keeper.log'}"
        record.update(EndpointStatus="Failed", FailureReason=reason[:1024])
    if record.is_asked_to_stop():  # looked at last, so that whoever asks from now on finds no keeper and removes it
        record.remove()

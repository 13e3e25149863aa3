"""One server of a local endpoint: a program with a port, an `/opt/ml` and a model of its own."""

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from kennel_cli.platforms.choice import choose_runner
from kennel_cli.platforms.opt_ml import lay_out_model
from kennel_cli.platforms.ports import free_port
from kennel_cli.platforms.records import last_lines
from kennel_cli.platforms.runners import Program
from kennel_cli.platforms.store import LocalStore

STARTUP_TIMEOUT = 480  # seconds until /ping must answer 200, unless the request says otherwise (contract C1.5)
PING_TIMEOUT = 2  # seconds (contract C1.4)
STOP_GRACE = 30  # seconds between SIGTERM and SIGKILL (contract C1.2)
POLL = 0.1  # seconds between two looks at a program


@dataclass(frozen=True)
class Server:
    """A started server."""

    program: Program
    port: int  # on this machine
    tree: Path  # its /opt/ml
    log: Path  # what it and the endpoint's earlier servers wrote
    log_start: int  # bytes in the log before it wrote any
    timeout: int  # seconds from its start until it must be healthy


def start_server(served: Mapping[str, Any], tree: Path, log: Path, runner: str, store: LocalStore) -> Server:
    """Start to serve the container and the variant that `served` holds, with `/opt/ml` at `tree`.

    Raises LayoutError when the model cannot be had, and KennelError when the runner cannot start the program.
    """
    container = served["Container"]
    lay_out_model(tree, container, store)
    port, log_start = free_port(), log.stat().st_size if log.exists() else 0
    variables = {**container.get("Environment", {}), "SAGEMAKER_BIND_TO_PORT": str(port)}
    program = choose_runner(runner, container["Image"]).start("serve", tree, variables, log)
    timeout = served["Variant"].get("ContainerStartupHealthCheckTimeoutInSeconds", STARTUP_TIMEOUT)
    return Server(program, port, tree, log, log_start, timeout)


def wait_until_healthy(server: Server, is_given_up: Callable[[], bool]) -> bool:
    """Return True as soon as the server answers its ping, False when it ended, took too long or is given up."""
    pool = urllib3.PoolManager(retries=False, timeout=PING_TIMEOUT)
    deadline = time.monotonic() + server.timeout
    while server.program.poll() is None and not is_given_up() and time.monotonic() < deadline:
        try:
            if pool.request("GET", f"http://127.0.0.1:{server.port}/ping").status == 200:
                return True
        except urllib3.exceptions.HTTPError:
            pass  # not listening yet
        time.sleep(POLL)
    return False


def why_it_failed(server: Server) -> str:
    """Return what happened to a server that ended by itself or did not become healthy, with the end of its log."""
    code = server.program.poll()
    what = (
        f"did not pass its health check within {server.timeout} s" if code is None else f"ended with exit code {code}"
    )
    return f"The primary container {what}; the end of its log: {last_lines(server.log, 5, server.log_start)}"


def end_servers(*servers: Server) -> None:
    """End servers, all at the same time: SIGTERM, then SIGKILL to those that are still there after 30 seconds."""
    for server in servers:
        if server.program.poll() is None:
            server.program.terminate()
    kill_at = time.monotonic() + STOP_GRACE
    while running := [server.program for server in servers if server.program.poll() is None]:
        if time.monotonic() > kill_at:
            for program in running:
                program.kill()
        time.sleep(POLL)


def remove_tree(tree: Path) -> None:
    """Remove the `/opt/ml` of a server that has ended; what cannot be removed now goes with the endpoint."""
    shutil.rmtree(tree, ignore_errors=True)

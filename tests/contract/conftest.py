"""The suite's runners, and what each test gets to work with."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kennel_cli.platforms.runners import ProcessRunner
from tests.contract.box import Box, Server, end, start_server


@pytest.fixture(params=["process"])
def runner(request: pytest.FixtureRequest) -> Any:
    return {"process": ProcessRunner}[request.param]()


@pytest.fixture
def box(runner: Any, tmp_path: Path) -> Iterator[Box]:
    box = Box(runner, tmp_path)
    box.variables["KENNEL_CACHE"] = str(tmp_path / "cache")
    yield box
    if box.program is not None and box.program.poll() is None:
        box.program.kill()


@pytest.fixture
def serve(runner: Any, tmp_path: Path) -> Iterator[Any]:
    """Start servers that end with the test."""
    servers: list[Server] = []

    def start(model: Path, **variables: str) -> Server:
        servers.append(start_server(runner, tmp_path / f"server{len(servers)}", model, **variables))
        return servers[-1]

    yield start
    for server in servers:
        end(server)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, random_model: Path) -> Iterator[Server]:
    """One server for all tests that only ask."""
    server = start_server(ProcessRunner(), tmp_path_factory.mktemp("server"), random_model)
    yield server.wait_until_ready()
    end(server)

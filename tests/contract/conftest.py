"""The suite's two runners, process and container, and what each test gets to work with.

A container of the image is what SageMaker runs. Where there is no image, or one of other files than these, the same
tests run as processes; what a container hides always does.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kennel_cli.platforms.docker import DockerRunner
from kennel_cli.platforms.runners import ProcessRunner
from kennel_cli.settings import LOCAL
from tests.contract.box import SCRATCH, Box, Server, end, start_server
from tests.engine import IMAGE_IS_CURRENT, needs_image

CONTAINER = pytest.param("container", marks=[pytest.mark.docker, needs_image])


@pytest.fixture(scope="session", params=["process", CONTAINER])
def runner(request: pytest.FixtureRequest) -> Any:
    """Start `train` and `serve` in either way; tests marked `process_only` look into the process itself."""
    return ProcessRunner() if request.param == "process" else DockerRunner(LOCAL.image)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what a container hides, and of all else the process where a container shows it."""
    config.hook.pytest_deselected(items=[item for item in items if _is_shown_elsewhere(item)])
    items[:] = [item for item in items if not _is_shown_elsewhere(item)]


def _is_shown_elsewhere(item: pytest.Item) -> bool:
    runner = getattr(item, "callspec", None) and item.callspec.params.get("runner")  # type: ignore[attr-defined]
    if item.get_closest_marker("process_only"):
        return runner == "container"
    return runner == "process" and IMAGE_IS_CURRENT and item.path.is_relative_to(Path(__file__).parent)


@pytest.fixture
def box(runner: Any, tmp_path: Path) -> Iterator[Box]:
    box = Box(runner, tmp_path)
    box.variables["KENNEL_CACHE"] = str(tmp_path / "cache")
    box.variables["KENNEL_WEIGHTS_URL"] = os.environ["KENNEL_WEIGHTS_URL"]  # a container inherits nothing
    yield box
    if box.program is not None and box.program.poll() is None:
        box.program.kill()
        box.wait(30)


@pytest.fixture
def job(box: Box, colour_images: Path) -> Box:
    """A box that is ready to train on the colour images from scratch."""
    box.prepare(SCRATCH, training=colour_images)
    return box


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
def server(runner: Any, tmp_path_factory: pytest.TempPathFactory, random_model: Path) -> Iterator[Server]:
    """One server for all tests that only ask."""
    server = start_server(runner, tmp_path_factory.mktemp("server"), random_model)
    yield server.wait_until_ready()
    end(server)

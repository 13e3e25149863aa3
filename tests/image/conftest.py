"""Containers of the image, started by hand: what the player does not do."""

import json
import subprocess

import pytest

from kennel_cli.settings import LOCAL


@pytest.fixture
def docker():
    """Run a docker command and return what it did."""

    def run(*arguments):
        command = ["docker", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)

    return run


@pytest.fixture
def shell(docker):
    """Run a line of shell in a new container and return what it printed."""

    def run(line, *options):
        answer = docker("run", "--rm", "--network", "none", *options, LOCAL.image, "bash", "-c", line)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout.strip()

    return run


@pytest.fixture(scope="session")
def config():
    """The image's own configuration."""
    inspect = ["docker", "image", "inspect", "--format", "{{json .Config}}", LOCAL.image]
    return json.loads(subprocess.run(inspect, capture_output=True, text=True, check=True).stdout)

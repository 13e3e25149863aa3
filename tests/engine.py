"""Whether this machine has a Docker engine, and Kennel's image in it."""

import shutil
import subprocess

import pytest

from kennel_cli.settings import LOCAL


def _answers(*command: str) -> bool:
    return shutil.which("docker") is not None and (
        subprocess.run(["docker", *command], capture_output=True, check=False).returncode == 0
    )


ENGINE = _answers("info")
IMAGE = ENGINE and _answers("image", "inspect", LOCAL.image)

needs_engine = pytest.mark.skipif(not ENGINE, reason="no Docker engine answers")
needs_image = pytest.mark.skipif(
    not IMAGE, reason="no Docker engine answers" if not ENGINE else f"there is no image {LOCAL.image}; run `make build`"
)

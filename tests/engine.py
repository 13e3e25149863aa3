"""Whether this machine has a Docker engine, and Kennel's image in it.

It is asked once, by the process that starts the tests' workers, for they have to collect the same tests.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kennel_cli.settings import LOCAL

_ROOT = Path(__file__).parents[1]
_ENGINE, _IMAGE, _CURRENT = "an engine answers", "it has the image", "the image is of these files"


def _ask(*command: str) -> str | None:
    """Return what a command says, or None when it fails."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    return None if done.returncode else done.stdout.strip()


def _look() -> list[str]:
    if _ask("docker", "info") is None:
        return []
    revision = '{{index .Config.Labels "org.opencontainers.image.revision"}}'
    built = _ask("docker", "image", "inspect", "--format", revision, LOCAL.image)
    if built is None:
        return [_ENGINE]
    is_current = (
        built == _ask("git", "rev-parse", "HEAD") and _ask("git", "status", "--porcelain", "code", "docker") == ""
    )
    return [_ENGINE, _IMAGE, *([_CURRENT] if is_current else [])]


_SEEN = os.environ.setdefault("KENNEL_TESTED_WITH", ", ".join(_look())).split(", ")
ENGINE, IMAGE, IMAGE_IS_CURRENT = (what in _SEEN for what in (_ENGINE, _IMAGE, _CURRENT))

needs_engine = pytest.mark.skipif(not ENGINE, reason="no Docker engine answers")
needs_image = pytest.mark.skipif(
    not IMAGE, reason="no Docker engine answers" if not ENGINE else f"there is no image {LOCAL.image}; run `make build`"
)

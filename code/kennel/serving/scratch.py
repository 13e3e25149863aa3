"""Folders for the time that a process lives."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path


def make_scratch(name: str) -> Path:
    """Return a new folder in the scratch space, which is removed when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix=f"kennel-{name}-"))
    atexit.register(_remove, folder, os.getpid())
    return folder


def remove_scratch(folder: Path) -> None:
    """Remove such a folder before this process ends."""
    shutil.rmtree(folder, ignore_errors=True)


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a fork runs the exit functions of its parent
        remove_scratch(folder)

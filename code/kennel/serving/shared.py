"""The folder in which the processes of one server meet: their counts, and the models that all of them have."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MEMORY = Path("/dev/shm")


def memory_folder() -> str:
    """Return a folder for small files that are written often: in memory where that can be (contract C5.2)."""
    return str(_MEMORY) if os.access(_MEMORY, os.W_OK | os.X_OK) else tempfile.gettempdir()


@contextmanager
def shared_folder() -> Iterator[Path]:
    """Make a folder for this process and those that it forks, and remove it when this one ends."""
    owner, folder = os.getpid(), Path(tempfile.mkdtemp(prefix="kennel-", dir=memory_folder()))
    try:
        yield folder
    finally:
        if os.getpid() == owner:  # a process that was forked here passes by when it ends
            shutil.rmtree(folder, ignore_errors=True)

"""How the image's programs, `train` and `serve`, are started on this machine."""

import ctypes
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

# what a process on this machine cannot do without; nothing else of the user's environment reaches a job
_INHERITED = (
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "KENNEL_WEIGHTS_URL",
)
_PR_SET_PDEATHSIG = 1  # from linux/prctl.h


class Program(Protocol):
    """A started program."""

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""
        ...

    def terminate(self) -> None:
        """Send SIGTERM."""
        ...

    def kill(self) -> None:
        """Send SIGKILL."""
        ...


class Runner(Protocol):
    """A way to start the image's programs."""

    host: str  # the name under which a program can reach itself

    def start(self, program: str, tree: Path, variables: Mapping[str, str], log: Path) -> Program:
        """Start `train` or `serve` with its `/opt/ml` at `tree`; its output is appended to `log`."""
        ...


class ProcessRunner:
    """Runs the programs as processes, with `/opt/ml` at a folder of their own."""

    host = "localhost"  # the toolkit looks its hosts up before it runs a script; this one always resolves

    def start(self, program: str, tree: Path, variables: Mapping[str, str], log: Path) -> Program:
        """See `Runner.start`."""
        with log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", f"kennel.container.{program}"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=job_environment(tree, variables),
                cwd=tree,
                preexec_fn=functools.partial(end_with_parent, os.getpid()),  # noqa: PLW1509 - a keeper has no threads
            )


def job_environment(tree: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """Return all that a program's environment holds when its `/opt/ml` is at `tree`."""
    return {
        **{name: os.environ[name] for name in _INHERITED if name in os.environ},
        "PYTHONUNBUFFERED": "1",
        "SAGEMAKER_BASE_DIR": str(tree),
        "KENNEL_BIND_HOST": "127.0.0.1",  # a server on this machine is for this machine
        **variables,
    }


def end_with_parent(parent: int) -> None:
    """Have the kernel send SIGTERM to a new process when its parent dies: nobody would be left to stop it.

    `parent` is the parent's process id, as it was before the fork: it may be dead by now, of which no word comes.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        signal.raise_signal(signal.SIGTERM)

"""Run a function as a program of its own, in a fork: what this process has imported need not be imported again.

A fork is safe as long as this process has no other threads; torch starts its own only when it computes something.
"""

import contextlib
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

_RESET = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


def fork_program(
    work: Callable[[], int | None],
    environment: Mapping[str, str],
    stdout: int,
    stderr: int,
    keep: Collection[int] = (),
) -> int:
    """Fork, and return the process id; the child calls `work` and exits with what it returns (None: 0).

    The child starts as a new program does: with `environment` alone, nothing to read, its output at the descriptors
    `stdout` and `stderr`, no other open files but `keep`, no signal handlers. An exception is printed and exits with 1.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    # what comes for the child before it has reset its handlers waits
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _RESET)
    child = os.fork()
    if child:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return child
    code = 1
    try:
        for number in _RESET:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        _open_streams(stdout, stderr, keep)
        os.environ.clear()
        os.environ.update(environment)
        tempfile.tempdir = None  # it remembers the parent's TMPDIR
        code = work() or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - there is no caller to raise it to
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # nobody reads it any more
                stream.flush()
        os._exit(code)  # the parent's own exit handlers are not the child's to run


def _open_streams(stdout: int, stderr: int, keep: Collection[int]) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    copies = os.dup(stdout), os.dup(stderr)  # either of them may be 1 or 2
    os.dup2(null, 0)
    os.dup2(copies[0], 1)
    os.dup2(copies[1], 2)
    for entry in list(Path("/proc/self/fd").iterdir()):
        if int(entry.name) > 2 and int(entry.name) not in keep:
            with contextlib.suppress(OSError):  # the listing's own
                os.close(int(entry.name))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]

"""`train` on the image's PATH: process 1 of a training container.

It starts sagemaker-training's own `train`, passes SIGTERM on to it, reaps what it leaves behind, and decides
what the toolkit gets wrong: the failure file and the exit code (contract A1.5 to A1.10).
"""

import signal  # handlers come before every other import: process 1 loses a SIGTERM that has none (contract A1.10)

_SIGTERM_SEEN: list[int] = []


def _watch_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: _SIGTERM_SEEN.append(number))


if __name__ == "__main__":
    _watch_signals()

import contextlib
import ctypes
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from kennel.atomic import write_json
from kennel.container.environment import LOG_LEVEL, TRAINING_MODULE, Folders, folders, read_json_object, variable
from kennel.container.failure import LOST, killed_rank, reason_from_stderr, write_failure
from kennel.errors import ContractError, KennelError
from kennel.forking import fork_program

Starter = Callable[[Mapping[str, str]], tuple[int, int]]  # environment to process id and the read end of its stderr

GRACE = 110.0  # seconds from SIGTERM until we end the work ourselves; SageMaker sends SIGKILL after 120 (contract A1.9)
REAPING = 2.0  # seconds for the last processes to end after SIGKILL
EXIT_STOPPED = 128 + signal.SIGTERM  # 143: ended by SIGTERM without a model
_STDERR_KEPT = 65536  # characters of the end of stderr in which the reason of a failure is looked for
_KILLED = (
    "The {} was killed by SIGKILL (signal 9), most likely because the memory ran out; "
    "take a smaller batch_size or image_size, or an instance with more memory"
)
_PR_SET_CHILD_SUBREAPER = 36  # from linux/prctl.h: orphans come to us even when we are not process 1


def main_in_fork() -> int:
    """Do what `main` does in a fork of a process that has imported the toolkit and torch already."""
    _watch_signals()
    return main(_fork_toolkit)


def main(start_toolkit: Starter | None = None) -> int:
    """Run the training to its end, and return the exit code: 0 completed, 143 stopped without a model, else failed."""
    tree = folders()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        tree.failure.unlink(missing_ok=True)  # of an earlier attempt in the same tree
        supply_config_files(tree)
        code, stderr = _run_toolkit(start_toolkit or _spawn_toolkit, toolkit_environment())
    except KennelError as error:
        return _fail(tree, str(error), 1)
    except Exception as error:  # noqa: BLE001 - it is in the log in full, and the job must say why it failed
        traceback.print_exc()
        return _fail(tree, f"{type(error).__name__}: {error}", 1)
    if code == 0:
        return 0
    reason = _failure_reason(tree, code, stderr)
    if _SIGTERM_SEEN:
        return _fail(tree, reason, EXIT_STOPPED)
    return _fail(tree, reason, code if code > 0 else 128 - code)  # a shell's convention: 137 for SIGKILL


def supply_config_files(tree: Folders) -> None:
    """Write the configuration files that the toolkit cannot do without, where they are missing or empty (contract A2).

    Without a list of channels, every folder below `input/data` is one. Raises ContractError for malformed files.
    """
    host = socket.gethostname()
    data = sorted(tree.data.iterdir()) if tree.data.is_dir() else []
    defaults: dict[str, dict[str, Any]] = {
        "hyperparameters.json": {},
        "inputdataconfig.json": {entry.name: {"TrainingInputMode": "File"} for entry in data if entry.is_dir()},
        "resourceconfig.json": {"current_host": host, "hosts": [host], "network_interface_name": "eth0"},
    }
    for name, default in defaults.items():
        file = tree.config / name
        given = read_json_object(file)
        if (
            not file.exists()
            or not file.read_text().strip()
            or (name == "resourceconfig.json" and "hosts" not in given)
        ):
            write_json(file, {**default, **given})
    for folder in (tree.model, tree.output_data):
        folder.mkdir(parents=True, exist_ok=True)


def toolkit_environment() -> dict[str, str]:
    """Return the variables that the toolkit is started with. Raises ContractError for a log level that is none."""
    level = variable(LOG_LEVEL, "20")
    number = logging.getLevelNamesMapping().get(level.upper(), level)
    if not str(number).isdigit():
        raise ContractError(
            f"the variable {LOG_LEVEL} is {level!r}; it should be a number such as 20, or a level's name"
        )
    return {
        # threads of a small product sleep while they wait: two jobs on the same cores are three times as quick with it
        "OMP_WAIT_POLICY": "PASSIVE",
        **os.environ,
        TRAINING_MODULE: "kennel.container.hook:train",
        LOG_LEVEL: str(number),
        "PYTHONUNBUFFERED": "1",  # lines reach the log as they are written (contract A5.12)
    }


def _spawn_toolkit(environment: Mapping[str, str]) -> tuple[int, int]:
    readable, writable = os.pipe()
    command = [sys.executable, "-m", "sagemaker_training.cli.train"]
    child = subprocess.Popen(command, env=environment, stderr=writable, start_new_session=True)
    os.close(writable)
    return child.pid, readable


def _fork_toolkit(environment: Mapping[str, str]) -> tuple[int, int]:
    from sagemaker_training.cli import train  # noqa: PLC0415 - it looks at its variables when it is imported

    def work() -> None:
        os.setpgid(0, 0)
        train.main()

    readable, writable = os.pipe()
    child = fork_program(work, environment, sys.stdout.fileno(), writable)
    with contextlib.suppress(ProcessLookupError):  # it has ended already
        os.setpgid(child, child)  # by both, so that a signal finds the group however soon it comes
    os.close(writable)
    return child, readable


def _run_toolkit(start: Starter, environment: Mapping[str, str]) -> tuple[int, str]:
    """Run the toolkit in a process group of its own; return its exit code and the end of what it wrote to stderr."""
    child, readable = start(environment)
    tail = bytearray()
    pump = threading.Thread(target=_pump, args=(readable, tail), daemon=True)
    pump.start()
    code = _wait(child)
    _signal_group(child, signal.SIGKILL)  # what the work left running in the background
    _reap_orphans()
    pump.join(timeout=REAPING)
    return code, tail.decode("utf-8", "replace")


def _pump(source: int, tail: bytearray) -> None:
    """Pass stderr on as it comes, and remember its end."""
    while chunk := os.read(source, 65536):
        sys.stderr.buffer.write(chunk)
        sys.stderr.buffer.flush()
        tail += chunk
        del tail[:-_STDERR_KEPT]


def _wait(child: int) -> int:
    """Reap every process that ends until `child` has; pass signals on, and end the group when its grace is over."""
    deadline = None
    while True:
        if _SIGTERM_SEEN and deadline is None:
            deadline = time.monotonic() + GRACE
            _signal_group(child, signal.SIGTERM)
        if deadline is not None and time.monotonic() > deadline:
            _signal_group(child, signal.SIGKILL)
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == child:
            return os.waitstatus_to_exitcode(status)
        if pid == 0:
            time.sleep(0.05)


def _reap_orphans() -> None:
    """Reap what the work left behind; what lives on in a session of its own is left alone when the time is over."""
    deadline = time.monotonic() + REAPING
    with contextlib.suppress(ChildProcessError):  # there is none left
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.01)


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended already
        os.killpg(group, number)


def _failure_reason(tree: Folders, code: int, stderr: str) -> str:
    """Return why the work failed, most useful line first."""
    written = tree.failure.read_text(errors="replace") if tree.failure.exists() else ""
    if written.startswith("ExecuteUserScriptError"):
        said = reason_from_stderr(stderr)  # the toolkit's text has no word of the script's own (contract A1.8)
        written = "\n\n".join(text for text in (_who_was_killed(written, stderr), said, written) if text)
    elif written.startswith("Framework Error"):
        written = reason_from_stderr(written) or written
    if _SIGTERM_SEEN and not written.startswith("Stopped by SIGTERM"):
        state = "what was saved until then is kept" if any(tree.model.iterdir()) else "there was no model yet"
        return f"Stopped by SIGTERM; {state}\n{written}"
    if written:
        return written
    if code == -signal.SIGKILL:
        return _KILLED.format("training process")
    return f"The training process ended with exit code {code} and left no message; see the log"


def _who_was_killed(written: str, stderr: str) -> str:
    """Return a sentence when the script, or one of several processes, was killed or only missed another; else ""."""
    if killed := killed_rank(stderr):
        rank, number = killed
        who = f"process of rank {rank}"
        return _KILLED.format(who) if number == signal.SIGKILL else f"The {who} was ended by signal {number}"
    if re.search(r"ExitCode (-9|137)\b", written):
        return _KILLED.format("script")
    lost = re.search(f"^.*{LOST}.*$", stderr, re.MULTILINE)
    return lost.group() if lost else ""


def _fail(tree: Folders, reason: str, code: int) -> int:
    write_failure(tree.failure, reason)
    print(f"train: exit code {code}: {reason.strip()}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())

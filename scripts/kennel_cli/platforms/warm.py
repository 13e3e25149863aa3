"""Training jobs that start warm: forks of a process that has imported torch and the toolkit already.

As with SageMaker's warm pools, nothing leaks from one trial into the next (contract B12): each is a fork of its own,
of a process that has only imported and never computed.
"""

import importlib
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from kennel.forking import fork_program
from kennel.lasting import lasting
from kennel_cli.platforms.runners import ProcessRunner, Program, end_with_parent, job_environment

_TRAIN = "kennel.container.train"
# what every training job imports, which takes a second
_TOOLKIT = (_TRAIN, "kennel.container.hook", "sagemaker_training.cli.train")
# what Kennel's own training imports: torch takes 2.5 seconds; a script is a program of its own and gains nothing by it
_OWN_TRAINING = ("kennel.training.run", "kennel.report.job_page")
# these look at SAGEMAKER_BASE_DIR when they are imported: each fork does that anew, with what they import there already
_NOT_KEPT = ("sagemaker_training", "kennel.container.hook", "kennel.container.launch", "kennel.container.script")


def warm_up(is_script: bool) -> None:
    """Import what training jobs need, which run a script or Kennel's own training.

    Has to be called before `fork_keeper`, by a process without threads.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `train` sets it; read once, when torch is imported
    with lasting():
        for name in _TOOLKIT if is_script else (*_TOOLKIT, *_OWN_TRAINING):
            importlib.import_module(name)
    for name in list(sys.modules):
        if name.startswith(_NOT_KEPT):
            del sys.modules[name]


def fork_keeper(module: str, folder: Path, log: int, lock: int) -> None:
    """Start a keeper as a fork of this process; see `StartKeeper`."""

    def leave() -> None:
        if os.fork():
            os._exit(0)  # the first fork: its end is waited for, so that the keeper is nobody's zombie
        os.setsid()
        importlib.import_module(module).main(folder)

    os.waitpid(fork_program(leave, os.environ, log, log, keep=[lock]), 0)


class WarmRunner(ProcessRunner):
    """Runs `train` in a fork of this process, and everything else as a process."""

    def start(self, program: str, tree: Path, variables: Mapping[str, str], log: Path) -> Program:
        """See `Runner.start`."""
        if program != "train":
            return super().start(program, tree, variables, log)

        keeper = os.getpid()

        def work() -> int:
            end_with_parent(keeper)
            os.chdir(tree)
            code: int = importlib.import_module(_TRAIN).main_in_fork()
            return code

        with log.open("ab") as output:
            child = fork_program(work, job_environment(tree, variables), output.fileno(), output.fileno())
        return Fork(child)


class Fork:
    """A program that runs in a fork."""

    def __init__(self, process: int) -> None:
        self._process = process
        self._exit_code: int | None = None

    def poll(self) -> int | None:
        """See `Program.poll`."""
        if self._exit_code is None:
            ended, status = os.waitpid(self._process, os.WNOHANG)
            if ended:
                self._exit_code = os.waitstatus_to_exitcode(status)
        return self._exit_code

    def terminate(self) -> None:
        """See `Program.terminate`."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """See `Program.kill`."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self._process, number)

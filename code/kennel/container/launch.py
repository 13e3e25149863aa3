"""Start several processes that train one network, on one host or more, through torchrun (contract A5.8, A6.8, A6.9)."""

import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from sagemaker_training import entry_point, environment, errors, params
from sagemaker_training.torch_distributed import TorchDistributedRunner

from kennel.container.environment import folders
from kennel.machine import share_of_cores

_RANK = Path(__file__).with_name("rank.py")
_GROUPS = "sagemaker_distribution_instance_groups"  # the SDK's hyperparameter, a JSON list of names
_LOOK = 0.2  # seconds between two looks for processes that have not had the SIGTERM yet


class Torchrun(TorchDistributedRunner):  # type: ignore[misc]  # the toolkit is not typed
    """The toolkit's torchrun, as its own `entry_point.run` calls it.

    That passes `wait` and `capture_error` by position, which this runner alone takes the other way round: it would
    neither wait nor look at the exit code, and a failed job would read Completed.
    """

    def run(self, wait: bool = True, capture_error: bool = False) -> Any:
        """Run to the end. Raises ExecuteUserScriptError when it fails."""
        # torchrun lies beside this Python, which need not be on the PATH
        os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
        if len(self._hosts) == 1:
            os.environ["PET_STANDALONE"] = "1"  # a free port: without it all jobs of a machine meet at 29500
        # torchrun leaves a folder behind for every job; warm pools keep them (contract A6.7)
        with tempfile.TemporaryDirectory(prefix="kennel-torchrun-", ignore_cleanup_errors=True) as scratch:
            os.environ["PET_LOG_DIR"] = scratch
            return super().run(capture_error=capture_error, wait=wait)


def hosts_that_train(given: environment.Environment) -> list[str]:
    """Return the hosts that train together; without this one when its instance group has no part in it.

    Raises ClientError when there are several groups and none is named.
    """
    named = given.additional_framework_parameters.get(_GROUPS)
    if named:
        if hosts := sorted(given.distribution_hosts):
            return hosts
        groups = ", ".join(given.instance_groups) or "none"
        raise errors.ClientError(f"{_GROUPS} is {named}, of which the job has no host; its groups are {groups}")
    if given.is_hetero:
        raise errors.ClientError(
            f"the job has the instance groups {', '.join(given.instance_groups)}; say which of them trains with the "
            f'hyperparameter {_GROUPS}, such as ["{given.instance_groups[0]}"]'
        )
    return sorted(given.hosts)


def processes_per_host(given: environment.Environment) -> int:
    """Return how many processes train on this host: one a GPU, one without any, unless the request says how many.

    Raises ClientError for a number that is none.
    """
    asked = given.additional_framework_parameters.get(params.MPI_PROCESSES_PER_HOST)
    if asked is None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = int(given.num_gpus)
        return max(1, gpus if visible is None else min(gpus, len([name for name in visible.split(",") if name])))
    if not isinstance(asked, int) or not 1 <= asked <= 64:
        raise errors.ClientError(
            f"{params.MPI_PROCESSES_PER_HOST} is {asked}; it should be a whole number from 1 to 64"
        )
    return asked


def keep_sigterm() -> None:
    """Let a SIGTERM wait for `train_together`; to be called before any module starts a thread, which would have it.

    torchrun would end its processes 30 seconds after a SIGTERM, and report a fault: it inherits the mask that keeps the
    signal from it, and the processes have it from us.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def train_together(given: environment.Environment, hosts: list[str], processes: int) -> None:
    """Run `rank.py` in so many processes of this host, and wait for their end; `keep_sigterm` comes before.

    Raises ClientError with the reason of the first that failed.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(share_of_cores(processes)))
    os.environ["PYTHONSAFEPATH"] = "1"  # the folder of rank.py is no place to import from
    torchrun = Torchrun(
        str(_RANK),
        [],
        {},
        processes,
        hosts[0],
        hosts,
        given.current_host,
        given.network_interface_name,
        given.current_instance_type,
    )
    ended = threading.Event()
    threading.Thread(target=_pass_sigterm_on, args=(ended.is_set,), daemon=True).start()
    try:
        entry_point.run(environment.code_dir, str(_RANK), [], {}, runner_type=torchrun)
    except errors.ClientError as error:
        failure = folders().failure
        raise errors.ClientError(failure.read_text() if failure.exists() else str(error)) from error
    finally:
        ended.set()


def _pass_sigterm_on(ended: Callable[[], bool]) -> None:
    """Wait for a SIGTERM, and then send it once to every process that torchrun has started or will start."""
    signal.sigwait({signal.SIGTERM})
    told: set[int] = set()
    while not ended():
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(ProcessLookupError):  # it has ended
                # torchrun gives each of them a session of its own
                if process.pid not in told and os.getsid(process.pid) == process.pid:
                    told.add(process.pid)
                    os.kill(process.pid, signal.SIGTERM)
        time.sleep(_LOOK)

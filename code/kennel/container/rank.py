"""One of several processes that train one network together; torchrun starts it as a script (contract A5.8)."""

import contextlib
import ctypes
import logging
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

from kennel.atomic import write_text
from kennel.container.environment import TrainingEnvironment, folders, read_json_object
from kennel.container.failure import LOST
from kennel.container.job import log_plain_lines, read_job
from kennel.errors import KennelError, Stopped
from kennel.lasting import lasting

log = logging.getLogger("kennel.container.rank")

_PR_SET_PDEATHSIG = 1  # from linux/prctl.h


def main() -> int:
    """Join the others, train, and return the exit code; the reason of a failure goes into the failure file."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # nobody would be left to stop it
    # launch.py keeps the signal from torchrun, and we inherit that; until there is something to save it ends us at once
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    log_plain_lines(int(os.environ["RANK"]))
    try:
        _train()
    except Stopped as stopped:
        return _fail(f"Stopped by {stopped.by} {stopped}; no model was saved")
    except KennelError as error:
        return _fail(str(error))
    except BaseException as error:
        from kennel.training.distributed import is_connection_lost  # noqa: PLC0415 - torch is slow to import

        if is_connection_lost(error):  # why the other ended is said there, and is the reason
            print(f"{LOST}, in which another one has ended; the logs of all hosts say why", file=sys.stderr)  # noqa: T201
            return 1
        log.exception("training failed by a fault of Kennel, not of the data")
        return _fail(f"{type(error).__name__}: {error}")
    return 0


def _train() -> None:
    given = TrainingEnvironment.read()
    job = read_job(given)
    with lasting():
        from kennel.container.watching import watched  # noqa: PLC0415 - torch is slow to import
        from kennel.training.distributed import join_processes, leave  # noqa: PLC0415 - as above
        from kennel.training.progress import StopSignal  # noqa: PLC0415 - as above
        from kennel.training.run import run  # noqa: PLC0415 - as above
        from kennel.training.shards import unite  # noqa: PLC0415 - as above
        from kennel.training.watching import UNWATCHED  # noqa: PLC0415 - as above

    processes = join_processes(
        read_json_object(given.folders.config / "resourceconfig.json").get("network_interface_name")
    )
    stop = StopSignal()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    shards = job.cache_dir / "shards" / str(os.getppid())  # torchrun's number: the same for all processes of a host
    try:
        split = {name: folder for name, folder in job.channels.items() if name not in given.replicated}
        channels = {**job.channels, **unite(split, processes, shards)}
        # the main process sees what all train: the same weights, and its share of each batch
        with watched(job, given, stop) if processes.is_main else contextlib.nullcontext(UNWATCHED) as watching:
            run(replace(job, channels=channels), stop, processes, watching)
        leave()
    finally:
        if processes.local_rank == 0:
            shutil.rmtree(shards, ignore_errors=True)


def _fail(reason: str) -> int:
    """Write the failure file unless another process has; return the exit code."""
    file = folders().failure
    mine = Path(f"{file}.{os.getpid()}")
    write_text(mine, reason.strip() + "\n")
    with contextlib.suppress(FileExistsError):
        os.link(mine, file)
    mine.unlink()
    return 1


if __name__ == "__main__":
    # without the clean-up of an interpreter: where a peer has gone it would wait for it
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

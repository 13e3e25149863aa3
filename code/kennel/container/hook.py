"""What the toolkit's `train` runs for us (contract A5.7): our own training, or a submitted script."""

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Mapping
from types import FrameType
from typing import TYPE_CHECKING

import psutil
from sagemaker_training import environment, errors, logging_config

from kennel.container.environment import TrainingEnvironment
from kennel.container.job import log_plain_lines, read_job
from kennel.container.job_report import reported
from kennel.container.launch import hosts_that_train, keep_sigterm, processes_per_host, train_together
from kennel.container.script import run_script
from kennel.errors import KennelError, Stopped
from kennel.hyperparameters import SEARCH
from kennel.lasting import lasting
from kennel.training.job import Job

if TYPE_CHECKING:
    from kennel.training.progress import StopSignal

log = logging.getLogger(__name__)


def train() -> None:
    """Train, and turn everything that goes wrong into the toolkit's ClientError.

    Only a ClientError makes the toolkit report failure whatever happened: an OSError without a number and a SystemExit
    would end with exit code 0 (contract A1.7).
    """
    logging_config.get_logger().setLevel(
        logging.WARNING
    )  # at INFO it says "Failed to parse hyperparameter" of every plain word
    try:
        if environment.Environment().user_entry_point:
            run_script(lambda: _on_sigterm(_end_unless_the_script_runs))
        else:
            _run_kennel()
    except errors.ClientError:
        raise
    except Stopped as stopped:
        raise errors.ClientError(f"Stopped by {stopped.by} {stopped}; no model was saved") from stopped
    except KennelError as error:
        raise errors.ClientError(str(error)) from error
    except BaseException as error:
        log.exception("training failed by a fault of Kennel, not of the data")
        raise errors.ClientError(f"{type(error).__name__}: {error}") from error


def _run_kennel() -> None:
    log_plain_lines()
    given = TrainingEnvironment.read()
    platform = environment.Environment()
    hosts, processes = hosts_that_train(platform), processes_per_host(platform)
    search = given.hyperparameters.get(SEARCH)
    if search is None and len(hosts) * processes > 1:
        keep_sigterm()
    job = read_job(given)
    if platform.current_host not in hosts:
        log.info("nothing to do: %s is none of the hosts that train, %s", platform.current_host, ", ".join(hosts))
    elif search is not None and len(hosts) > 1:
        raise errors.ClientError(f"a search in one job runs on one host, not on {len(hosts)}; set InstanceCount to 1")
    elif search is None and len(hosts) * processes > 1:
        # the first host writes the model, and the report of it
        with reported(job, given.folders) if platform.current_host == hosts[0] else contextlib.nullcontext():
            train_together(platform, hosts, processes)
    else:
        _train_alone(job, given, search)


def _train_alone(job: Job, given: TrainingEnvironment, search: str | None) -> None:
    with lasting():
        from kennel.container.watching import watched  # noqa: PLC0415 - torch is slow; a bad request fails first
        from kennel.training.progress import StopSignal  # noqa: PLC0415 - as above
        from kennel.training.run import run  # noqa: PLC0415 - as above

    stop = StopSignal()
    _on_sigterm(stop.set)
    with reported(job, given.folders):
        if search is None:
            with watched(job, given, stop) as watching:
                run(job, stop, watching=watching)
        else:
            static = {name: value for name, value in given.hyperparameters.items() if name != SEARCH}
            _search(job, static, search, stop)


def _search(job: Job, static: Mapping[str, str], search: str, stop: "StopSignal") -> None:
    """Run a whole search in this job; its summary goes to the output, whatever becomes of it."""
    from kennel.report.tuning_page import write_tuning_page  # noqa: PLC0415 - for searches alone
    from kennel.tuning.one_job import OneJobSearch, parse_search  # noqa: PLC0415 - as above
    from kennel.tuning.summary import write_summary  # noqa: PLC0415 - as above

    one_job = OneJobSearch(job, static, parse_search(search), stop)
    problem = ""
    try:
        one_job.run()
    except Exception as error:
        problem = "" if isinstance(error, Stopped) else str(error) or type(error).__name__
        raise
    finally:
        try:
            name = os.environ.get("TRAINING_JOB_NAME", "search")
            write_summary(job.output_dir, one_job.summary(name, problem))
            write_tuning_page(job.output_dir)
        except Exception:
            log.exception("the summary of the search could not be written; the model is not touched by that")


def _end_unless_the_script_runs() -> None:
    """Stay while the script runs, which has had the signal too, and report how it ends; else end as without a handler.

    An exception would not do: logging swallows those that come while it writes.
    """
    if not psutil.Process().children():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)


def _on_sigterm(action: Callable[[], None]) -> None:
    def handle(number: int, frame: FrameType | None) -> None:
        action()

    signal.signal(signal.SIGTERM, handle)

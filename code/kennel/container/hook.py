"""What the toolkit's `train` runs for us (contract A5.7): our own training, or a submitted script."""

import json
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

from sagemaker_training import entry_point, environment, errors, logging_config
from sagemaker_training.runner import RunnerType

from kennel.container.environment import TrainingEnvironment
from kennel.container.job_report import reported
from kennel.errors import KennelError, Stopped
from kennel.hyperparameters import SEARCH, parse_hyperparameters

if TYPE_CHECKING:
    from kennel.training.job import Job
    from kennel.training.progress import StopSignal

log = logging.getLogger(__name__)

_SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSWORD|CREDENTIAL|API_?KEY", re.IGNORECASE)


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
            _run_script()
        else:
            _run_kennel()
    except errors.ClientError:
        raise
    except Stopped as stopped:
        raise errors.ClientError(f"Stopped by SIGTERM {stopped}; no model was saved") from stopped
    except KennelError as error:
        raise errors.ClientError(str(error)) from error
    except BaseException as error:
        log.exception("training failed by a fault of Kennel, not of the data")
        raise errors.ClientError(f"{type(error).__name__}: {error}") from error


def _run_kennel() -> None:
    _log_plain_lines()
    from kennel.training.progress import StopSignal  # noqa: PLC0415 - torch is slow to import; a bad request fails first

    given = TrainingEnvironment.read()
    values = {name: value for name, value in given.hyperparameters.items() if name != SEARCH}
    hyperparameters = parse_hyperparameters(values)
    from kennel.training.job import Job  # noqa: PLC0415 - as above
    from kennel.training.run import run  # noqa: PLC0415 - as above

    stop = StopSignal()
    _on_sigterm(stop.set)
    job = Job(
        hyperparameters=hyperparameters,
        channels=given.channels,
        model_dir=given.folders.model,
        output_dir=given.folders.output_data,
        cache_dir=given.cache_dir,
        weights_dir=given.weights_dir,
    )
    with reported(job, given.folders):
        if SEARCH in given.hyperparameters:
            _search(job, values, given.hyperparameters[SEARCH], stop)
        else:
            run(job, stop)


def _search(job: "Job", static: Mapping[str, str], search: str, stop: "StopSignal") -> None:
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


def _run_script() -> None:
    """Run a user's submitted script as the toolkit does: one process, or torchrun when that is asked for."""
    given = environment.Environment()
    asked = given.additional_framework_parameters
    if asked.get("sagemaker_mpi_enabled"):
        raise errors.ClientError("MPI is not in this image; use distribution={'torch_distributed': {'enabled': True}}")
    torchrun = asked.get("sagemaker_torch_distributed_enabled")
    toolkit = logging_config.get_logger()
    toolkit.setLevel(logging.INFO)
    toolkit.addFilter(_mask_secrets({**os.environ, **given.hyperparameters}))
    _on_sigterm(lambda: None)  # the script has had the signal too: stay, and report how it ends
    entry_point.run(
        given.module_dir,
        given.user_entry_point,
        given.to_cmd_args(),
        given.to_env_vars(),
        runner_type=RunnerType.TorchDistributed if torchrun else RunnerType.Process,
    )


def _log_plain_lines() -> None:
    """Let Kennel's own lines reach the log as they are, without the toolkit's prefix: metrics are read from them."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    ours = logging.getLogger("kennel")
    ours.setLevel(logging.INFO)
    ours.propagate = False
    ours.addHandler(handler)


def _on_sigterm(action: Callable[[], None]) -> None:
    def handle(number: int, frame: FrameType | None) -> None:
        action()

    signal.signal(signal.SIGTERM, handle)


def _mask_secrets(values: Mapping[str, Any]) -> Callable[[logging.LogRecord], bool]:
    """Return a log filter that hides the values with secret-sounding names.

    The toolkit logs a script's whole environment and all hyperparameters (contract A3.6).
    """
    plain = [str(value) for name, value in values.items() if _SECRET_NAME.search(name) and len(str(value)) > 3]
    secrets = {*plain, *(json.dumps(value)[1:-1] for value in plain)}  # as they are, and as the toolkit quotes them

    def mask(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        for secret in secrets:
            text = text.replace(secret, "****")
        record.msg, record.args = text, ()
        return True

    return mask

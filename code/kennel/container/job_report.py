"""The report that every job leaves, and what only its container knows of it."""

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kennel
from kennel.atomic import write_json
from kennel.container.environment import (
    INSTANCE_PRICE,
    JOB_NAME,
    LOCAL_REGION,
    REGION,
    Folders,
    read_json_object,
    variable,
)
from kennel.errors import Stopped
from kennel.harmless import harmless

if TYPE_CHECKING:
    from kennel.training.job import Job

_UNWRITTEN = "the report could not be written", "the model is not touched by that"

log = logging.getLogger(__name__)


@contextmanager
def reported(job: "Job", folders: Folders) -> Iterator[None]:
    """Write `job.json` and the report of the job that the block is, whatever becomes of either."""
    began = time.monotonic()
    known: dict[str, Any] = {}
    status, reason = "Completed", ""
    with harmless(*_UNWRITTEN):
        known = _describe(job, folders)
        write_json(job.output_dir / "job.json", {**known, "status": "InProgress", "reason": "", "seconds": None})
    try:
        yield
    except BaseException as error:
        status = "Stopped" if isinstance(error, Stopped) else "Failed"
        reason = (str(error) or type(error).__name__).encode(errors="replace").decode()  # it may name an odd file
        raise
    finally:
        with harmless(*_UNWRITTEN):
            from kennel.report.job_page import write_job_page  # noqa: PLC0415 - a bad request fails before it is needed

            seconds = round(time.monotonic() - began, 1)
            write_json(job.output_dir / "job.json", {**known, "status": status, "reason": reason, "seconds": seconds})
            write_job_page(job.output_dir)


def _describe(job: "Job", folders: Folders) -> dict[str, Any]:
    """Return what is known of a job before it begins."""
    resources = read_json_object(folders.config / "resourceconfig.json")
    is_local = os.environ.get(REGION) == LOCAL_REGION  # the request of a local job names an instance all the same
    return {
        "name": variable(JOB_NAME, ""),
        "kennel": kennel.__version__,
        "instance": "" if is_local else str(resources.get("current_instance_type", "")),
        "price": _price(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "hyperparameters": asdict(job.hyperparameters),
        "sources": _sources(job.channels) if is_local else {},
    }


def _price() -> float | None:
    text = variable(INSTANCE_PRICE, "")
    try:
        return float(text) if text else None
    except ValueError:
        log.warning(
            "%s=%s is no number of dollars an hour, such as 1.41; the report names no cost", INSTANCE_PRICE, text
        )
        return None


def _sources(channels: Mapping[str, Path]) -> dict[str, str]:
    """Return what the channels of a local job are links to: what the user has typed."""
    sources = {}
    for name, folder in channels.items():
        inside = [folder] if folder.is_symlink() else list(folder.iterdir()) if folder.is_dir() else []
        if len(inside) == 1 and inside[0].is_symlink():
            sources[name] = str(inside[0].resolve())
    return sources

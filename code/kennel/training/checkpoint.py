"""What an interrupted job needs to go on exactly where it was.

A checkpoint is one file, `kennel-KEY-NUMBER.ckpt`, written under a temporary name and renamed. The key is made of the
job's name and of all that decides what it computes, so that no job takes up another's. Files that are not this job's
are left alone: SageMaker mirrors deletions to S3 (contract A6.1).
"""

import logging
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from kennel.atomic import replacing
from kennel.cache import digest

log = logging.getLogger(__name__)

FORMAT = 1  # raise it when the content changes its meaning; older files are then another job's
KEPT = 2  # the newest so many stay: one may be cut short when the machine is taken away
_NAME = re.compile(r"kennel-([0-9a-f]{16})-(\d{8})\.ckpt")


class Checkpoints:
    """The checkpoints of one job, in a folder that outlives interruptions; without a folder, nothing is kept."""

    def __init__(self, folder: Path | None, identity: Mapping[str, Any], seconds: float, writes: bool = True) -> None:
        """Look for checkpoints of the job that `identity`, a JSON object, describes; `seconds` lie between two.

        With `writes` false, this process reads but leaves the writing to another one.
        """
        self._folder = folder
        self._key = digest({"format": FORMAT, **identity})[:16]
        self._seconds = seconds
        self._writes = writes
        self._last = time.monotonic()
        self._number = 0
        self._unreadable: set[int] = set()

    @property
    def due(self) -> bool:
        """Whether it is time for the next one."""
        return self._folder is not None and time.monotonic() - self._last >= self._seconds

    def load(self) -> dict[str, Any] | None:
        """Return the newest state that can be read, or None; say what was found and is not used."""
        if self._folder is None or not self._folder.is_dir():
            return None
        own, foreign = self._find()
        if foreign:
            log.warning(
                "checkpoints of other jobs or settings are left alone and not used: %s",
                ", ".join(foreign[:3]) + (f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""),
            )
        self._number = max(own, default=0)
        for number in sorted(own, reverse=True):
            try:
                state: dict[str, Any] = torch.load(own[number], map_location="cpu", weights_only=True)
            except Exception as error:  # noqa: BLE001 - torch raises half a dozen types for a file that is cut short
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                log.warning("the checkpoint %s cannot be read and is left alone: %s", own[number].name, reason)
                self._unreadable.add(number)
            else:
                log.info("resume checkpoint=%s; phase=%s; epoch=%d;", own[number].name, state["phase"], state["epoch"])
                return state
        return None

    def save(self, state: Mapping[str, Any]) -> None:
        """Write a state of tensors and plain values, and remove this job's files but the newest `KEPT`.

        When it cannot be written, that is said, and training goes on without it.
        """
        self._last = time.monotonic()
        if self._folder is None or not self._writes:
            return
        self._number += 1
        try:
            with replacing(self._folder / f"kennel-{self._key}-{self._number:08d}.ckpt") as temporary:
                torch.save(dict(state), temporary)
            own, _ = self._find()
            for number in sorted(own.keys() - self._unreadable)[:-KEPT]:
                own[number].unlink()
        except (OSError, RuntimeError) as error:  # torch raises the second for a disk that is full
            log.warning("checkpoint %d could not be written, training goes on: %s", self._number, error)
        self._last = time.monotonic()

    def _find(self) -> tuple[dict[int, Path], list[str]]:
        """Return this job's files by their numbers, and the names of all others."""
        assert self._folder is not None
        own, foreign = {}, []
        for file in sorted(self._folder.iterdir()):
            match = _NAME.fullmatch(file.name)
            if match and match[1] == self._key:
                own[int(match[2])] = file
            else:
                foreign.append(file.name)
        return own, foreign

"""The failure file: what a user reads as FailureReason when a job has failed."""

import re
from pathlib import Path

from kennel.atomic import write_text

_LAST_LINE = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Warning|Stop\w*)\b.*", re.MULTILINE)


def write_failure(file: Path, reason: str) -> None:
    """Write `reason`, most useful line first: SageMaker shows the first 1024 characters (contract A1.5)."""
    write_text(file, reason.strip() + "\n")


def reason_from_stderr(stderr: str) -> str:
    """Return the last exception's message in what a script wrote to stderr, with its traceback below; "" if none."""
    start = stderr.rfind("Traceback (most recent call last)")
    if start < 0:
        return ""
    traceback = stderr[start:]
    found = _LAST_LINE.search(traceback)
    return f"{found.group(0)}\n\n{traceback}" if found else traceback

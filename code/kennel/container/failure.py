"""The failure file: what a user reads as FailureReason when a job has failed."""

import re
from pathlib import Path

from kennel.atomic import write_text

_SHOWN = 4000  # characters of the end of stderr that go into the failure file
_TOOLKIT_ANNOUNCES = "Invoking script with the following command:"
_TOOLKIT_REPORTS = re.compile(r"^.*sagemaker-training-toolkit ERROR", re.MULTILINE)


def write_failure(file: Path, reason: str) -> None:
    """Write `reason`, most useful line first: SageMaker shows the first 1024 characters (contract A1.5)."""
    write_text(file, reason.strip() + "\n")


def reason_from_stderr(stderr: str) -> str:
    """Return the last line that a script wrote to stderr, and below it the end of all it wrote there; "" if nothing.

    The last line is the exception's own where one ended the script. What the toolkit writes around it is cut off.
    """
    _, announced, after = stderr.rpartition(_TOOLKIT_ANNOUNCES)
    if announced:  # and then the command itself, in a line of its own
        after = after.lstrip().partition("\n")[2]
    report = _TOOLKIT_REPORTS.search(after)
    written = (after[: report.start()] if report else after).strip()
    return f"{written.splitlines()[-1]}\n\n{written[-_SHOWN:]}" if written else ""

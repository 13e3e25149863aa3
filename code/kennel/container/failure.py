"""The failure file: what a user reads as FailureReason when a job has failed."""

import re
import signal
from pathlib import Path

from kennel.atomic import write_text

LOST = "lost the connection to the processes that train together"
_SHOWN = 4000  # characters of the end of stderr that go into the failure file
_TOOLKIT_ANNOUNCES = "Invoking script with the following command:"
# where the toolkit's, or torchrun's, own words begin
_REPORTS = re.compile(r"^(.*sagemaker-training-toolkit ERROR|[EWI]\d{4} .* torch/distributed/elastic/)", re.MULTILINE)
_TORCHRUN_FAILURE = re.compile(r"\brank\s*: (\d+) \(local_rank: \d+\)\s+exitcode\s*: (-?\d+)")


def write_failure(file: Path, reason: str) -> None:
    """Write `reason`, most useful line first: SageMaker shows the first 1024 characters (contract A1.5)."""
    write_text(file, reason.strip() + "\n")


def reason_from_stderr(stderr: str) -> str:
    """Return the last line that a script wrote to stderr, and below it the end of all it wrote there; "" if nothing.

    The last line is the exception's own where one ended the script. What the toolkit and torchrun write around it
    is cut off.
    """
    _, announced, after = stderr.rpartition(_TOOLKIT_ANNOUNCES)
    if announced:  # and then the command itself, in a line of its own
        after = after.lstrip().partition("\n")[2]
    report = _REPORTS.search(after)
    written = (after[: report.start()] if report else after).strip()
    return f"{written.splitlines()[-1]}\n\n{written[-_SHOWN:]}" if written else ""


def killed_rank(stderr: str) -> tuple[int, int] | None:
    """Return the rank of a process that torchrun saw killed, and the number of the signal; None when it saw none.

    A SIGTERM does not count: torchrun sends it to all when one has failed.
    """
    for rank, code in _TORCHRUN_FAILURE.findall(stderr):
        if int(code) < 0 and -int(code) != signal.SIGTERM:
            return int(rank), -int(code)
    return None

"""Ask again when a model is busy: after a while that doubles, and that no two callers share."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from kennel_cli.prediction.answers import Busy

ATTEMPTS = 4
FIRST_WAIT = 0.5  # seconds before the second attempt
LONGEST_WAIT = 60.0  # seconds; whoever is asked to wait longer is told so instead

Result = TypeVar("Result")


def retrying(call: Callable[[], Result], attempts: int) -> Result:
    """Return what `call` returns, which is tried up to `attempts` times as long as it raises Busy; then raise that."""
    attempt = 1
    while True:
        try:
            return call()
        except Busy as busy:
            if attempt >= attempts or busy.after > LONGEST_WAIT:
                raise
            backoff = FIRST_WAIT * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)
            time.sleep(max(busy.after, backoff))
            attempt += 1

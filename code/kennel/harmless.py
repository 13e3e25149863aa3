"""Keeps what only describes a training from ending it (principle 6)."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def harmless(what: str, instead: str) -> Iterator[None]:
    """Turn whatever goes wrong in the block into one warning: `what` failed, and `instead` is what that means."""
    try:
        yield
    except Exception:
        log.warning("%s; %s", what, instead, exc_info=True)

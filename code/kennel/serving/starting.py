"""The start of a service in a worker process of gunicorn's."""

import logging
import os
import sys

from gunicorn.arbiter import Arbiter

from kennel.errors import KennelError
from kennel.serving.service import Server
from kennel.serving.user_code import HandlerError

log = logging.getLogger(__name__)


class Starter:
    """Starts services in the workers of one server."""

    def __init__(self) -> None:
        """To be made before the workers are forked."""
        self._token, write = os.pipe()
        os.write(write, b"x")
        os.close(write)

    def start(self, service: Server) -> None:
        """Start a service, which may take minutes: gunicorn's timeout begins with a worker's first sign of life.

        When it cannot start, the reason is said in full, by one of the workers, and the server ends (contract E7).
        """
        try:
            service.start()
        except KennelError as error:
            if self._is_first():
                # where the user's own code has failed, its traceback is the reason
                log.error("serve: %s", error, exc_info=error.__cause__ if isinstance(error, HandlerError) else None)
            sys.exit(Arbiter.WORKER_BOOT_ERROR)  # the master leaves too, where it would replace a worker that died

    def _is_first(self) -> bool:
        """Return True in one of the processes, and once: who reads the byte before the end of the pipe."""
        return bool(os.read(self._token, 1))

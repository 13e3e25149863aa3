"""Expensive results, kept in folders named by what they were made from, shared by jobs that run at the same time."""

import errno
import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from kennel.atomic import write_json
from kennel.errors import CacheError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

POLL = 0.1  # seconds between two looks at a lock that another process holds
FORMAT = 2  # raise it when the files inside the folders change their meaning; older folders are then never read


def digest(value: Any) -> str:
    """Return the SHA-256 of a JSON value as 64 hexadecimal digits; equal values give equal digests."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Cache:
    """A content-addressed cache below one folder.

    A folder appears under its final name only when it is complete. Two processes that want the same folder at the same
    moment build it once: the second waits. The lock belongs to the process, so a crash releases it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, kind: str, key: Mapping[str, Any]) -> Path:
        """Return where the folder for `key` is, or would be."""
        return self.root / kind / digest({"format": FORMAT, **key})

    def folder(
        self,
        kind: str,
        key: Mapping[str, Any],
        build: Callable[[Path], None],
        waiting: Callable[[], None] = lambda: None,
    ) -> Path:
        """Return the folder for `key`, calling `build(empty_folder)` first if it is not there yet.

        `kind` names the sort of thing (`packed`, `features`); `key` holds all that the content depends on. `waiting` is
        called again and again while another process builds the same folder, and may raise to give up.
        An exception in `build` leaves nothing behind. Raises CacheError where the disk is full.
        """
        final = self.path(kind, key)
        if final.is_dir():
            return final
        with self._lock(kind, final.name, waiting):
            if final.is_dir():
                return final
            partial = final.with_name(f"{final.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)  # of a process that died here before us
            partial.mkdir(parents=True)
            try:
                build(partial)
                write_json(partial / "key.json", dict(key))
                partial.rename(final)
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                raise CacheError(
                    f"there is no room for the job's cache in {self.root} ({error.strerror}); "
                    "set KENNEL_CACHE to a folder with more, or take a smaller image_size"
                ) from error
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return final

    @contextmanager
    def _lock(self, kind: str, name: str, waiting: Callable[[], None]) -> Iterator[None]:
        locks = self.root / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / f"{kind}-{name}").open("w") as file:
            while not _try_lock(file):
                waiting()
                time.sleep(POLL)
            yield


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

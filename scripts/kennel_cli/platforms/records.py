"""What the player remembers of a job or an endpoint: a folder with its request, its status and its keeper's lock."""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from kennel.atomic import write_json
from kennel_cli.platforms.detach import StartKeeper, start_detached


class Record:
    """The folder of one training job, tuning job or endpoint.

    `request.json` is written once, by whoever creates the job; `status.json` by its keeper alone, the process that runs
    it; `stop` and `change.json` are what others ask of the keeper. The keeper holds a lock as long as it lives, so that
    a job whose keeper died is told from one that runs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tree = folder / "ml"  # the program's /opt/ml
        self.log = folder / "log.txt"  # what the program wrote to stdout and stderr
        self._request = folder / "request.json"
        self._status = folder / "status.json"
        self._stop = folder / "stop"
        self._change = folder / "change.json"
        self._runner = folder / "runner.json"
        self._lock = folder / "keeper.lock"

    @property
    def name(self) -> str:
        """The name of the job or endpoint."""
        return self.folder.name

    @property
    def home(self) -> Path:
        """The folder of the LocalSageMaker that made it."""
        return self.folder.parents[1]

    def exists(self) -> bool:
        """Return whether there is such a job or endpoint."""
        return self._request.exists()

    def create(
        self,
        request: Mapping[str, Any],
        status: Mapping[str, Any],
        keeper: str,
        runner: str,
        start: StartKeeper = start_detached,
    ) -> None:
        """Make the folder, in full or not at all, and start the module `keeper` on it, which outlives us.

        The keeper starts the program with `runner`, a name that `choose_runner` knows. Raises FileExistsError when the
        name is taken.
        """
        partial = self.folder.with_name(f".{self.name}.{os.getpid()}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write_json(partial / self._request.name, request)
        write_json(partial / self._status.name, {**status, "CreationTime": now(), "LastModifiedTime": now()})
        write_json(partial / self._runner.name, {"runner": runner})
        with (partial / self._lock.name).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the lock goes with the open file, which the keeper inherits
            try:
                partial.rename(self.folder)
            except OSError as error:  # a folder that is not empty cannot be replaced
                shutil.rmtree(partial)
                raise FileExistsError(f"{self.name} exists already") from error
            with (self.folder / "keeper.log").open("ab") as log:
                start(keeper, self.folder, log.fileno(), lock.fileno())

    def restart(self, keeper: str) -> None:
        """Start the module `keeper` again where an earlier one died. Raises BlockingIOError when that one is alive."""
        with self._lock.open("w") as lock, (self.folder / "keeper.log").open("ab") as log:
            self._take(lock)
            start_detached(keeper, self.folder, log.fileno(), lock.fileno())

    def _take(self, lock: IO[str]) -> None:
        """Lock for a new keeper; whoever looks whether there is one holds the lock too, for a moment."""
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self.is_kept():
                    raise
            else:
                return

    def request(self) -> dict[str, Any]:
        """Return the request as it was made."""
        request: dict[str, Any] = json.loads(self._request.read_text(encoding="utf-8"))
        return request

    def runner(self) -> str:
        """Return the name of the runner that it was made for."""
        runner: str = json.loads(self._runner.read_text(encoding="utf-8"))["runner"]
        return runner

    def status(self) -> dict[str, Any]:
        """Return what the keeper last wrote; the values are those of a describe response, with times as text."""
        status: dict[str, Any] = json.loads(self._status.read_text(encoding="utf-8"))
        return status

    def update(self, **values: Any) -> None:
        """Change members of the status, and note the time; the value None takes a member away."""
        members = {**self.status(), **values, "LastModifiedTime": now()}
        write_json(self._status, {name: value for name, value in members.items() if value is not None})

    def ask_to_change(self, request: Mapping[str, Any]) -> None:
        """Ask the keeper to go on with another request.

        Raises FileExistsError while it works on an earlier one, and FileNotFoundError when the folder has been removed.
        """
        partial = self._change.with_name(f".{self._change.name}.{os.getpid()}.partial")
        try:
            partial.write_text(json.dumps(request), encoding="utf-8")  # not write_json, which would make the folder
            self._change.hardlink_to(partial)  # in full, and never over that of somebody else
        finally:
            partial.unlink(missing_ok=True)

    def is_asked_to_change(self) -> bool:
        """Return whether somebody asked, and the keeper has not come to an end with it."""
        return self._change.exists()

    def change(self) -> dict[str, Any]:
        """Return the request that the keeper should go on with."""
        request: dict[str, Any] = json.loads(self._change.read_text(encoding="utf-8"))
        return request

    def end_change(self) -> None:
        """Note that the keeper has done what it was asked for, or could not; the status must say so by now."""
        self._change.unlink()

    def ask_to_stop(self) -> None:
        """Ask the keeper to end the program."""
        self._stop.touch()

    def is_asked_to_stop(self) -> bool:
        """Return whether somebody asked."""
        return self._stop.exists()

    def is_kept(self) -> bool:
        """Return whether the keeper is alive."""
        try:
            with self._lock.open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def remove(self) -> None:
        """Remove the folder, so that the name is free again."""
        gone = self.folder.with_name(f".{self.name}.{os.getpid()}.removed")
        with contextlib.suppress(FileNotFoundError):  # somebody else was quicker
            self.folder.rename(gone)
            shutil.rmtree(gone)


def now() -> str:
    """Return the time as text, in UTC."""
    return datetime.now(UTC).isoformat()


def last_lines(file: Path, count: int, start: int = 0) -> str:
    """Return the last lines of a log, none from before the byte `start`."""
    text = file.read_bytes()[start:].decode(errors="replace") if file.exists() else ""
    return "\n".join(text.splitlines()[-count:])

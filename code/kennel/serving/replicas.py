"""The same models in all processes of a server: who is asked to load or to unload one tells the others.

The processes meet in a folder. There each has a socket, on which it is told which models to hold; `models.json` says
which all of them do, for a process that starts; and whoever changes anything holds the lock.
"""

import fcntl
import json
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import NamedTuple

from kennel.atomic import write_json
from kennel.serving.errors import AlreadyLoaded, NotLoaded, OutOfMemory, RequestError
from kennel.serving.memory import MB, free_gpu_memory, free_memory
from kennel.serving.models import Models

log = logging.getLogger(__name__)

LONGEST = 360  # seconds that a process may take to do what it is told; so long the platform waits (contract C3.3)
_STATE = "models.json"
_LOCK = "lock"
_SOCKETS = "*.socket"


class Loaded(NamedTuple):
    """A model that all processes hold."""

    url: str
    memory: int  # bytes, about, in each process


class Replicas:
    """The models of this process, and those of the others beside it: they are the same whenever nobody changes them."""

    def __init__(self, models: Models, folder: Path, processes: int, need: Callable[[str], int], budget: int) -> None:
        """Meet the other processes in `folder`, which is there; `processes` is how many there are in all.

        `need` says about how many bytes the model at a URL takes in a process; all together may take `budget` bytes.
        """
        self._models = models
        self._folder = folder
        self._processes = processes
        self._need = need
        self._budget = budget
        self._listener: Listener | None = None

    # What this process is asked

    def start(self) -> None:
        """Load what the others have, and listen to them; to be called in the process that serves, after the fork.

        A model that cannot be loaded any more is unloaded in all.
        """
        with self._turn():
            self._listener = Listener(str(self._folder / f"{os.getpid()}.socket"), "AF_UNIX")
            threading.Thread(target=self._listen, args=(self._listener,), name="replicas", daemon=True).start()
            there, here = self.loaded(), dict[str, Loaded]()
            for name, loaded in there.items():
                try:
                    self._models.hold(_urls({**here, name: loaded}))
                except Exception:
                    log.exception("the model %s cannot be loaded again, and is unloaded", name)
                else:
                    here[name] = loaded
            self._write(here)
            # a process that ended in the middle of a change may have left the others with a part of it
            _say(self._tell(here))

    def stop(self) -> None:
        """Listen no more."""
        if self._listener is not None:
            self._listener.close()

    def loaded(self) -> dict[str, Loaded]:
        """Return the models that all processes hold, by name, in the order of their loading."""
        try:
            state = json.loads((self._folder / _STATE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return {name: Loaded(*fields) for name, fields in state.items()}

    def load(self, name: str, url: str) -> None:
        """Load a model in all processes, or in none. Raises AlreadyLoaded, OutOfMemory, and what `Models.hold` does."""
        with self._turn():
            before = self.loaded()
            if name in before:
                raise AlreadyLoaded(f"the model {name} is loaded already, from {before[name].url}")
            need = self._need(url)
            self._check_memory(name, need, before)
            after = {**before, name: Loaded(url, need)}
            self._models.hold(_urls(after))
            if failures := self._tell(after):
                self._models.hold(_urls(before))
                _say(self._tell(before))
                raise failures[0]
            self._write(after)

    def unload(self, name: str) -> None:
        """Unload a model in all processes; its memory is free on return. Raises NotLoaded."""
        with self._turn():
            after = self.loaded()
            if name not in after:
                raise NotLoaded(name)
            del after[name]
            self._models.hold(_urls(after))
            _say(self._tell(after))
            self._write(after)

    def _check_memory(self, name: str, need: int, loaded: Mapping[str, Loaded]) -> None:
        taken = sum(model.memory for model in loaded.values()) * self._processes
        free = min(free_memory(), self._budget - taken)
        if need * self._processes > free:
            all_of_them = f" in each of {self._processes} processes" if self._processes > 1 else ""
            raise OutOfMemory(
                f"the model {name} needs about {need // MB} MB of memory{all_of_them}, and there are {free // MB} MB; "
                "unload another"
            )
        on_gpu = free_gpu_memory()
        if on_gpu is not None and need > on_gpu:
            raise OutOfMemory(
                f"the model {name} needs about {need // MB} MB of a GPU's memory, and there are {on_gpu // MB} MB; "
                "unload another"
            )

    # The others

    def _tell(self, models: Mapping[str, Loaded]) -> list[Exception]:
        """Have the others hold these models too, all at the same time; return why they could not, if any.

        One that has ended before does not count: it is replaced by one that reads the state.
        """
        message = json.dumps(_urls(models)).encode()
        told: list[Connection] = []
        for file in sorted(self._folder.glob(_SOCKETS)):
            if self._listener is None or str(file) == self._listener.address:
                continue
            try:
                connection = Client(str(file), "AF_UNIX")
                connection.send_bytes(message)
            except (ConnectionRefusedError, FileNotFoundError, BrokenPipeError):
                file.unlink(missing_ok=True)
            else:
                told.append(connection)
        return [failure for connection in told if (failure := _hear(connection))]

    def _listen(self, listener: Listener) -> None:
        while True:
            try:
                connection = listener.accept()
            except OSError:  # it was closed: the process ends
                return
            with connection:
                try:
                    connection.send_bytes(json.dumps(self._obey(connection.recv_bytes())).encode())
                except (EOFError, OSError):
                    log.warning("a process has ended while it told this one which models to hold")

    def _obey(self, message: bytes) -> dict[str, str | int]:
        try:
            self._models.hold(json.loads(message))
        except RequestError as error:
            return {"status": error.status, "error": str(error)}
        except Exception as error:
            log.exception("this process cannot hold the models that another does")
            return {"status": 500, "error": str(error)}
        return {"status": 200}

    # What they share

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until no other thread or process changes anything; a process that ends has its turn no longer."""
        with (self._folder / _LOCK).open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _write(self, models: Mapping[str, Loaded]) -> None:
        write_json(self._folder / _STATE, models)


def _urls(models: Mapping[str, Loaded]) -> dict[str, str]:
    return {name: model.url for name, model in models.items()}


def _say(failures: Iterable[Exception]) -> None:
    for failure in failures:
        log.warning("not all processes hold the same models: %s", failure)


def _hear(connection: Connection) -> Exception | None:
    """Return why another process could not do what it was told, if it could not."""
    with connection:
        try:
            if not connection.poll(LONGEST):
                return RuntimeError(f"another process did not answer within {LONGEST} seconds")
            reply = json.loads(connection.recv_bytes())
        except (EOFError, OSError):  # most likely the system has ended it for want of memory
            return OutOfMemory("another process has ended while it loaded or unloaded the model")
    if reply["status"] == 200:
        return None
    if reply["status"] == OutOfMemory.status:
        return OutOfMemory(reply["error"])
    return RuntimeError(f"another process could not do it: {reply['error']}")

"""The models that one process has loaded, by name."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from kennel.errors import ArtifactError
from kennel.serving.errors import NotLoaded, OutOfMemory, Unprocessable
from kennel.serving.memory import give_back_memory, is_out_of_memory
from kennel.serving.service import ModelService
from kennel.serving.user_code import HandlerError

log = logging.getLogger(__name__)

Load = Callable[[str, str], ModelService]  # the URL of a model folder, and what to call it


@dataclass
class _Held:
    service: ModelService
    url: str
    users: int = 0


class Models:
    """Services by name. Loading and unloading is for one thread at a time, asking is for many."""

    def __init__(self, load: Load) -> None:
        self._load_service = load
        self._held: dict[str, _Held] = {}
        self._changed = threading.Condition()

    @contextmanager
    def use(self, name: str) -> Iterator[ModelService]:
        """Keep a model from being unloaded. Raises NotLoaded, and OutOfMemory when it finds no memory to compute in."""
        with self._changed:
            held = self._held.get(name)
            if held is None:
                raise NotLoaded(name)
            held.users += 1
        try:
            yield held.service
        except Exception as error:
            if is_out_of_memory(error):
                log.warning("the model %s finds no memory to compute in: %s", name, error)
                raise OutOfMemory(f"there is no memory for what the model {name} computes; unload another") from error
            raise
        finally:
            with self._changed:
                held.users -= 1
                self._changed.notify_all()

    def hold(self, wanted: Mapping[str, str]) -> None:
        """Have these models loaded, names with their URLs, and no others.

        A model that is not wanted is found no more at once; its memory is free on return, after the requests in work.
        Raises OutOfMemory, or Unprocessable for a folder that cannot be served; models before it are loaded then.
        """
        for name, held in list(self._held.items()):
            if wanted.get(name) != held.url:
                self._unload(name)
        for name, url in wanted.items():
            if name not in self._held:
                self._load(name, url)

    def _load(self, name: str, url: str) -> None:
        began = time.perf_counter()
        try:
            service = self._start(name, url)
        except Exception as error:
            if not is_out_of_memory(error):
                if isinstance(error, ArtifactError | HandlerError):
                    raise Unprocessable(f"the model {name} cannot be loaded: {error}") from error
                raise
            reason = str(error).partition("\n")[0]
        else:
            with self._changed:
                self._held[name] = _Held(service, url)
            log.info("loaded model=%s; url=%s; seconds=%.2f;", name, url, time.perf_counter() - began)
            return
        give_back_memory()
        raise OutOfMemory(f"there is no memory for the model {name}: {reason}")

    def _start(self, name: str, url: str) -> ModelService:
        service = self._load_service(url, name)
        service.start()
        return service

    def _unload(self, name: str) -> None:
        self._take(name).close()
        give_back_memory()
        log.info("unloaded model=%s;", name)

    def _take(self, name: str) -> ModelService:
        """Return a model that nobody finds from now on, when nobody uses it any more."""
        with self._changed:
            held = self._held.pop(name)
            self._changed.wait_for(lambda: held.users == 0)
        return held.service

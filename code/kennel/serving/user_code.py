"""The user's own Python files in a model folder: found, imported, and kept apart from those of other models."""

import importlib
import importlib.util
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import ClassVar

from kennel.container.environment import PROGRAM, SUBMIT_DIRECTORY, variable
from kennel.errors import KennelError

CODE = "code"  # the folder beside the model (contract C2.4)
DEFAULT_PROGRAM = "inference.py"

# user functions run one at a time: they were written for a server that calls them so, and may keep state between them
TURN = threading.Lock()


class HandlerError(KennelError):
    """The user's own code, or what it requires, cannot be loaded."""


def find_program(folder: Path, program: str) -> Path | None:
    """Return the user's file in a model folder, or None when there is none.

    Raises HandlerError when one is asked for by `program` that is not there.
    """
    file = folder / CODE / (program or DEFAULT_PROGRAM)
    if program and not file.suffix:
        file = file.with_suffix(".py")  # the toolkit takes a module's name, too
    if file.is_file():
        return file
    if not program:
        return None
    elsewhere = variable(SUBMIT_DIRECTORY, "")
    hint = (
        f"; {SUBMIT_DIRECTORY} is {elsewhere}, and code that is not in the model's archive is not fetched"
        if elsewhere.startswith("s3://")
        else f"; put it there, or leave {PROGRAM} empty"
    )
    raise HandlerError(f"{PROGRAM} is {program!r}, and there is no {file}{hint}")


class UserCode:
    """The modules of one model folder.

    Two models may each have an `inference.py` that imports its own `model.py`, and packages of different versions:
    what one of them has imported is put aside while another one's code runs. The caller holds `TURN` meanwhile.
    """

    _inside: ClassVar["UserCode | None"] = None

    def __init__(self, folder: Path, program: Path, packages: Path | None) -> None:
        """Take a model folder, the user's file in it, and where its requirements are installed, if it has any."""
        self._program = program.resolve()
        places = [program.parent, folder / CODE, packages]
        self._paths = list(dict.fromkeys(str(place.resolve()) for place in places if place))
        self._modules: dict[str, ModuleType] = {}

    def enter(self) -> None:
        """Let this model's modules be the ones that are imported from now on."""
        if UserCode._inside is self:
            return
        if UserCode._inside:
            UserCode._inside.leave()
        sys.dont_write_bytecode = True  # a model folder is read-only, or should look as it came (contract C1.6)
        sys.path[:0] = self._paths
        sys.modules.update(self._modules)
        importlib.invalidate_caches()
        UserCode._inside = self

    def leave(self) -> None:
        """Put this model's modules aside, if they are not already."""
        if UserCode._inside is not self:
            return
        self._modules = {name: module for name, module in list(sys.modules.items()) if self._owns(module)}
        for name in self._modules:
            del sys.modules[name]
        sys.path[:] = [path for path in sys.path if path not in self._paths]
        UserCode._inside = None

    def load(self) -> ModuleType:
        """Import the user's file, after `enter`. Whatever it raises is raised."""
        name = self._program.stem
        if name in sys.modules:  # a file may be called as a module that the server itself uses
            name = f"kennel_user_{name}"
        spec = importlib.util.spec_from_file_location(name, self._program)
        if spec is None or spec.loader is None:
            raise ImportError(f"{self._program} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    def _owns(self, module: ModuleType) -> bool:
        places = [getattr(module, "__file__", None) or "", *_search_path(module)]
        return any(Path(place).is_relative_to(path) for place in places if place for path in self._paths)


def _search_path(module: ModuleType) -> list[str]:
    try:
        return [str(place) for place in getattr(module, "__path__", None) or []]
    except Exception:  # noqa: BLE001 - some modules answer every question in their own way
        return []

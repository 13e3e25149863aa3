"""torch's compiler, imported only when somebody compiles.

Every optimizer of torch 2.10 imports the compiler (`torch._dynamo`, three seconds of a core) to call two functions that
do nothing outside a compiled program. A stand-in has these two; whatever else is asked of it loads the real package,
which takes its place.
"""

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

_NAME = "torch._dynamo"


class _StandIn(ModuleType):
    """`torch._dynamo` as far as an optimizer that is not compiled needs it."""

    @staticmethod
    def graph_break() -> None:
        """Do nothing: there is no graph."""

    @staticmethod
    def disable(function: Callable[..., Any], recursive: bool = True, **options: Any) -> Callable[..., Any]:
        """Return the function as it is: nobody compiles it."""
        return function

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(_NAME) is self:
            del sys.modules[_NAME]
            vars(torch).pop("_dynamo", None)
        return getattr(importlib.import_module(_NAME), name)


def install() -> None:
    """Put the stand-in where optimizers look for the compiler, unless the compiler is there already."""
    sys.modules.setdefault(_NAME, _StandIn(_NAME))

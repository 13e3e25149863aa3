"""torch's compiler, imported only when somebody compiles.

Every optimizer of torch 2.10 imports the compiler (`torch._dynamo`, three seconds of a core) to call two functions that
do nothing outside a compiled program; torch.distributed calls two more. A stand-in has these; whatever else is asked
of it loads the real package, which takes its place.
"""

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

_NAME = "torch._dynamo"


class _Part:
    """A module of the compiler, of which torch calls one function in passing."""

    def __init__(self, module: str, **known: Callable[[], Any]) -> None:
        self._module = module
        vars(self).update(known)

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(f"{_NAME}.{self._module}"), name)


class _StandIn(ModuleType):
    """`torch._dynamo` as far as training that is not compiled needs it."""

    # DistributedDataParallel asks; the answer is the compiler's own default, and for what is compiled alone
    utils = _Part("utils", get_optimize_ddp_mode=lambda: "ddp_optimizer")
    # init_process_group clears what nobody has filled
    trace_rules = _Part("trace_rules", clear_lru_cache=lambda: None)

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

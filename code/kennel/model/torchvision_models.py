"""torchvision's models, imported in a third of the time.

torchvision 0.25 imports all of torch's compiler (`torch._dynamo` and sympy, 2.8 of 3.3 seconds) for one flag of its
region-of-interest operator, which no classifier uses. A stand-in answers that flag during the import; whoever needs
the compiler later gets the real one.
"""

import sys
from types import ModuleType

import torch

_COMPILER = "torch._dynamo.utils"


def _import_models() -> ModuleType:
    if _COMPILER in sys.modules:
        import torchvision.models  # noqa: PLC0415 - the point of this module

        return torchvision.models  # type: ignore[no-any-return]
    package, utils = ModuleType("torch._dynamo"), ModuleType(_COMPILER)
    utils.is_compile_supported = lambda device_type: False  # type: ignore[attr-defined]
    sys.modules["torch._dynamo"], sys.modules[_COMPILER] = package, utils
    try:
        import torchvision.models  # noqa: PLC0415 - the point of this module
    finally:
        del sys.modules["torch._dynamo"], sys.modules[_COMPILER]
        vars(torch).pop("_dynamo", None)
    return torchvision.models  # type: ignore[no-any-return]


models = _import_models()

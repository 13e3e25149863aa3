"""Which device there is, and which precision it is fast in."""

import logging
import re
import warnings
from functools import cache

import torch

log = logging.getLogger(__name__)

OLDEST_DRIVER = 525  # the first for CUDA 12; all releases of CUDA 12 run on it
_OLD_DRIVER = re.compile(r"driver on your system is too old \(found version (\d+)\)")


@cache
def pick_device() -> torch.device:
    """Return the GPU if one can be used, else the CPU; a GPU that cannot be used is said once (contract C6.3)."""
    with warnings.catch_warnings(record=True) as said:  # torch warns at length of a driver that is too old
        warnings.simplefilter("always")
        count = torch.cuda.device_count()  # asks the driver, without starting CUDA
    if count == 0:
        for warning in said:
            _say_unusable(str(warning.message))
        return torch.device("cpu")
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        _say_unusable(str(error))
        return torch.device("cpu")
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32: what a GPU measures is what a CPU serves
    return torch.device("cuda")


def _say_unusable(reason: str) -> None:
    """Say in one sentence why the GPU is not used; `reason` is torch's."""
    if old := _OLD_DRIVER.search(reason):
        version = int(old.group(1))
        reason = (
            f"its driver is made for CUDA {version // 1000}.{version % 1000 // 10}, and CUDA {torch.version.cuda} "
            f"needs driver {OLDEST_DRIVER} or newer"
        )
    log.warning("the GPU cannot be used, going on on the CPU: %s", reason.splitlines()[0])


def describe_device(device: torch.device) -> str:
    """Return the device's name for the log."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"cpu ({torch.get_num_threads()} threads)"


def fast_precision(device: torch.device) -> torch.dtype:
    """Return the precision in which `device` runs a frozen network fastest.

    bfloat16 only where the hardware has it natively: the T4 emulates it, slowly. float16 on other GPUs, float32 on
    other CPUs.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32

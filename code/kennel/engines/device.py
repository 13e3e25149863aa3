"""Which device there is, and which precision it is fast in."""

import logging
from functools import cache

import torch

log = logging.getLogger(__name__)


@cache
def pick_device() -> torch.device:
    """Return the GPU if one can be used, else the CPU; a GPU that fails to start is said once, and not used."""
    if torch.cuda.device_count() == 0:  # asks the driver, without starting CUDA
        return torch.device("cpu")
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        log.warning("the GPU cannot be used, going on on the CPU: %s", str(error).splitlines()[0])
        return torch.device("cpu")
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32: what a GPU measures is what a CPU serves
    return torch.device("cuda")


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

"""Whether there is memory for one more model, and how to give back that of one less (contract C3.2)."""

import ctypes
import gc
import sys
from contextlib import suppress
from pathlib import Path

from kennel.engines.choice import weights_file
from kennel.errors import ArtifactError
from kennel.machine import available_memory

MB = 2**20
# What a process takes for a model is about so many times its weights, and so much for what it computes: measured 175 to
# 235 MB for ResNet-18, 130 to 210 for MobileNetV2, 280 to 400 for ResNet-50, by torch and by OpenVINO.
TIMES = 3
BESIDES = 200 * MB
SPARE = 256 * MB  # left for requests and their images
_OUT_OF_MEMORY = ("can't allocate memory", "bad_alloc", "out of memory")  # as torch and OpenVINO say it


def needed_memory(folder: Path, engine: str) -> int:
    """Return about how many bytes a process will take for the model in `folder`; what is no model takes its files'."""
    try:
        files = [weights_file(folder, engine)]
    except ArtifactError:
        files = [file for file in folder.rglob("*") if file.is_file()]
    return TIMES * sum(file.stat().st_size for file in files if file.is_file()) + BESIDES


def free_memory() -> int:
    """Return how many bytes there are for models in all processes together."""
    return max(0, available_memory() - SPARE)


def free_gpu_memory() -> int | None:
    """Return how many bytes this process's GPU has for it; None where it has used none yet."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    free: int = torch.cuda.mem_get_info()[0]
    return free + int(torch.cuda.memory_reserved() - torch.cuda.memory_allocated())


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an engine or a user's code has failed for want of memory, on a GPU or not."""
    cause: BaseException | None = error
    while cause is not None:
        # torch's own, without importing it
        if isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError":
            return True
        if isinstance(cause, RuntimeError) and any(words in str(cause) for words in _OUT_OF_MEMORY):
            return True
        cause = cause.__cause__
    return False


def give_back_memory() -> None:
    """Return what no object holds any more to the system, and to other processes on the GPU."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    with suppress(AttributeError):  # a C library without it has other habits
        ctypes.CDLL(None).malloc_trim(0)

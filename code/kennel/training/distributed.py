"""The processes that train one network together, and what they say to each other."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from kennel.errors import KennelError, Stopped

T = TypeVar("T")

# a process that ends is noticed at once, by its closed connections; this is for a host that vanishes. It has to be
# longer than anything that one process does alone while the others wait for it
TIMEOUT = timedelta(hours=1)
_INTERFACES = Path("/sys/class/net")
_LOOPBACK = "lo"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Processes:
    """What one process knows of those that train with it. With a count of 1, nothing is sent anywhere."""

    rank: int = 0  # of this process, 0 to count - 1
    count: int = 1  # on all hosts together
    local_rank: int = 0  # of this process on its host, and the number of its GPU
    local_count: int = 1  # on this host: they share its cores

    @property
    def is_main(self) -> bool:
        """Whether this is the one process that logs metrics and writes files (contract A2.8, B6)."""
        return self.rank == 0

    def from_main(self, value: T) -> T:
        """Return the main process's `value` in every process; all have to call it."""
        if self.count == 1:
            return value
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0)
        received: T = box[0]
        return received

    def by_main(self, work: Callable[[], T]) -> T:
        """Let the main process do `work`, and return or raise in every process what it returns or raises there."""
        result: T | None = None
        problem: KennelError | Stopped | None = None
        if self.is_main:
            try:
                result = work()
            except (KennelError, Stopped) as error:
                problem = error
        result, problem = self.from_main((result, problem))
        if problem is not None:
            raise problem
        assert result is not None
        return result

    def gather(self, value: T) -> list[T]:
        """Return every process's `value`, in the order of ranks; all have to call it."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def any(self, flag: bool) -> bool:
        """Return whether `flag` is true in any process; all have to call it."""
        if self.count == 1:
            return flag
        return bool(self.add_up(torch.tensor(float(flag))).item())

    def add_up(self, tensor: Tensor) -> Tensor:
        """Return the sum of every process's `tensor`, in place; all have to call it."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def join_rows(self, rows: Tensor) -> Tensor:
        """Return every process's `rows` (n, ...), one process after the other, in main memory; all have to call it."""
        counts = self.gather(len(rows))
        parts = [rows if rank == self.rank else rows.new_empty((n, *rows.shape[1:])) for rank, n in enumerate(counts)]
        return torch.cat([self.broadcast(part.contiguous(), rank) for rank, part in enumerate(parts)])

    def broadcast(self, tensor: Tensor, source: int) -> Tensor:
        """Fill `tensor`, in place, with that of the process of rank `source`; all have to call it."""
        if self.count > 1:
            dist.broadcast(tensor, src=source)
        return tensor


ALONE = Processes()


def join_processes(interface: str | None = None) -> Processes:
    """Join the group that torchrun's variables describe, and wait until all of it has come.

    `interface` is the network interface over which hosts reach each other.
    """
    local = Processes(
        rank=int(os.environ["RANK"]),
        count=int(os.environ["WORLD_SIZE"]),
        local_rank=int(os.environ["LOCAL_RANK"]),
        local_count=int(os.environ["LOCAL_WORLD_SIZE"]),
    )
    _choose_interface(_LOOPBACK if local.count == local.local_count else interface)
    dist.init_process_group(_backend(local), timeout=TIMEOUT)
    return local


def leave() -> None:
    """Wait until all processes are done, and leave the group."""
    dist.all_reduce(torch.zeros(1))
    dist.destroy_process_group()


def is_connection_lost(error: BaseException) -> bool:
    """Return whether `error` says no more than that another process is gone."""
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in ("gloo/transport", "[Gloo]", "NCCL"))


def _backend(local: Processes) -> str:
    """Return the backend, and take this process's GPU: what lies in main memory goes through gloo everywhere."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus:
        torch.cuda.set_device(local.local_rank % gpus)
    return "cpu:gloo,cuda:nccl" if gpus >= local.local_count else "gloo"  # NCCL wants a GPU for each process


def _choose_interface(name: str | None) -> None:
    """Tell gloo and NCCL which interface to use; where this machine has none of that name they look for one."""
    if name and (_INTERFACES / name).exists():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
        os.environ["NCCL_SOCKET_IFNAME"] = name
        return
    os.environ.pop("NCCL_SOCKET_IFNAME", None)  # the toolkit sets it unseen
    found = sorted(entry.name for entry in _INTERFACES.iterdir()) if _INTERFACES.is_dir() else []
    log.warning("there is no network interface %s here (there are %s); one of them is taken", name, ", ".join(found))

"""The processes that train one network together, and what they say to each other."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from kennel.errors import KennelError, Stopped

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """What one process knows of those that train with it. With a count of 1, nothing is sent anywhere."""

    rank: int = 0  # of this process, 0 to count - 1
    count: int = 1  # on all hosts together
    local_rank: int = 0  # of this process on its host, and the number of its GPU

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
        found = torch.tensor(float(flag), device=self._device)
        return bool(self.add_up(found).item())

    def add_up(self, tensor: Tensor) -> Tensor:
        """Return the sum of every process's `tensor`, in place; all have to call it."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    @property
    def _device(self) -> torch.device:
        """Where tensors lie that are sent: on the GPU for NCCL."""
        return torch.device("cuda", self.local_rank) if dist.get_backend() == "nccl" else torch.device("cpu")

    def join_rows(self, rows: Tensor) -> Tensor:
        """Return every process's `rows` (n, ...), one process after the other, on the CPU; all have to call it."""
        if self.count == 1:
            return rows.cpu()
        joined = []
        for rank, count in enumerate(self.gather(len(rows))):
            part = rows if rank == self.rank else rows.new_empty((count, *rows.shape[1:]))
            part = part.to(self._device)
            dist.broadcast(part, src=rank)
            joined.append(part.cpu())
        return torch.cat(joined)


ALONE = Processes()

"""The processes that train one network together, and what they say to each other."""

from dataclasses import dataclass
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor

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

    def gather(self, value: T) -> list[T]:
        """Return every process's `value`, in the order of ranks; all have to call it."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def add_up(self, tensor: Tensor) -> Tensor:
        """Return the sum of every process's `tensor`, in place; all have to call it."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor


ALONE = Processes()

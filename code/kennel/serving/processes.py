"""How many processes serve side by side, and which GPU each of them has."""

from collections.abc import Collection

from kennel.container.environment import SERVER_WORKERS, first_number
from kennel.machine import see_only, visible_gpus

# the batcher keeps all cores of one process busy, and what waits in one queue makes larger batches than in several;
# each further process holds a further copy of what an engine makes of the weights
ON_CPU = 1


def worker_processes() -> int:
    """Return how many processes serve: as many as the owner of the endpoint says, else one a GPU, else `ON_CPU`.

    Raises ContractError when what the owner says is no number from 1 (contract C2.1, C2.10).
    """
    return first_number(SERVER_WORKERS, len(visible_gpus()) or ON_CPU, least=1)


def free_place(taken: Collection[int]) -> int:
    """Return the first place, from 0, that no process has; one that is replaced leaves its place to the next."""
    return next(place for place in range(len(taken) + 1) if place not in taken)


def take_gpu(place: int) -> None:
    """Let the process in `place` see one GPU alone, where there are any; with more processes than GPUs some share."""
    if gpus := visible_gpus():
        see_only(gpus[place % len(gpus)])

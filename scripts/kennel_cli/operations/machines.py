"""What an instance type has: SageMaker adds the use of all cores up, and that of all GPUs."""

import re

_SIZED = re.compile(r"ml\.(?P<family>[a-z]+)\d[a-z0-9-]*\.(?P<size>medium|large|(?P<times>\d*)xlarge)")
# sizes with more than one GPU; all others have one
_OTHERS = {
    "ml.p2.8xlarge": 8,
    "ml.p2.16xlarge": 16,
    "ml.g7e.12xlarge": 2,
    "ml.p6e-gb200.36xlarge": 4,
}
_GPUS = {"g": {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8}, "p": {"8xlarge": 4, "16xlarge": 8}}
_ALL = 8  # GPUs of the largest machines of the P family


def cores(instance: str) -> int:
    """Return the number of virtual CPUs of an instance type such as ml.m5.xlarge, or 0 where it does not tell."""
    found = _SIZED.fullmatch(instance)
    if not found or found["size"] == "medium":  # one or two, by the family
        return 0
    return 2 if found["size"] == "large" else 4 * int(found["times"] or 1)


def gpus(instance: str) -> int:
    """Return the number of NVIDIA GPUs of an instance type."""
    found = _SIZED.fullmatch(instance)
    if instance in _OTHERS:
        return _OTHERS[instance]
    if not found or found["family"] not in _GPUS:
        return 0
    least = _ALL if found["family"] == "p" and int(found["times"] or 1) >= 24 else 1
    return _GPUS[found["family"]].get(found["size"], least)

"""Random numbers that depend on where training is, not on how it got there: a resumed job draws what it would have."""

import hashlib

import torch


def seed_for(*where: int | str) -> int:
    """Return a seed of 63 bits for a place, such as `(seed, "step", 12)`; equal places give equal seeds."""
    text = "/".join(map(str, where))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def generator_for(*where: int | str) -> torch.Generator:
    """Return a generator on the CPU that begins at `seed_for(*where)`."""
    return torch.Generator().manual_seed(seed_for(*where))

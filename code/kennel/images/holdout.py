"""Hold images of `train` out for validation, where a data set has no split for it."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from kennel.images.listing import ImageRecord

HELD_OUT = 0.1  # share of each class


def hold_out(records: Sequence[ImageRecord], seed: int) -> tuple[tuple[ImageRecord, ...], tuple[ImageRecord, ...]]:
    """Return the records that are kept for training, and those held out, both in their order.

    Of each class with two images or more at least one is held out. Which ones depends on `seed` and on their names
    alone, not on the order of `records`.
    """
    classes: dict[int, list[ImageRecord]] = defaultdict(list)
    for record in records:
        classes[record.label].append(record)
    held: set[str] = set()
    for members in classes.values():
        if len(members) > 1:
            members.sort(key=lambda record: hashlib.sha256(f"{seed}/{record.name}".encode()).digest())
            held.update(record.name for record in members[: max(1, round(HELD_OUT * len(members)))])
    kept = tuple(record for record in records if record.name not in held)
    return kept, tuple(record for record in records if record.name in held)

import random
from collections import Counter
from pathlib import Path

from kennel.images.holdout import HELD_OUT, hold_out
from kennel.images.listing import ImageRecord


def records(*counts):
    return tuple(
        ImageRecord(Path("/"), f"class{label}/{number}.jpg", label, 1, 1)
        for label, count in enumerate(counts)
        for number in range(count)
    )


def test_a_tenth_of_each_class_is_held_out_and_at_least_one_image():
    everything = records(100, 40, 5, 2)
    kept, held = hold_out(everything, seed=0)
    assert HELD_OUT == 0.1
    assert Counter(record.label for record in held) == {0: 10, 1: 4, 2: 1, 3: 1}
    assert sorted((*kept, *held), key=everything.index) == list(everything)


def test_a_single_image_stays_in_train():
    kept, held = hold_out(records(1, 1), seed=0)
    assert (len(kept), held) == (2, ())


def test_the_same_seed_holds_out_the_same_images_in_whatever_order_they_are_listed():
    everything = list(records(50, 50))
    first = hold_out(everything, seed=3)[1]
    random.Random(0).shuffle(everything)
    assert set(hold_out(everything, seed=3)[1]) == set(first)
    assert set(hold_out(everything, seed=4)[1]) != set(first)

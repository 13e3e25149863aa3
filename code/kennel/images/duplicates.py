"""Find photos that are in a data set more than once, by the content of their files."""

from collections.abc import Mapping
from dataclasses import dataclass

from kennel.images.pack import PackedImages

_SHOWN = 3  # pairs that a sentence names

Pair = tuple[str, str]  # `test/red/1.jpg`, `train/red/7.jpg`


@dataclass(frozen=True)
class Duplicates:
    """Photos that make a data set worth less than it looks."""

    leaks: Mapping[Pair, tuple[Pair, ...]]  # of two splits: each image of the first, with its equal in the second
    contradictions: Mapping[str, tuple[Pair, ...]]  # of a split: equal images in two different classes

    def sentences(self) -> list[str]:
        """Return a warning for each kind that was found."""
        leaks = [
            f"leakage: {len(pairs)} images of {split} are also in {other}, for example {_some(pairs)}"
            for (split, other), pairs in self.leaks.items()
        ]
        return leaks + [
            f"contradiction: {len(pairs)} images of {split} are also in another class, for example {_some(pairs)}"
            for split, pairs in self.contradictions.items()
        ]


def find_duplicates(splits: Mapping[str, PackedImages], folders: Mapping[str, str]) -> Duplicates:
    """Compare the images of all splits with each other; what is equal within one class of one split is no harm.

    `folders` says in which split's folder the images of each lie: those that are held out lie in another's.
    """
    found: dict[str, dict[bytes, tuple[str, int]]] = {}  # split to hash to the first image's name and label
    leaks: dict[Pair, tuple[Pair, ...]] = {}
    contradictions: dict[str, tuple[Pair, ...]] = {}
    for split, images in splits.items():
        hashes = [row.tobytes() for row in images.hashes]
        names = [f"{folders[split]}/{name}" for name in images.names]
        for other, theirs in found.items():
            equal = tuple((name, theirs[key][0]) for name, key in zip(names, hashes, strict=True) if key in theirs)
            if equal:
                leaks[split, other] = equal
        own: dict[bytes, tuple[str, int]] = {}
        differing: list[Pair] = []
        for name, key, label in zip(names, hashes, images.labels.tolist(), strict=True):
            first, first_label = own.setdefault(key, (name, label))
            if label != first_label:
                differing.append((name, first))
        if differing:
            contradictions[split] = tuple(differing)
        found[split] = own
    return Duplicates(leaks, contradictions)


def _some(pairs: tuple[Pair, ...]) -> str:
    """Return the first pairs in words."""
    return ", ".join(f"{image} = {equal}" for image, equal in pairs[:_SHOWN])

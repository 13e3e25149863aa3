"""What rules want of a training that runs: which numbers of which tensors, so that nothing else is measured."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from kennel.debugger.measures import Comparison, Measure, Statistic
from kennel.debugger.series import DEFAULT_COLLECTIONS, Collection, Mode


@dataclass(frozen=True)
class Need:
    """Some tensors, of collections or found by an expression, and what a rule asks of them.

    With neither, it is about every tensor that is looked at for any rule, the weights, and their gradients.
    """

    collections: tuple[str, ...] = ()
    regex: str | None = None
    statistics: tuple[Statistic, ...] = ()
    measures: tuple[Measure, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    whole: bool = False  # the tensor itself; only labels and predictions can be had so
    mode: Mode | None = None  # of steps; all modes unless given
    steps: int | None = None  # from the first one; all unless given

    @property
    def names_tensors(self) -> bool:
        """Whether it says which tensors it is about."""
        return bool(self.collections or self.regex)

    def holds(self, name: str) -> bool:
        """Return whether a tensor is among those that it names."""
        if self.regex and re.search(self.regex, name):
            return True
        return any(DEFAULT_COLLECTIONS.get(known, Collection()).holds(name) for known in self.collections)


@runtime_checkable
class Needy(Protocol):
    """A rule that says beforehand what it will ask for."""

    def needs(self) -> Iterator[Need]:
        """Yield what has to be measured while the training runs."""
        ...


def needs_of(rules: Iterable[object]) -> tuple[Need, ...]:
    """Return what all rules want together."""
    return tuple(dict.fromkeys(need for rule in rules if isinstance(rule, Needy) for need in rule.needs()))

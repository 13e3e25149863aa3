"""Rules that find nothing: AWS has them for the figures that they gather, which stand in every profile."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from kennel.errors import NothingToJudge
from kennel.judging.rule import Finding
from kennel.profiler.profile import Profile


@dataclass(frozen=True)
class OverallSystemUsage:
    """Percentiles of cores, memory, IO wait and GPUs, under `usage` in `profiler.json` (contract D4)."""

    name: ClassVar[str] = "OverallSystemUsage"
    fires: ClassVar[str] = "nothing: it gathers percentiles of how busy the machine is"
    advice: ClassVar[str] = ""

    def check(self, profile: Profile) -> Iterator[Finding]:
        """Yield nothing. Raises NothingToJudge without samples."""
        if not profile.samples:
            raise NothingToJudge("the machine was not sampled")
        return iter(())


@dataclass(frozen=True)
class OverallFrameworkMetrics:
    """What the parts of a job and of its steps took, under `parts` and `stages` in `profiler.json` (contract D4)."""

    name: ClassVar[str] = "OverallFrameworkMetrics"
    fires: ClassVar[str] = "nothing: it gathers what the parts of a job and of its steps take"
    advice: ClassVar[str] = ""

    def check(self, profile: Profile) -> Iterator[Finding]:
        """Yield nothing. Raises NothingToJudge without steps."""
        if not profile.stages:
            raise NothingToJudge("there was no training step")
        return iter(())

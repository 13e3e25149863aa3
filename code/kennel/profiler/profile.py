"""All that was measured of a job: what the rules judge, and what its report shows."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kennel.errors import NothingToJudge
from kennel.hyperparameters import Hyperparameters
from kennel.profiler.ledger import Stage
from kennel.profiler.samples import Sample

PATIENCE = "samples at the start that are not judged; a tenth of all at most, so that short jobs are judged too"
FEWEST = 20  # samples, or steps, of which more than one in ten may be chance


@dataclass(frozen=True)
class Profile:
    """What a job did with its time, and its machine meanwhile."""

    hyperparameters: Hyperparameters
    cores: int  # that the job may use
    decoders: int  # threads that decoded its images
    samples: tuple[Sample, ...] = ()
    interval: float = 0.5  # seconds between two samples, as they were asked for
    every: int = 1  # one in so many was kept
    gpus: tuple[str, ...] = ()  # the names of those that were sampled
    stages: tuple[Stage, ...] = ()
    parts: Mapping[str, float] = field(default_factory=dict)  # seconds of the whole job
    first_step: float | None = None  # seconds until it was done

    @property
    def seconds(self) -> float:
        """What the whole job took."""
        return sum(self.parts.values())

    @property
    def steps(self) -> int:
        """How many training steps there were, in all stages."""
        return sum(stage.steps for stage in self.stages)

    @property
    def main_stage(self) -> Stage:
        """The stage whose steps took longest. Raises NothingToJudge when there was no step."""
        if not self.stages:
            raise NothingToJudge("there was no training step")
        return max(self.stages, key=lambda stage: stage.seconds)

    def judged(self, patience: int) -> tuple[Sample, ...]:
        """Return the samples without the first ones: `patience` of them, but a tenth at most.

        Raises NothingToJudge when too few are left.
        """
        skipped = min(patience // self.every, len(self.samples) // 10)
        left = self.samples[skipped:]
        if len(left) < FEWEST:
            seconds = len(self.samples) * self.interval * self.every
            raise NothingToJudge(
                f"{len(self.samples)} samples in {seconds:.0f} seconds are too few: {FEWEST} and more can be judged"
            )
        return left

    def of_gpus(self, patience: int) -> tuple[Sample, ...]:
        """Return the samples of a job with GPUs, as `judged`. Raises NothingToJudge where there is none."""
        if not self.gpus:
            raise NothingToJudge("there is no GPU")
        sampled = tuple(sample for sample in self.judged(patience) if len(sample.gpus) == len(self.gpus))
        if len(sampled) < FEWEST:
            raise NothingToJudge(f"the GPUs were sampled {len(sampled)} times only, then their driver failed")
        return sampled

    def points(self, window: int) -> int:
        """Return how many of the samples that were kept are as long as `window` that were taken."""
        return max(1, window // self.every)

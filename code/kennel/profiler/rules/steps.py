"""Rules for the time that steps take, and for what comes before the first."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from kennel.errors import NothingToJudge
from kennel.judging.rule import INFINITY, Finding, parameter
from kennel.profiler.ledger import SlowStep, Stage
from kennel.profiler.profile import FEWEST, Profile
from kennel.profiler.rules.advice import WORTH, on_decoding, on_waiting, spoken, times_shorter

_MATTER = 0.05  # share of a stage's time that outliers take before they are worth a word


@dataclass(frozen=True)
class MaxInitializationTime:
    """It takes too long until the first step is done (contract D4)."""

    name: ClassVar[str] = "MaxInitializationTime"
    fires: ClassVar[str] = "the first step is done after more than `threshold` minutes"
    advice: ClassVar[str] = "keep decoded images and features between jobs"
    threshold: float = parameter(20.0, "minutes", low=0.0, high=INFINITY)

    def check(self, profile: Profile) -> Iterator[Finding]:
        """Yield it once. Raises NothingToJudge when there was no step."""
        if profile.first_step is None:
            raise NothingToJudge("there was no training step")
        minutes = profile.first_step / 60
        if minutes <= self.threshold:
            return
        parts = {part: profile.parts.get(part, 0.0) for part in ("start-up", "decoding", "features")}
        longest = max(parts, key=lambda part: parts[part])
        advice = on_decoding(profile)
        if longest != "decoding":
            share = parts[longest] / profile.first_step
            advice = (
                f"a KENNEL_CACHE that jobs on the same images share: the {longest} took {parts[longest] / 60:.1f} min, "
                f"and without it the wait would be {times_shorter(share)}"
            )
        text = f"the first step was done after {minutes:.1f} minutes, of which {longest} took {parts[longest] / 60:.1f}"
        yield Finding(self.name, 1, text, {"minutes": minutes, **parts}, advice)


@dataclass(frozen=True)
class StepOutlier:
    """Some steps take far longer than the others (contract D4).

    A step is an outlier that is more than `stddev` standard deviations longer than the mean, of the steps that train
    the same thing and were not slowed down by torch's profiler; the first three are not judged. In a stage of fewer
    than a hundred times `n_outliers` steps, one in a hundred is passed over instead. Outliers that cost less than a
    second, or a twentieth of the stage's time, are no issue.
    """

    name: ClassVar[str] = "StepOutlier"
    fires: ClassVar[str] = "more than `n_outliers` steps are over `stddev` standard deviations longer than the mean"
    advice: ClassVar[str] = "look at what else the machine did at that moment"
    stddev: float = parameter(3.0, "standard deviations", low=0.0, high=INFINITY)
    mode: str | None = parameter(None, "the steps to judge; None is all that there are", choices=("TRAIN", "EVAL"))
    n_outliers: int = parameter(10, "outliers that are passed over", low=0, high=2**31)

    def check(self, profile: Profile) -> Iterator[Finding]:
        """Yield the stages with outliers. Raises NothingToJudge with few steps."""
        if self.mode == "EVAL":
            raise NothingToJudge("the steps of evaluations are measured together, not one by one")
        judged = [stage for stage in profile.stages if stage.judged >= FEWEST]
        if not judged:
            steps = sum(stage.judged for stage in profile.stages)
            raise NothingToJudge(f"{steps} steps are too few: {FEWEST} and more of a stage can be judged")
        for stage in judged:
            yield from self._outliers(stage)

    def _outliers(self, stage: Stage) -> Iterator[Finding]:
        limit = stage.mean + self.stddev * stage.deviation
        count, cost = stage.slower_than(limit)
        known = [slow for slow in stage.slowest if slow.seconds > limit]
        if count <= min(self.n_outliers, stage.judged // 100) or cost < max(WORTH, _MATTER * stage.seconds):
            return
        longest = Counter(_longest_part(slow, stage) for slow in known)
        part, times = longest.most_common(1)[0]
        first = known[0]
        yield Finding(
            self.name,
            first.step,
            f"{count} of {stage.judged} steps of the {stage.name} took longer than {1000 * limit:.0f} ms, where the "
            f"middle one took {1000 * stage.median:.0f} ms; the slowest, step {first.step}, took {first.seconds:.2f} s",
            {
                "stage": stage.name,
                "outliers": count,
                "of": stage.judged,
                "limit": limit,
                "seconds": cost,
                "steps": [slow.step for slow in known],
            },
            f"look at {spoken(part)}, which made {times} of {len(known)} of them long, and at what else the machine "
            f"did {first.at:.0f} s into the job; without them the steps of the {stage.name} would be "
            f"{times_shorter(cost / stage.seconds)} together",
        )


def _longest_part(slow: SlowStep, stage: Stage) -> str:
    """Return the part that a slow step spent more time on than others do."""
    usual = {part: seconds / max(1, stage.steps) for part, seconds in stage.parts.items()}
    return max(slow.parts, key=lambda part: slow.parts[part] - usual.get(part, 0.0))


@dataclass(frozen=True)
class Dataloader:
    """Too few or too many threads decode images, or steps wait for their batches (contract D4).

    AWS counts the processes of a data loader. Kennel has none: `num_workers` threads decode all images once, before the
    first step, and during the steps one thread reads ahead. So the threads are judged by the cores they had, where
    decoding took a second or more, and the steps by what they waited.
    """

    name: ClassVar[str] = "Dataloader"
    fires: ClassVar[str] = (
        "the threads that decode are not within `min_threshold` and `max_threshold` per cent of the cores, or steps "
        "wait for data over `wait_threshold` per cent of their time"
    )
    advice: ClassVar[str] = "num_workers=0, which is one thread a core"
    min_threshold: float = parameter(70.0, "per cent of the cores", low=0.0, high=INFINITY)
    max_threshold: float = parameter(200.0, "per cent of the cores", low=0.0, high=INFINITY)
    wait_threshold: float = parameter(20.0, "per cent of a step (not AWS's)", low=0.0, high=100.0)

    def check(self, profile: Profile) -> Iterator[Finding]:
        """Yield what is wrong with either. Raises NothingToJudge when there was neither."""
        decoding = profile.parts.get("decoding", 0.0)
        stages = [stage for stage in profile.stages if stage.steps >= FEWEST]
        if decoding < WORTH and not stages:
            raise NothingToJudge(f"decoding took {decoding:.1f} s, and there were fewer than {FEWEST} steps")
        percent = 100 * profile.decoders / profile.cores
        if decoding >= WORTH and not self.min_threshold <= percent <= self.max_threshold:
            bound = f"below {self.min_threshold:g}" if percent < self.min_threshold else f"above {self.max_threshold:g}"
            yield Finding(
                self.name,
                0,
                f"images were decoded by {profile.decoders} threads on {profile.cores} cores: {percent:.0f} %, {bound}",
                {"threads": profile.decoders, "cores": profile.cores, "percent": percent, "seconds": decoding},
                on_decoding(profile),
            )
        for stage in stages:
            waited, share = stage.parts.get("data", 0.0), stage.share("data")
            if 100 * share > self.wait_threshold and waited >= WORTH:
                yield Finding(
                    self.name,
                    stage.steps,
                    f"waiting for data {100 * share:.0f} % of a step of the {stage.name}: {waited:.1f} of "
                    f"{stage.seconds:.1f} s",
                    {"stage": stage.name, "share": share, "seconds": waited},
                    on_waiting(profile, stage),
                )

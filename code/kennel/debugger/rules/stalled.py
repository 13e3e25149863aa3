"""The rule for a training that hangs."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from kennel.debugger.series import Measurements
from kennel.errors import NothingToJudge
from kennel.judging.rule import INFINITY, Curve, Finding, parameter


@dataclass(frozen=True)
class StalledTrainingRule:
    """No new tensor for `threshold` seconds (contract D3): between two saved steps, or since the last one.

    The time since the last step counts for a training that did not say that it ended: it hangs, or was killed. The two
    parameters about stopping jobs are taken and do nothing: a training is stopped by whoever runs the rules.
    """

    name: ClassVar[str] = "stalled_training_rule"
    fires: ClassVar[str] = "no tensor was saved for `threshold` seconds"
    advice: ClassVar[str] = "see the log around that time; slow storage, a full disk, a worker that waits for another"
    threshold: float = parameter(1800.0, "seconds without a new tensor that are an issue", low=0.0, high=INFINITY)
    stop_training_on_fire: bool = parameter(False, "taken for AWS's sake")
    training_job_name_prefix: str | None = parameter(None, "taken for AWS's sake")

    def check(self, measured: Measurements) -> Iterator[Finding]:
        """Yield the steps after which nothing came. Raises NothingToJudge when no step has a time."""
        moments = list(measured.moments)
        if not moments:
            raise NothingToJudge("no step has a time")
        start = moments[0][1]
        curve = Curve("steps", "seconds", tuple((step, at - start) for step, at in moments))
        for (step, before), (_, after) in itertools.pairwise(moments):
            if after - before > self.threshold:
                text = f"nothing was saved for {after - before:,.0f} seconds after step {step}"
                yield Finding(self.name, step, text, {"seconds": after - before}, self.advice, (curve,))
        step, last = moments[-1]
        if not measured.ended and measured.now - last > self.threshold:
            text = (
                f"nothing was saved for {measured.now - last:,.0f} seconds, since step {step}, and no end was marked: "
                "the training hangs or was killed"
            )
            yield Finding(self.name, step, text, {"seconds": measured.now - last}, self.advice, (curve,))

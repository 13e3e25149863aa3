"""The rule that sets two trainings beside each other."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kennel.debugger.measures import Unchanged
from kennel.debugger.rules.by_step import findings_by_step
from kennel.debugger.series import Measurements, Mode, Series
from kennel.errors import NothingToJudge
from kennel.judging.rule import INFINITY, Finding, names, parameter


@dataclass(frozen=True)
class SimilarAcrossRuns:
    """Tensors of another training that differ at the same step (contract D3): trainings meant to be alike are not.

    AWS's page does not say what alike is: numpy.allclose, with the tolerances of unchanged_tensor.
    """

    name: ClassVar[str] = "similar_across_runs"
    fires: ClassVar[str] = "a tensor differs from that of another training at the same step"
    advice: ClassVar[str] = (
        "the same seed, data, packages and hardware; the first step at which they differ tells where"
    )
    other_trials: str | None = parameter(None, "folders of the other trainings, with commas between; or --other")
    collection_names: str | None = parameter(None, "collections to look at, with commas between; all unless given")
    tensor_regex: str | None = parameter(None, "expression that finds the tensors to look at; all unless given")
    rtol: float = parameter(1e-5, "relative tolerance (not AWS's)", low=0.0, high=INFINITY)
    atol: float = parameter(1e-8, "absolute tolerance (not AWS's)", low=0.0, high=INFINITY)

    def check(self, measured: Measurements) -> Iterator[Finding]:
        """Yield the steps with a difference. Raises NothingToJudge without another training, or anything in common."""
        others = {name: measured.others[name] for name in names(self.other_trials) if name in measured.others}
        others = others or dict(measured.others)
        if not others:
            raise NothingToJudge("it wants another training: --other DIR")
        checked = measured.select(collections=names(self.collection_names), regex=self.tensor_regex)
        alike = Unchanged(self.rtol, self.atol, equal_nan=True)
        for folder, other in others.items():
            known = {(series.name, series.mode): series for series in other.series}
            common = [one for one in checked if (one.name, one.mode) in known]
            if not any(known[one.name, one.mode].global_steps.keys() & one.global_steps.keys() for one in common):
                raise NothingToJudge(f"{folder} has no tensor of the same name, mode and step")

            def differs(series: Series, step: int, known: dict[tuple[str, Mode], Series] = known) -> float | None:
                twin = known[series.name, series.mode]
                if step not in twin.global_steps:
                    return None
                ours, theirs = series.tensor(step), twin.tensor(step)
                if alike.compare(theirs, ours):
                    return 0.0
                return float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else INFINITY

            yield from findings_by_step(
                self,
                common,
                differs,
                wrong=bool,
                worst=float,
                quantity="the largest difference",
                verdict=f"from the same tensor in {folder}",
            )

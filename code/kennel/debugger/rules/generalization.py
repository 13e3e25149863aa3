"""Rules that set the loss on training data against the loss on data that the training does not see."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

from kennel.debugger.rules.losses import Point, mean_points, passes
from kennel.debugger.series import Measurements, Mode
from kennel.errors import NothingToJudge
from kennel.judging.rule import INFINITY, Curve, Finding, parameter


@dataclass(frozen=True)
class Evaluation:
    """The losses of one evaluation, and those of the training steps since the one before; means."""

    step: int  # training steps so far
    train: float
    valid: float


def _losses(measured: Measurements, regex: str | None, mode: Mode) -> list[Point]:
    collections = () if regex else ("losses",)
    found = mean_points(measured.select(collections=collections, regex=regex, mode=mode))
    if not found:
        raise NothingToJudge(
            f"no losses of mode {mode} were saved; a training says its mode with hook.set_mode(modes.{mode})"
        )
    return found


def evaluations(measured: Measurements, regex: str | None = None) -> list[Evaluation]:
    """Return the evaluations after the first training step. Raises NothingToJudge without losses of both modes."""
    train, valid = _losses(measured, regex, Mode.TRAIN), _losses(measured, regex, Mode.EVAL)
    saved = [point.at for point in train]
    found: list[Evaluation] = []
    since = -1
    for one in passes(valid):
        until = one[0].at
        end = bisect_left(saved, until)
        if end:
            start = min(bisect_right(saved, since), end - 1)  # training losses may be rarer than evaluations
            mean = fmean(point.value for point in train[start:end])
            found.append(Evaluation(train[end - 1].step, mean, fmean(point.value for point in one)))
        since = one[-1].at
    return found


def _curves(found: Sequence[Evaluation]) -> tuple[Curve, Curve]:
    return (
        Curve("training", "loss", tuple((one.step, one.train) for one in found)),
        Curve("validation", "loss", tuple((one.step, one.valid) for one in found)),
    )


@dataclass(frozen=True)
class Overfit:
    """(validation loss − training loss) / training loss > `ratio_threshold`, `patience` times in a row (contract D3).

    A "step" of AWS's page is an evaluation here: its mean loss is set against the mean over the training steps since
    the evaluation before.
    """

    name: ClassVar[str] = "overfit"
    fires: ClassVar[str] = "validation loss is above training loss by more than `ratio_threshold` of it"
    advice: ClassVar[str] = (
        "more images, stronger augment, dropout or weight_decay, fewer epochs, or early_stopping_patience"
    )
    tensor_regex: str | None = parameter(None, "expression that finds the losses; the collection `losses` unless given")
    start_step: int = parameter(0, "training step before which nothing is judged", low=0, high=2**31)
    patience: int = parameter(1, "evaluations in a row that it takes", low=1, high=2**31)
    ratio_threshold: float = parameter(0.1, "largest ratio that is no issue", low=0.0, high=INFINITY)

    def check(self, measured: Measurements) -> Iterator[Finding]:
        """Yield the evaluations that show overfitting. Raises NothingToJudge without losses of both modes."""
        found = [one for one in evaluations(measured, self.tensor_regex) if one.step >= self.start_step]
        if not found:
            raise NothingToJudge(f"there is no evaluation after training step {self.start_step}")
        curves, in_a_row = _curves(found), 0
        for one in found:
            ratio = (one.valid - one.train) / one.train if one.train > 0 else INFINITY if one.valid > 0 else 0.0
            in_a_row = in_a_row + 1 if ratio > self.ratio_threshold else 0
            if in_a_row >= self.patience:
                yield Finding(
                    self.name,
                    one.step,
                    f"validation loss {one.valid:.4g} is {100 * ratio:.3g} % above training loss {one.train:.4g}",
                    {"train_loss": one.train, "valid_loss": one.valid, "ratio": ratio},
                    self.advice,
                    curves,
                )


@dataclass(frozen=True)
class Overtraining:
    """Training goes on though a loss has not improved by `delta` for so many steps (contract D3).

    AWS's page does not say whether it takes both losses or one: one is enough, as a validation loss that stands still
    while the training loss falls is just what the rule is for. Nor does it say what a step is: an evaluation here, with
    the mean loss of the training steps since the one before, because single batches go up and down by more than
    `delta`. `unit=step` counts saved steps, as the page has it.
    """

    name: ClassVar[str] = "overtraining"
    fires: ClassVar[str] = (
        "training loss has not improved for `patience_train`, or validation loss for `patience_validation`"
    )
    advice: ClassVar[str] = "fewer epochs, or early_stopping_patience; the best epoch's model is kept in any case"
    patience_train: int = parameter(
        5, "evaluations without a better training loss that are an issue", low=1, high=2**31
    )
    patience_validation: int = parameter(
        10, "evaluations without a better validation loss that are an issue", low=1, high=2**31
    )
    delta: float = parameter(0.01, "by how much a loss must be lower to be better", low=0.0, high=INFINITY)
    unit: str = parameter("pass", "what is counted: evaluations, or saved steps (not AWS's)", choices=("pass", "step"))

    def check(self, measured: Measurements) -> Iterator[Finding]:
        """Yield the steps of training for nothing. Raises NothingToJudge without losses of the modes that it counts."""
        for what, points, patience in self._judged(measured):
            curve = Curve(what, "loss", tuple(points))
            best, since = INFINITY, 0
            for index, (step, loss) in enumerate(points):
                if loss < best - self.delta:
                    best, since = loss, index
                elif index - since >= patience:
                    yield Finding(
                        self.name,
                        step,
                        f"{what} loss {loss:.4g} is not {self.delta:g} better than the {best:.4g} of step "
                        f"{points[since][0]}, {index - since} {self._counted} before",
                        {"loss": loss, "best": best, "since": points[since][0], "waited": index - since},
                        self.advice,
                        (curve,),
                    )

    @property
    def _counted(self) -> str:
        return "evaluations" if self.unit == "pass" else "saved steps"

    def _judged(self, measured: Measurements) -> list[tuple[str, list[tuple[int, float]], int]]:
        patience = self.patience_train, self.patience_validation
        if self.unit == "pass":
            found = evaluations(measured)
            return [
                ("training", _numbers((one.step, one.train) for one in found), patience[0]),
                ("validation", _numbers((one.step, one.valid) for one in found), patience[1]),
            ]
        train = _losses(measured, None, measured.training_mode())
        valid = _losses(measured, None, Mode.EVAL) if Mode.EVAL in measured.modes() else []
        return [
            ("training", _numbers((point.step, point.value) for point in train), patience[0]),
            ("validation", _numbers((point.step, point.value) for point in valid), patience[1]),
        ]


def _numbers(points: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return the points without those that are no number, of which other rules tell."""
    return [(step, loss) for step, loss in points if math.isfinite(loss)]

"""The loss of every training step and of every evaluation."""

import math
from dataclasses import dataclass

from torch import Tensor

from kennel.debugger.measures import Summary
from kennel.debugger.naming import LOSS
from kennel.debugger.series import Mode, RecordedSeries

MOST_LOSSES = 2000  # of training steps; of more, the older ones are averaged in pairs
_KEPT = 10  # of the first, by which the initialization is judged


@dataclass
class _Loss:
    step: int  # of its mode
    at: int  # step over all modes
    value: float
    images: int


class RecordedLosses:
    """Losses by mode; those that are still on the device wait until somebody settles them."""

    def __init__(self) -> None:
        self._known: dict[Mode, list[_Loss]] = {Mode.TRAIN: [], Mode.EVAL: []}
        self._waiting: list[tuple[Mode, _Loss, Tensor]] = []
        self._complete = 0  # evaluations, of which one loss each is known
        self._evaluating = False
        self.evaluation_began = 0  # at this step of its mode

    def add(self, mode: Mode, step: int, at: int, loss: Tensor, images: int) -> None:
        """Take the mean loss of a batch, a scalar on the device."""
        if mode is Mode.EVAL and not self._evaluating:
            self._evaluating, self.evaluation_began = True, step
        if images:  # else it is the mean of nothing: this process had no share of the batch
            self._waiting.append((mode, _Loss(step, at, math.nan, images), loss.detach()))

    def waiting(self) -> list[Tensor]:
        """Return the losses on the device."""
        return [loss for *_, loss in self._waiting]

    def settle(self, values: list[float]) -> None:
        """Take the numbers of those that were waiting."""
        for (mode, loss, _), value in zip(self._waiting, values, strict=True):
            loss.value = value
            self._known[mode].append(loss)
        self._waiting.clear()
        train = self._known[Mode.TRAIN]
        if len(train) > MOST_LOSSES:
            half = len(train) // 2
            self._known[Mode.TRAIN] = [*train[:_KEPT], *_averaged(train[_KEPT:half]), *train[half:]]

    def end_evaluation(self) -> None:
        """Make one loss of those of an evaluation: nothing is learned within one."""
        known = self._known[Mode.EVAL]
        batches = known[self._complete :]
        if batches:
            known[self._complete :] = [_mean(batches)]
        self._complete, self._evaluating = len(known), False

    def series(self) -> list[RecordedSeries]:
        """Return the losses of each mode as rules look at them."""
        return [
            RecordedSeries(
                LOSS,
                mode,
                {loss.step: loss.at for loss in losses},
                {loss.step: _summary(loss.value) for loss in losses},
            )
            for mode, losses in self._known.items()
            if losses
        ]


def _averaged(losses: list[_Loss]) -> list[_Loss]:
    pairs = [losses[index : index + 2] for index in range(0, len(losses), 2)]
    return [_mean(pair) for pair in pairs]


def _mean(losses: list[_Loss]) -> _Loss:
    images = sum(loss.images for loss in losses)
    value = sum(loss.value * loss.images for loss in losses) / images
    return _Loss(losses[-1].step, losses[-1].at, value, images)


def _summary(value: float) -> Summary:
    """Return what `summarize` says of a single number."""
    known = value if math.isfinite(value) else math.nan
    spread = 0.0 if math.isfinite(value) else math.nan
    size = abs(known)
    counts = {"zeros": float(value == 0), "nans": float(math.isnan(value)), "infinities": float(math.isinf(value))}
    return Summary(1, known, size, spread, known, known, known, known, norm=size, **counts)

"""Rules for labels and predictions."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kennel.debugger.measures import Array
from kennel.debugger.needs import Need
from kennel.debugger.rules.losses import Point, passes
from kennel.debugger.series import Measurements, Mode, Series
from kennel.errors import NothingToJudge
from kennel.judging.rule import INFINITY, Finding, parameter

_LABELS_A_CLASS = (
    20  # on average, before classes are compared: of 133 classes with 4 labels each, some have 10 by chance
)
_JUDGED_LABELS = 10  # of a class: with fewer, one mistake is more than a tenth
_RECENT_LABELS = 500  # that confusion looks at, where the training had no evaluations


@dataclass(frozen=True)
class _Batch:
    step: int
    at: int
    labels: Array  # (N,) int64
    predictions: Array  # (N,) int64; empty where they were not saved
    classes: int  # at least so many there are


def _only(found: list[Series], mode: Mode) -> dict[int, Series]:
    return {step: series for series in found if series.mode == mode for step in series.global_steps}


def _batches(measured: Measurements, labels: str, predictions: str, mode: Mode, argmax: bool = False) -> list[_Batch]:
    """Return the labels saved in a mode, with the predictions of the same step. Raises NothingToJudge without any."""
    truths, answers = (_only(measured.select(regex=regex), mode) for regex in (labels, predictions))
    if not truths:
        criteria = measured.select(regex=r"[Ll]oss_input_1$")
        hint = "hook.save_tensor('labels', …) saves them"
        if criteria:
            hint = "those of PyTorch's losses are found by labels_regex=.*oss_input_1,predictions_regex=.*oss_input_0"
        raise NothingToJudge(f"no labels were saved (no tensor is called {labels}); {hint}")
    batches = []
    for step, series in sorted(truths.items()):
        truth = series.tensor(step)
        truth = (truth.argmax(axis=-1) if truth.ndim > 1 and truth.shape[-1] > 1 else truth).ravel().astype(np.int64)
        answer: Array = np.empty(0, np.int64)
        classes = 0
        if step in answers:
            scores = answers[step].tensor(step)
            if scores.ndim > 1 and (argmax or scores.shape[-1] > 1):  # one score a class
                answer, classes = scores.argmax(axis=-1).ravel(), scores.shape[-1]
            else:
                answer = np.rint(scores).ravel().astype(np.int64)
        classes = max(classes, int(truth.max(initial=-1)) + 1, int(answer.max(initial=-1)) + 1)
        answer = answer if len(answer) == len(truth) else answer[:0]
        known = truth >= 0  # PyTorch's losses pass over labels of -100
        truth, answer = truth[known], answer[known] if len(answer) else answer
        batches.append(_Batch(step, series.global_steps[step], truth, answer, classes))
    return batches


@dataclass(frozen=True)
class ClassImbalance:
    """After `samples` labels, classes differ too much in number, or one is mostly mispredicted (contract D3).

    Labels are counted from the start; they are judged when there were `samples` of them and 20 a class, below which
    counts differ by chance. Mispredictions are judged for every `samples` labels anew, and of a class that is
    mispredicted twice in a row and at least twice as often as the others: at the start of any training all classes are,
    or all but one. `verbatim` takes all labels since the start and any class. Predictions with a score a class are
    taken by their largest, with or without `argmax`.
    """

    name: ClassVar[str] = "class_imbalance"
    fires: ClassVar[str] = (
        "one class has over `threshold_imbalance` times the labels of another, or over `threshold_misprediction` of it "
        "are mispredicted"
    )
    advice: ClassVar[str] = "class_weights=balanced, or more images of the small classes"
    threshold_imbalance: float = parameter(10.0, "largest ratio of counts that is no issue", low=1.0, high=INFINITY)
    threshold_misprediction: float = parameter(
        0.7, "largest share of a class's labels that may be mispredicted", low=0.0, high=1.0
    )
    samples: int = parameter(500, "labels before anything is judged", low=1, high=2**31)
    argmax: bool = parameter(False, "predictions are scores, one a class")
    labels_regex: str = parameter(".*labels", "expression that finds the labels")
    predictions_regex: str = parameter(".*predictions", "expression that finds the predictions")
    verbatim: bool = parameter(False, "judge AWS's formula to the letter (not AWS's)")

    def needs(self) -> Iterator[Need]:
        """Yield the labels and predictions of the training."""
        yield Need(regex=self.labels_regex, whole=True, mode=Mode.TRAIN)
        yield Need(regex=self.predictions_regex, whole=True, mode=Mode.TRAIN)

    def check(self, measured: Measurements) -> Iterator[Finding]:
        """Yield the steps that show it. Raises NothingToJudge without labels, or with too few."""
        mode = measured.training_mode()
        batches = _batches(measured, self.labels_regex, self.predictions_regex, mode, self.argmax)
        classes = max(batch.classes for batch in batches)
        needed = self.samples if self.verbatim else max(self.samples, _LABELS_A_CLASS * classes)
        total = sum(len(batch.labels) for batch in batches)
        if total < needed:
            raise NothingToJudge(f"{total} labels were saved; {needed} are needed for {classes} classes")
        counts, window = np.zeros(classes, np.int64), np.zeros((2, classes), np.int64)
        judged, before = 0, set[int]()
        for batch in batches:
            counts += np.bincount(batch.labels, minlength=classes)
            if len(batch.predictions):
                window[0] += np.bincount(batch.labels, minlength=classes)
                window[1] += np.bincount(batch.labels[batch.labels != batch.predictions], minlength=classes)
            if counts.sum() // needed > judged:  # once every so many labels
                judged = int(counts.sum() // needed)
                yield from self._imbalance(batch.step, counts)
                neglected = self._neglected(window)
                for index, (share, others) in neglected.items():
                    if self.verbatim or index in before:
                        text = (
                            f"{100 * share:.3g} % of class {index} are mispredicted, of the others {100 * others:.3g} %"
                        )
                        evidence = {"class": index, "mispredicted": share, "others": others}
                        yield Finding(self.name, batch.step, text, evidence, self.advice)
                before = set(neglected)
                if not self.verbatim:
                    window[:] = 0

    def _imbalance(self, step: int, counts: Array) -> Iterator[Finding]:
        small, large = int(counts.argmin()), int(counts.argmax())
        alone = np.count_nonzero(counts) == 1
        ratio = counts[large] / counts[small] if counts[small] else INFINITY
        if ratio > self.threshold_imbalance or alone:
            text = f"class {large} has {counts[large]} labels, class {small} has {counts[small]}"
            if alone:
                text = f"all {counts[large]} labels are of class {large}"
            yield Finding(self.name, step, text, {"counts": counts.tolist(), "ratio": float(ratio)}, self.advice)

    def _neglected(self, window: Array) -> dict[int, tuple[float, float]]:
        """Return the mispredicted share of each class that has too much of it, and that of all others."""
        labels, wrong = window
        found = {}
        for index in np.flatnonzero(labels >= (1 if self.verbatim else _JUDGED_LABELS)):
            share = float(wrong[index] / labels[index])
            others = float((wrong.sum() - wrong[index]) / max(1, labels.sum() - labels[index]))
            if share > self.threshold_misprediction and (self.verbatim or others <= self.threshold_misprediction / 2):
                found[int(index)] = share, others
        return found


@dataclass(frozen=True)
class Confusion:
    """Too few of a class are recognized, or too many are taken for one other class (contract D3).

    The formula on AWS's page divides a class's hits by the hits of *all* classes, so that at most one class can reach
    0.9: here it is the share of the class's own labels, and so for the mistakes. `formula=verbatim` takes AWS's, whose
    mistakes are shares of what was predicted. Judged is the last evaluation, or without any the last 500 labels of the
    training: what the model gets wrong now; and only classes with 10 labels or more.
    """

    name: ClassVar[str] = "confusion"
    fires: ClassVar[str] = (
        "less than `min_diag` of a class is recognized, or more than `max_off_diag` is taken for another"
    )
    advice: ClassVar[str] = "look at images of the confused classes: wrong labels, too few images, too small image_size"
    category_no: int | None = parameter(None, "number of classes; found unless given", low=1, high=2**31)
    labels: str = parameter("labels", "name of the labels")
    predictions: str = parameter("predictions", "name of the predictions")
    labels_collection: str = parameter("labels", "collection of the labels, where the name is not found")
    predictions_collection: str = parameter("predictions", "collection of the predictions, where the name is not found")
    min_diag: float = parameter(0.9, "smallest share that should be recognized", low=0.0, high=1.0)
    max_off_diag: float = parameter(0.1, "largest share that may be taken for one other class", low=0.0, high=1.0)
    formula: str = parameter("row", "shares of a class's labels, or AWS's (not AWS's)", choices=("row", "verbatim"))

    def needs(self) -> Iterator[Need]:
        """Yield the labels and predictions of evaluations."""
        yield Need(regex=f"^{self.labels}$", whole=True, mode=Mode.EVAL)
        yield Need(regex=f"^{self.predictions}$", whole=True, mode=Mode.EVAL)

    def check(self, measured: Measurements) -> Iterator[Finding]:
        """Yield one finding with all classes that it holds for. Raises NothingToJudge without predictions."""
        batches = self._last(measured)
        labels = np.concatenate([batch.labels for batch in batches])
        predictions = np.concatenate([batch.predictions for batch in batches])
        classes = self.category_no or max(batch.classes for batch in batches)
        inside = (labels < classes) & (predictions < classes) & (labels >= 0) & (predictions >= 0)
        matrix = np.zeros((classes, classes), np.int64)
        np.add.at(matrix, (labels[inside], predictions[inside]), 1)
        wrong = sorted(self._wrong(matrix), key=lambda share: share[0])
        if wrong:
            share, text = wrong[0]
            others = f"; {len(wrong)} such shares in all" if len(wrong) > 1 else ""
            evidence = {"matrix": matrix.tolist(), "shares": [text for _, text in wrong[:20]], "worst": share}
            yield Finding(self.name, batches[-1].step, text + others, evidence, self.advice)

    def _last(self, measured: Measurements) -> list[_Batch]:
        mode = Mode.EVAL if _only(measured.select(regex=f"^{self.labels}$"), Mode.EVAL) else measured.training_mode()
        patterns = [
            f"^{name}$" if measured.select(regex=f"^{name}$") else _union(measured, collection, name)
            for name, collection in (
                (self.labels, self.labels_collection),
                (self.predictions, self.predictions_collection),
            )
        ]
        batches = [batch for batch in _batches(measured, patterns[0], patterns[1], mode) if len(batch.predictions)]
        if not batches:
            raise NothingToJudge(f"no predictions were saved (no tensor is called {self.predictions})")
        if mode is Mode.EVAL:
            last = passes(Point(batch.step, batch.at, 0.0) for batch in batches)[-1]
            return [batch for batch in batches if batch.at >= last[0].at]
        total, start = 0, len(batches)
        while start and total < _RECENT_LABELS:
            start -= 1
            total += len(batches[start].labels)
        return batches[start:]

    def _wrong(self, matrix: Array) -> Iterator[tuple[float, str]]:
        """Yield how bad (0 is worst) and what, for each share outside the thresholds."""
        rows, verbatim = matrix.sum(axis=1), self.formula == "verbatim"
        hits = matrix.trace()
        for label in np.flatnonzero(rows >= _JUDGED_LABELS):
            whole = hits if verbatim else rows[label]
            share = matrix[label, label] / whole if whole else 0.0
            if share < self.min_diag:
                yield (
                    float(share),
                    f"class {label}: {100 * share:.3g} % of {'all hits' if verbatim else 'it'} recognized",
                )
            for taken in np.flatnonzero(matrix[label]):
                whole = matrix[:, taken].sum() if verbatim else rows[label]
                share = matrix[label, taken] / whole
                if taken != label and share > self.max_off_diag:
                    yield float(1 - share), f"class {label}: {100 * share:.3g} % taken for class {taken}"


def _union(measured: Measurements, collection: str, name: str) -> str:
    """Return an expression that finds the tensors of a collection, or nothing but `name`."""
    found = {series.name for series in measured.series if collection in measured.collections}
    held = [one for one in sorted(found) if measured.collections[collection].holds(one)]
    return "^(" + "|".join(held or [name]) + ")$"

"""How most rules find: step by step, with the worst tensor of a step as the example."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from kennel.debugger.series import Measurements, Mode, Series
from kennel.judging.rule import Curve, Finding, Rule


@dataclass(frozen=True)
class _Reading:
    series: Series
    step: int
    value: float


def findings_by_step(
    rule: Rule[Measurements],
    checked: Sequence[Series],
    value: Callable[[Series, int], float | None],
    *,
    wrong: Callable[[float], bool],
    worst: Callable[[float], float],
    quantity: str,
    verdict: str,
    thresholds: tuple[float, ...] = (),
    borne: Callable[[float], int] = lambda number: 0,
) -> Iterator[Finding]:
    """Yield one finding a step at which any tensor is `wrong`; the tensor with the largest `worst` is its example.

    `quantity` names the number, `verdict` says what is wrong with it. So many wrong numbers of a tensor in a row as
    `borne` says are none yet.
    """
    readings: dict[int, list[_Reading]] = {}  # by the step over all modes, as each mode counts its own
    counts: dict[int, int] = {}
    curves: dict[int, list[tuple[int, float]]] = {}
    for series in checked:
        row = 0
        for step, at in series.global_steps.items():
            number = value(series, step)
            if number is None:
                continue
            counts[at] = counts.get(at, 0) + 1
            curves.setdefault(id(series), []).append((step, number))
            row = row + 1 if wrong(number) else 0
            if row > borne(number):
                readings.setdefault(at, []).append(_Reading(series, step, number))
    finished: dict[int, Curve] = {}
    for at, found in sorted(readings.items()):
        example = max(found, key=lambda reading: worst(reading.value))
        series = example.series
        if id(series) not in finished:
            points = tuple(curves[id(series)])
            finished[id(series)] = Curve(f"{series.name} ({series.mode})", quantity, points, thresholds)
        others = f"; so it is for {len(found)} of {counts[at]} tensors" if counts[at] > 1 else ""
        mode = f" in mode {series.mode}" if series.mode in (Mode.EVAL, Mode.PREDICT) else ""
        yield Finding(
            rule.name,
            example.step,
            f"{quantity} of {series.name}{mode} is {example.value:.4g}, {verdict}{others}",
            {
                "tensor": series.name,
                "mode": str(series.mode),
                "value": example.value,
                "tensors": len(found),
                "of": counts[at],
            },
            rule.advice,
            (finished[id(series)],),
        )

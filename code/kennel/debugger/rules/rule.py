"""What a rule is, what it finds, and how its parameters are declared, once, for parser, messages and README."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Protocol, get_type_hints

from kennel.debugger.series import Measurements, Mode, Series
from kennel.hyperparameters import Declaration

_YES_AND_NO = {"true": True, "false": False}
_TYPES = {float | None: float, int | None: int, str | None: str}
INFINITY = float("inf")


@dataclass(frozen=True)
class Curve:
    """A series of numbers that a finding rests on, to be plotted."""

    name: str  # of the tensor, with the mode that steps are counted in
    quantity: str
    points: tuple[tuple[int, float], ...]  # step and value
    thresholds: tuple[float, ...] = ()  # lines that the curve should not cross


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong at one step."""

    rule: str
    step: int
    message: str  # with the numbers
    evidence: Mapping[str, Any]  # the numbers by name
    advice: str  # what to try
    curves: tuple[Curve, ...] = ()


class Rule(Protocol):
    """A frozen dataclass whose fields are its parameters, each with a default."""

    name: ClassVar[str]  # AWS's
    fires: ClassVar[str]  # when, in words
    advice: ClassVar[str]

    def check(self, measured: Measurements) -> Iterator[Finding]:
        """Yield what is wrong, in the order of steps. Raises NothingToJudge when what it needs was not saved."""
        ...


def parameter(default: Any, help: str, **bounds: Any) -> Any:
    """Declare a field of a rule; `bounds` are low, high, choices, as of a hyperparameter's declaration."""
    return field(default=default, metadata={"help": help, **bounds})


def declarations(rule: type[Rule] | Rule) -> dict[str, Declaration]:
    """Return the declaration of every parameter of a rule."""
    hints = get_type_hints(rule if isinstance(rule, type) else type(rule))
    return {
        f.name: Declaration(
            f.name,
            _TYPES.get(hints[f.name], hints[f.name]),
            f.default,
            **{"choices": ("True", "False") if hints[f.name] is bool else (), **f.metadata},
        )
        for f in fields(rule)  # type: ignore[arg-type]  # a protocol cannot say that it is a dataclass
    }


def parse_parameter(declaration: Declaration, text: str) -> Any:
    """Return the typed value of `text`, None where that is the default and the text says so. Raises ValueError."""
    if declaration.default is None and text.strip() in ("", "None"):
        return None
    if declaration.type is bool:
        if text.strip().lower() not in _YES_AND_NO:
            raise ValueError(text)
        return _YES_AND_NO[text.strip().lower()]
    return declaration.parse(text.strip())


def names(text: str | None) -> list[str]:
    """Return the parts of a list with commas."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


@dataclass(frozen=True)
class _Reading:
    series: Series
    step: int
    value: float


def findings_by_step(
    rule: Rule,
    checked: Sequence[Series],
    value: Callable[[Series, int], float | None],
    *,
    wrong: Callable[[float], bool],
    worst: Callable[[float], float],
    quantity: str,
    verdict: str,
    thresholds: tuple[float, ...] = (),
) -> Iterator[Finding]:
    """Yield one finding a step at which any tensor is `wrong`; the tensor with the largest `worst` is its example.

    `quantity` names the number, `verdict` says what is wrong with it.
    """
    readings: dict[int, list[_Reading]] = {}  # by the step over all modes, as each mode counts its own
    counts: dict[int, int] = {}
    curves: dict[int, list[tuple[int, float]]] = {}
    for series in checked:
        for step, at in series.global_steps.items():
            number = value(series, step)
            if number is None:
                continue
            counts[at] = counts.get(at, 0) + 1
            curves.setdefault(id(series), []).append((step, number))
            if wrong(number):
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

"""What a rule is, what it finds, and how its parameters are declared, once, for parser, messages and README."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Protocol, TypeVar, get_type_hints

from kennel.hyperparameters import Declaration

Evidence = TypeVar("Evidence")  # what a rule judges: measured tensors, or a profile
Evidence_contra = TypeVar("Evidence_contra", contravariant=True)  # the same, for the protocol

_YES_AND_NO = {"true": True, "false": False}
_TYPES = {float | None: float, int | None: int, str | None: str}
INFINITY = float("inf")


@dataclass(frozen=True)
class Curve:
    """A series of numbers that a finding rests on, to be plotted."""

    name: str  # of what was measured: a tensor with the mode that steps are counted in, a core, a GPU
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


class Rule(Protocol[Evidence_contra]):
    """A frozen dataclass whose fields are its parameters, each with a default."""

    name: ClassVar[str]  # AWS's
    fires: ClassVar[str]  # when, in words
    advice: ClassVar[str]

    def check(self, evidence: Evidence_contra, /) -> Iterator[Finding]:
        """Yield what is wrong, in the order of steps. Raises NothingToJudge when what it needs was not measured."""
        ...


def parameter(default: Any, help: str, **bounds: Any) -> Any:
    """Declare a field of a rule; `bounds` are low, high, choices, as of a hyperparameter's declaration."""
    return field(default=default, metadata={"help": help, **bounds})


def declarations(rule: type[Rule[Any]] | Rule[Any]) -> dict[str, Declaration]:
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

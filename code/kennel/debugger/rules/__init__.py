"""The rules by AWS's names, parameters and defaults (contract D3), and how a user names one."""

import re
from collections.abc import Mapping
from typing import Any

from kennel.debugger.rules.activations import DeadRelu, SaturatedActivation
from kennel.debugger.rules.classes import ClassImbalance, Confusion
from kennel.debugger.rules.generalization import Overfit, Overtraining
from kennel.debugger.rules.gradients import ExplodingTensor, VanishingGradient
from kennel.debugger.rules.initialization import PoorWeightInitialization
from kennel.debugger.rules.inputs import CheckInputImages
from kennel.debugger.rules.losses import LossNotDecreasing
from kennel.debugger.rules.rule import Rule, declarations, parse_parameter
from kennel.debugger.rules.runs import SimilarAcrossRuns
from kennel.debugger.rules.stalled import StalledTrainingRule
from kennel.debugger.rules.updates import WeightUpdateRatio
from kennel.debugger.rules.values import AllZero, TensorVariance, UnchangedTensor
from kennel.errors import RuleError

_CLASSES: tuple[type[Rule], ...] = (
    VanishingGradient,
    ExplodingTensor,
    PoorWeightInitialization,
    DeadRelu,
    SaturatedActivation,
    WeightUpdateRatio,
    AllZero,
    ClassImbalance,
    LossNotDecreasing,
    Overfit,
    Overtraining,
    TensorVariance,
    UnchangedTensor,
    StalledTrainingRule,
    Confusion,
    CheckInputImages,
    SimilarAcrossRuns,
)
RULES: Mapping[str, type[Rule]] = {rule.name: rule for rule in _CLASSES}


def make_rule(name: str, parameters: Mapping[str, str]) -> Rule:
    """Return a rule with some of its parameters given as text. Raises RuleError for what it does not know."""
    if name not in RULES:
        raise RuleError(f"there is no rule {name}; known are: {', '.join(RULES)}")
    declared = declarations(RULES[name])
    values: dict[str, Any] = {}
    for key, text in parameters.items():
        if key not in declared:
            raise RuleError(f"{name} has no parameter {key}; it has: {', '.join(declared)}")
        try:
            values[key] = parse_parameter(declared[key], text)
        except ValueError:
            raise RuleError(
                f"{name}: {key}={text}: must be {declared[key].bounds} (default {declared[key].default})"
            ) from None
        if key.endswith("regex") and values[key] is not None:
            _refuse_bad_expression(name, key, values[key])
    return RULES[name](**values)


def parse_rule(text: str) -> Rule:
    """Return the rule for `NAME` or `NAME:parameter=value,parameter=value`. Raises RuleError as `make_rule` does."""
    name, _, rest = text.partition(":")
    given: dict[str, str] = {}
    for part in re.split(r",(?=\w+=)", rest) if rest else []:  # a value may have commas of its own
        key, equals, value = part.partition("=")
        if not equals:
            raise RuleError(f"{text}: {part} should be parameter=value")
        given[key.strip()] = value
    return make_rule(name.strip(), given)


def markdown_table() -> str:
    """Return the table of all rules that stands in the README."""
    rows = ["| rule | finds that | parameters (default) |", "|---|---|---|"]
    for name, rule in RULES.items():
        parameters = ", ".join(f"`{d.name}` ({_cell(d.default)})" for d in declarations(rule).values())
        rows.append(f"| `{name}` | {rule.fires} | {parameters} |")
    return "\n".join(rows)


def _cell(default: Any) -> str:
    text = f"{default:g}" if isinstance(default, float) else str(default)
    return f"`{text}`".replace("|", "\\|") if isinstance(default, str) else text


def _refuse_bad_expression(name: str, key: str, text: str) -> None:
    try:
        re.compile(text)
    except re.error as error:
        raise RuleError(f"{name}: {key}={text}: is no regular expression: {error}") from None

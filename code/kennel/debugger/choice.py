"""Which rules judge a training that runs, as its hyperparameters say."""

from kennel.debugger.rules import RULES
from kennel.debugger.series import Measurements
from kennel.errors import HyperparameterError, RuleError
from kennel.judging.choice import NONE, named_rules, parameters_of_debugger
from kennel.judging.rule import Rule

_KNOWN = [name for name in RULES if name != "similar_across_runs"]  # which compares two trainings that are over


def choose_rules(rules: str, parameters: str) -> list[Rule[Measurements]]:
    """Return the rules that the hyperparameters `rules` and `rule_parameters` name.

    Raises HyperparameterError for a rule or a parameter that is not known, a value that is not allowed, and a
    parameter of a rule that is not chosen.
    """
    chosen = named_rules(rules)
    unknown = [name for name in chosen if name not in _KNOWN]
    if unknown:
        hint = "; `kennel debug DIR --other DIR2` compares two trainings" if set(unknown) & set(RULES) else ""
        raise HyperparameterError(f"rules: there is no rule {', '.join(unknown)}; known are: {', '.join(_KNOWN)}{hint}")
    try:
        given = RULES.parameters_by_rule(parameters_of_debugger(parameters))
        for name in given:
            if name not in chosen:
                raise RuleError(f"{name} is not among the rules, which are: {', '.join(chosen) or NONE}")
        return [RULES.make(name, given.get(name, {})) for name in chosen]
    except RuleError as error:
        raise HyperparameterError(f"rule_parameters: {error}") from error

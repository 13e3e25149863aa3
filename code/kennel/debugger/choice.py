"""Which rules judge a training that runs, as its hyperparameters say."""

from kennel.debugger.rules import RULES
from kennel.debugger.series import Measurements
from kennel.errors import HyperparameterError, RuleError
from kennel.judging.choice import NONE, named_rules
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
    given: dict[str, dict[str, str]] = {name: {} for name in chosen}
    for part in filter(None, map(str.strip, parameters.split(";"))):
        key, equals, value = part.partition("=")
        name = next((name for name in RULES if key.startswith(f"{name}_")), None)
        if name is None or not equals:
            raise HyperparameterError(
                f"rule_{part}: should be rule_NAME_PARAMETER=VALUE, where NAME is one of {', '.join(_KNOWN)}"
            )
        if name not in given:
            chosen_names = ", ".join(given) or NONE
            raise HyperparameterError(f"rule_{part}: {name} is not among the rules, which are: {chosen_names}")
        given[name][key.removeprefix(f"{name}_").strip()] = value.strip()
    try:
        return [RULES.make(name, of_rule) for name, of_rule in given.items()]
    except RuleError as error:
        raise HyperparameterError(f"rule_parameters: {error}") from error

"""Which rules a job names, with which parameters: text alone, so that a request can be made where no rule can run."""

from kennel.judging.rule import names

DEFAULT, NONE = "default", "none"
DEFAULT_RULES = (
    "vanishing_gradient",
    "exploding_tensor",
    "poor_weight_initialization",
    "dead_relu",
    "weight_update_ratio",
    "class_imbalance",
    "loss_not_decreasing",
    "overfit",
    "overtraining",
    "stalled_training_rule",
    "confusion",
)


def named_rules(rules: str) -> list[str]:
    """Return the names that the hyperparameter `rules` stands for, known or not."""
    if rules.strip() == NONE:
        return []
    return list(dict.fromkeys(one for name in names(rules) for one in (DEFAULT_RULES if name == DEFAULT else [name])))


def are_asked_for(rules: str) -> bool:
    """Return whether a user has named each of the rules, and wants to hear of one that lacks what it needs."""
    return DEFAULT not in names(rules)


def parameters_of_debugger(parameters: str) -> list[str]:
    """Return the parts `NAME_PARAMETER=VALUE` of the hyperparameter `rule_parameters` that are for the debugger."""
    return [part for part in _parts(parameters) if not part[0].isupper()]


def parameters_of_profiler(parameters: str) -> list[str]:
    """Return those that are for the profiler, whose rules AWS gives names with capitals."""
    return [part for part in _parts(parameters) if part[0].isupper()]


def _parts(parameters: str) -> list[str]:
    return [part.strip() for part in parameters.split(";") if part.strip()]

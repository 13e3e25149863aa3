"""How much each hyperparameter mattered to the objective."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial

from kennel.tuning.search import distribution
from kennel.tuning.space import parse_ranges
from kennel.tuning.summary import Trial

MIN_TRIALS = 8  # finished ones; the shares from fewer would be chance


def importances(ranges: Mapping[str, Any], trials: Sequence[Trial], maximize: bool) -> dict[str, float]:
    """Return each tuned hyperparameter's share in the differences between good and bad trials; the shares sum to 1.

    `ranges` is a request's `ParameterRanges`. It is the PED-ANOVA of Watanabe et al. (2023), as Optuna does it; empty
    when fewer than eight trials have an objective, or all have the same.
    """
    parameters = parse_ranges(ranges)
    rated = [trial for trial in trials if trial.is_rated]
    if len(rated) < MIN_TRIALS or len({trial.objective for trial in rated}) == 1:
        return {}
    if len(parameters) == 1:
        return {parameters[0].name: 1.0}
    distributions = {p.name: distribution(p) for p in parameters}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize" if maximize else "minimize")
    for trial in rated:
        values = {p.name: p.coordinate(trial.hyperparameters[p.name]) for p in parameters}
        study.add_trial(create_trial(value=trial.objective, params=values, distributions=distributions))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        shares = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return {name: round(share, 4) for name, share in shares.items()}

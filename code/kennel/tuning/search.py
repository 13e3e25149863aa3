"""The strategies: Optuna proposes hyperparameters and is told what came of them."""

import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState, create_trial

from kennel.tuning.space import Parameter, max_resource, parse_ranges

REDUCTION = 3  # Hyperband lets the best third of the trials go on from one rung to the next


@dataclass(frozen=True)
class Proposal:
    """Hyperparameters to be tried."""

    number: int  # from 1, in the order of the proposals
    values: dict[str, str]  # of the tuned hyperparameters, as the container gets them


@dataclass(frozen=True)
class Prior:
    """What an earlier search found out."""

    values: Mapping[str, str]
    objective: float


class Search:
    """A search that may be kept in a file, so that it goes on where it was when its process died.

    `config` is a request's `HyperParameterTuningJobConfig`; its ranges and strategy decide what is proposed, its limits
    are the caller's to keep. The first proposal is made of `defaults`, as far as the space holds them, unless there are
    `priors`: results of earlier searches over the same hyperparameters.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        static: Mapping[str, str],
        defaults: Mapping[str, str],
        priors: Sequence[Prior] = (),
        file: Path | None = None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._parameters = {parameter.name: parameter for parameter in parse_ranges(config["ParameterRanges"])}
        self._distributions = {p.name: distribution(p) for p in self._parameters.values()}
        self._grid = grid(tuple(self._parameters.values()), defaults) if config["Strategy"] == "Grid" else None
        self._defaults = {} if priors else self._nearest(defaults)
        objective = config["HyperParameterTuningJobObjective"]
        storage = f"sqlite:///{file}" if file else None
        study = optuna.create_study(
            storage=storage,
            study_name="tuning",
            direction=objective["Type"].lower(),
            load_if_exists=True,
        )
        # a sampler that began anew with the same seed would propose the same again
        seed = config["RandomSeed"] + len(study.trials) if "RandomSeed" in config else None
        study.sampler = _sampler(config, seed)
        study.pruner = _pruner(config, static)
        self._study = study
        if not study.trials:
            for prior in priors:
                self._add(prior)
        self._offset = sum(bool(trial.user_attrs.get("prior")) for trial in study.trials)

    def propose(self) -> Proposal | None:
        """Return what to try next; None when a grid is exhausted."""
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if not waiting:
            proposed = len(self._study.get_trials(deepcopy=False)) - self._offset
            if self._grid is not None and proposed >= len(self._grid):
                return None
            fixed = self._grid[proposed] if self._grid is not None else self._defaults if proposed == 0 else {}
            if fixed:
                self._study.enqueue_trial(
                    {name: self._parameters[name].coordinate(value) for name, value in fixed.items()}
                )
        trial = self._study.ask(self._distributions)
        return self._proposal(trial.number, trial.params)

    def unfinished(self) -> list[Proposal]:
        """Return the proposals whose end was not told, for example because the process died."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        proposals = [self._proposal(t.number, t.params) for t in running if set(t.params) == set(self._distributions)]
        for trial in running:  # its process died before it had drawn all values: nobody ever saw it
            if set(trial.params) != set(self._distributions):
                self._study.tell(trial.number, state=TrialState.FAIL)
        return proposals

    def should_stop(self, number: int, curve: Sequence[float]) -> bool:
        """Return whether Hyperband gives up proposal `number`, whose objective after each epoch so far is `curve`."""
        [frozen] = [t for t in self._study.get_trials(deepcopy=False) if t.number == number - 1 + self._offset]
        trial = optuna.trial.Trial(self._study, frozen._trial_id)
        for epoch, value in enumerate(curve, start=1):
            if epoch not in frozen.intermediate_values:
                trial.report(value, epoch)
        return bool(curve) and trial.should_prune()

    def finish(self, number: int, objective: float | None) -> None:
        """Tell the end of a proposal: the value of its objective, or None when there is none."""
        state = TrialState.FAIL if objective is None else TrialState.COMPLETE
        self._study.tell(number - 1 + self._offset, objective, state=state)

    def _proposal(self, number: int, coordinates: Mapping[str, Any]) -> Proposal:
        values = {name: parameter.at(coordinates[name]) for name, parameter in self._parameters.items()}
        return Proposal(number + 1 - self._offset, values)

    def _nearest(self, defaults: Mapping[str, str]) -> dict[str, str]:
        """Return the value of each parameter that is nearest to its default; some have none."""
        values = {}
        for name, parameter in self._parameters.items():
            if name in defaults and (value := parameter.nearest(defaults[name])) is not None:
                values[name] = value
        return values

    def _add(self, prior: Prior) -> None:
        """Let the sampler know an earlier result, if it lies within the space."""
        inside = {name: p.nearest(prior.values.get(name, "")) for name, p in self._parameters.items()}
        if any(value is None or not _equal(value, prior.values[name]) for name, value in inside.items()):
            return
        params = {name: p.coordinate(str(inside[name])) for name, p in self._parameters.items()}
        trial = create_trial(
            value=prior.objective, params=params, distributions=self._distributions, user_attrs={"prior": True}
        )
        self._study.add_trial(trial)


def grid(parameters: Sequence[Parameter], defaults: Mapping[str, str]) -> list[dict[str, str]]:
    """Return all combinations of the values; the one nearest to the defaults comes first."""
    names = [parameter.name for parameter in parameters]
    # the sort is stable, so that a default comes first and the others keep their order
    ordered = [sorted(p.values, key=lambda value, p=p: value != defaults.get(p.name)) for p in parameters]  # type: ignore[misc]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*ordered)]


def _equal(one: str, other: str) -> bool:
    try:
        return math.isclose(float(one), float(other), rel_tol=1e-5)
    except ValueError:
        return one == other


def distribution(parameter: Parameter) -> BaseDistribution:
    """Return the parameter's axis as Optuna knows it."""
    if parameter.kind == "Categorical":
        return CategoricalDistribution(parameter.values)
    if parameter.kind == "Integer":
        return IntDistribution(int(parameter.low), int(parameter.high), log=parameter.scaling == "Logarithmic")
    if parameter.scaling == "ReverseLogarithmic":
        return FloatDistribution(1 - parameter.high, 1 - parameter.low, log=True)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.scaling == "Logarithmic")


def _sampler(config: Mapping[str, Any], seed: int | None) -> optuna.samplers.BaseSampler:
    if config["Strategy"] in ("Random", "Grid"):
        return optuna.samplers.RandomSampler(seed)
    jobs = config["ResourceLimits"]["MaxNumberOfTrainingJobs"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # multivariate has been one for years
        # a short search cannot afford the ten random trials that Optuna begins with otherwise
        return optuna.samplers.TPESampler(
            seed=seed, multivariate=True, constant_liar=True, n_startup_trials=min(10, max(3, jobs // 3))
        )


def _pruner(config: Mapping[str, Any], static: Mapping[str, str]) -> optuna.pruners.BasePruner:
    if config["Strategy"] != "Hyperband":
        return optuna.pruners.NopPruner()
    given = config.get("StrategyConfig", {}).get("HyperbandStrategyConfig", {})
    least = int(given.get("MinResource", 1))
    return optuna.pruners.HyperbandPruner(least, max_resource(config, static), REDUCTION)

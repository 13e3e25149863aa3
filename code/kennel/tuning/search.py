"""The strategies: Optuna proposes hyperparameters and is told what came of them."""

import itertools
import math
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from kennel.errors import SearchError
from kennel.tuning import median
from kennel.tuning.space import Parameter, parse_ranges, resources

REDUCTION = 3  # Hyperband lets the best third of the trials go on from one rung to the next
_LONG = 30  # trials; a search of more, or without a limit, begins with as many random ones as Optuna would


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
    are the caller's to keep. The first proposal is made of `defaults`, as far as the space holds them, unless `priors`
    lie in the space: results of earlier searches over the same hyperparameters.
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
        objective = config["HyperParameterTuningJobObjective"]
        storage = f"sqlite:///{file}" if file else None
        self._config = config
        self._study = optuna.create_study(
            storage=storage,
            study_name="tuning",
            direction=objective["Type"].lower(),
            pruner=_pruner(config, static),
            load_if_exists=True,
        )
        self._offset = self._add(priors)
        self._defaults = {} if self._offset else self._nearest(defaults)

    def propose(self) -> Proposal | None:
        """Return what to try next; None when a grid is exhausted."""
        trials = self._study.get_trials(deepcopy=False)
        waiting = [trial.number for trial in trials if trial.state == TrialState.WAITING]
        if not waiting:
            proposed = len(trials) - self._offset
            if self._grid is not None and proposed >= len(self._grid):
                return None
            fixed = self._grid[proposed] if self._grid is not None else self._defaults if proposed == 0 else {}
            if fixed:
                self._study.enqueue_trial(
                    {name: self._parameters[name].coordinate(value) for name, value in fixed.items()}
                )
        self._study.sampler = self._sampler(waiting[0] if waiting else len(trials))
        trial = self._study.ask(self._distributions)
        return self._proposal(trial.number, trial.params)

    def unfinished(self) -> list[Proposal]:
        """Return the proposals whose end was not told, for example because the process died."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [self._proposal(trial.number, self._drawn(trial)) for trial in running]

    def is_hopeless(self, number: int, curve: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
        """Return whether proposal `number` should be stopped early, by the rule that the search was made with.

        `curve` is its objective after each epoch so far, `others` those of the trials that ended (contract B7, B8).
        """
        if self._config["Strategy"] == "Hyperband":
            return self.should_stop(number, curve)
        if self._config.get("TrainingJobEarlyStoppingType") == "Auto":
            return median.is_hopeless(curve, others, self._study.direction == StudyDirection.MAXIMIZE)
        return False

    def should_stop(self, number: int, curve: Sequence[float]) -> bool:
        """Return whether Hyperband gives up proposal `number`, whose objective after each epoch so far is `curve`.

        Each epoch is judged once; without a new one the answer is no.
        """
        frozen = self._study.get_trials(deepcopy=False)[number - 1 + self._offset]
        new = [epoch for epoch in range(1, len(curve) + 1) if epoch not in frozen.intermediate_values]
        if not new:
            return False
        trial = optuna.trial.Trial(self._study, frozen._trial_id)
        for epoch in new:
            trial.report(curve[epoch - 1], epoch)
        return trial.should_prune()

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

    def _drawn(self, trial: FrozenTrial) -> Mapping[str, Any]:
        """Return a trial's coordinates, and draw those that are missing because the process died meanwhile."""
        if set(trial.params) == set(self._distributions):
            return trial.params
        self._study.sampler = self._sampler(trial.number)
        live = optuna.trial.Trial(self._study, trial._trial_id)
        return {name: live._suggest(name, axis) for name, axis in self._distributions.items()}

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """Return what draws trial `number`.

        Each trial has a seed of its own, so that a search that was interrupted neither draws the same again nor others.
        """
        given = self._config.get("RandomSeed")
        seed = None if given is None else zlib.crc32(f"{given} {number}".encode())
        if self._config["Strategy"] in ("Random", "Grid"):
            return optuna.samplers.RandomSampler(seed)
        jobs = self._config["ResourceLimits"].get("MaxNumberOfTrainingJobs", _LONG)
        # a short search cannot afford the ten random trials that Optuna begins with otherwise
        startup = min(10, max(3, jobs // 3))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # multivariate has been one for years
            return optuna.samplers.TPESampler(
                seed=seed, multivariate=True, constant_liar=True, n_startup_trials=startup
            )

    def _add(self, priors: Sequence[Prior]) -> int:
        """Let the sampler know those of the earlier results that lie within the space; return how many there are."""
        known = self._study.get_trials(deepcopy=False)
        count = sum("prior" in trial.user_attrs for trial in known)
        if count == len(known):  # nothing was proposed yet; some are there if the process died while it added them
            for prior in list(filter(self._is_inside, priors))[count:]:
                params = {
                    name: p.coordinate(str(p.nearest(prior.values[name]))) for name, p in self._parameters.items()
                }
                self._study.add_trial(
                    create_trial(
                        value=prior.objective,
                        params=params,
                        distributions=self._distributions,
                        user_attrs={"prior": True},
                    )
                )
                count += 1
        return count

    def _is_inside(self, prior: Prior) -> bool:
        return all(
            name in prior.values
            and (value := parameter.nearest(prior.values[name])) is not None
            and _equal(value, prior.values[name])
            for name, parameter in self._parameters.items()
        )


def grid(parameters: Sequence[Parameter], defaults: Mapping[str, str]) -> list[dict[str, str]]:
    """Return all combinations of the values; the one nearest to the defaults comes first.

    Raises SearchError when a parameter has a range instead of values (contract B1).
    """
    names = [parameter.name for parameter in parameters]
    if ranged := [parameter.name for parameter in parameters if not parameter.values]:
        raise SearchError(f"Grid tries every combination of values; {', '.join(ranged)} has a range instead of values")
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


def _pruner(config: Mapping[str, Any], static: Mapping[str, str]) -> optuna.pruners.BasePruner:
    if config["Strategy"] != "Hyperband":
        return optuna.pruners.NopPruner()
    return optuna.pruners.HyperbandPruner(*resources(config, static), REDUCTION)

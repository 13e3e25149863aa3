"""What to search: from options, a file, a preset or the declared ranges to a request's configuration."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import yaml

from kennel.errors import HyperparameterError, SearchError
from kennel.hyperparameters import DECLARATIONS, Declaration, Range, canonical_name, parse_hyperparameters
from kennel.metrics import EPOCH_METRICS, KEPT_METRICS
from kennel.tuning.space import parse_ranges as check_ranges

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.type_defs import HyperParameterTuningJobConfigTypeDef

Strategy = Literal["Bayesian", "Random", "Hyperband", "Grid"]
SCALES: Mapping[str, Literal["Linear", "Logarithmic", "ReverseLogarithmic"]] = {
    "linear": "Linear",
    "log": "Logarithmic",
    "reverse-log": "ReverseLogarithmic",
}
EARLY_METRICS = tuple(name for name in KEPT_METRICS if name in EPOCH_METRICS)  # known after every epoch
MAX_NAME = 32  # characters of a tuning job's name (contract B11)
_MOST_PARENTS = 5  # of a warm start (contract B10)


@dataclass(frozen=True)
class Plan:
    """A search."""

    ranges: Mapping[str, Range]
    static: Mapping[str, str] = field(default_factory=dict)
    strategy: Strategy = "Bayesian"
    jobs: int = 8
    parallel: int = 2
    objective: str = "valid_loss"  # finer than accuracy, of which small validation sets have few values
    early_stopping: bool = False
    seed: int | None = None
    target: float | None = None  # an objective that is good enough to end the search
    patience: int | None = None  # trials without a better objective that end the search
    warm_start: tuple[str, ...] = ()  # finished searches to begin from

    @property
    def trials(self) -> int:
        """How many trials there are at most: of a grid, as many as combinations."""
        if self.strategy == "Grid":
            return math.prod(len(values.choices) for values in self.ranges.values())
        return self.jobs


def declared_ranges() -> dict[str, Range]:
    """Return the ranges that the hyperparameters' declarations call worth tuning."""
    return {d.name: d.tune for d in DECLARATIONS.values() if d.tune}


def make_plan(
    base: Plan | None,
    ranges: Sequence[str] = (),
    choices: Sequence[str] = (),
    static: Sequence[str] = (),
    **settings: Any,
) -> Plan:
    """Return the plan that `base` (a preset or a file) and the command line make together.

    `ranges` are `learning_rate=1e-5:1e-1:log`, `choices` `batch_size=32,64`, `static` `epochs=4`; they go before what
    `base` says, and so do the `settings` that are not None. Without a base, the given ranges are the whole space, and
    without any the declared ones are. Raises SearchError or HyperparameterError with what would be right.
    """
    given = parse_ranges(ranges, choices)
    return _merge(base, given, _fixed(_split(text, "--static", "epochs=4") for text in static), settings)


def parse_ranges(ranges: Iterable[str], choices: Iterable[str]) -> dict[str, Range]:
    """Return the ranges of `name=low:high[:scale]` and `name=a,b,c`. Raises SearchError for what is none."""
    found: dict[str, Range] = {}
    for text in ranges:
        name, values = _split(text, "--range", "learning_rate=1e-5:1e-1:log")
        low, _, rest = values.partition(":")
        high, _, scale = rest.partition(":")
        _add(found, name, {"low": low, "high": high, "scale": scale or "linear"})
    for text in choices:
        name, values = _split(text, "--choice", "batch_size=32,64,128")
        _add(found, name, values.split(","))
    return found


class _Loader(yaml.SafeLoader):
    """YAML in which only true and false are such: `debugger: off` is the word."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def read_plan(file: Path, presets: Mapping[str, Plan]) -> Plan:
    """Read a plan from YAML or JSON.

    Its keys are those of a Plan, and `preset`; a range is a list of values or `{low, high, scale}`. Raises SearchError
    or HyperparameterError for what it does not know.
    """
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _Loader)  # JSON is YAML
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SearchError(f"{file} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise SearchError(f"{file} holds {type(content).__name__}; it should hold keys such as ranges, static, jobs")
    known = {f.name for f in fields(Plan)} | {"preset"}
    if unknown := sorted(str(key) for key in content if key not in known):
        raise SearchError(f"{file}: {', '.join(unknown)} is not known; known are {', '.join(sorted(known))}")
    preset = content.pop("preset", None)
    if preset is not None and preset not in [*presets]:  # a list: what a file holds need not be hashable
        raise SearchError(f"{file}: there is no preset {preset!r}; there are {', '.join(presets)}")
    ranges: dict[str, Range] = {}
    for name, given in _mapping(file, content, "ranges").items():
        _add(ranges, str(name), given)
    given_static = _mapping(file, content, "static")
    if empty := [str(name) for name, value in given_static.items() if value is None]:
        raise SearchError(f"{file}: static has no value for {', '.join(empty)}; give one")
    static = _fixed((str(name), str(value)) for name, value in given_static.items())
    settings = {key: value for key, value in content.items() if key not in ("ranges", "static")}
    for key, kind in _KINDS.items():
        if key in settings and (
            isinstance(settings[key], bool) != (kind is bool) or not isinstance(settings[key], kind)
        ):
            raise SearchError(f"{file}: {key} is {settings[key]!r}; it should be {_WORDS[key]}")
    if "warm_start" in settings:
        settings["warm_start"] = tuple(str(name) for name in settings["warm_start"])
    return _merge(presets[preset] if preset else None, ranges, static, settings)


_KINDS: Mapping[str, Any] = {
    "strategy": str,
    "jobs": int,
    "parallel": int,
    "objective": str,
    "early_stopping": bool,
    "seed": int,
    "target": (int, float),
    "patience": int,
    "warm_start": list,
}
_WORDS: Mapping[str, str] = {
    "strategy": "one of " + ", ".join(get_args(Strategy)).lower(),
    "jobs": "a whole number",
    "parallel": "a whole number",
    "objective": "the name of a metric",
    "early_stopping": "true or false",
    "seed": "a whole number",
    "target": "a number",
    "patience": "a whole number",
    "warm_start": "a list of finished searches",
}


def tuning_config(plan: Plan) -> HyperParameterTuningJobConfigTypeDef:
    """Return a request's `HyperParameterTuningJobConfig`."""
    limits: Any = {"MaxParallelTrainingJobs": plan.parallel}
    if plan.strategy != "Grid":  # the service counts a grid itself (contract B1)
        limits["MaxNumberOfTrainingJobs"] = plan.jobs
    config: HyperParameterTuningJobConfigTypeDef = {
        "Strategy": plan.strategy,
        "HyperParameterTuningJobObjective": {
            "Type": "Minimize" if plan.objective.endswith("_loss") else "Maximize",
            "MetricName": plan.objective,
        },
        "ResourceLimits": limits,
        "ParameterRanges": _parameter_ranges(plan.ranges),
        "TrainingJobEarlyStoppingType": "Auto" if plan.early_stopping else "Off",
    }
    if plan.seed is not None:
        config["RandomSeed"] = plan.seed
    criteria: Any = {}
    if plan.target is not None:
        criteria["TargetObjectiveMetricValue"] = plan.target
    if plan.patience is not None:
        criteria["BestObjectiveNotImproving"] = {"MaxNumberOfTrainingJobsNotImproving": plan.patience}
    if criteria:
        config["TuningJobCompletionCriteria"] = criteria
    return config


def _parameter_ranges(ranges: Mapping[str, Range]) -> Any:
    members: dict[str, list[dict[str, Any]]] = {}
    for name, values in ranges.items():
        if values.choices:
            members.setdefault("CategoricalParameterRanges", []).append({"Name": name, "Values": [*values.choices]})
            continue
        whole = DECLARATIONS[name].type is int
        low, high = (str(int(x)) if whole else repr(float(x)) for x in (values.low, values.high))
        entry = {"Name": name, "MinValue": low, "MaxValue": high, "ScalingType": values.scaling}
        members.setdefault("IntegerParameterRanges" if whole else "ContinuousParameterRanges", []).append(entry)
    return members


def _split(text: str, option: str, example: str) -> tuple[str, str]:
    name, equals, values = text.partition("=")
    if not equals or not name or not values:
        raise SearchError(f"{option} {text}: should look like {option} {example}")
    return name, values


def _add(found: dict[str, Range], key: str, given: Any) -> None:
    """Put one range into `found`, checked against its hyperparameter's declaration."""
    name = canonical_name(key)
    if name not in DECLARATIONS:
        raise SearchError(f"{key}: there is no such hyperparameter; known are {', '.join(DECLARATIONS)}")
    if name in found:
        raise SearchError(f"{name}: has two ranges; give it one")
    declaration = DECLARATIONS[name]
    if given == []:
        raise SearchError(f"{name}: is an empty list; give it the values to try")
    if isinstance(given, list):
        if None in given:
            raise SearchError(f"{name}: has an empty value in its list")
        found[name] = Range(choices=tuple(_value(declaration, str(value)) for value in given))
        return
    if not isinstance(given, dict) or not {"low", "high"} <= set(given) <= {"low", "high", "scale"}:
        raise SearchError(f"{name}={given}: should be a list of values, or have low, high and perhaps scale")
    if declaration.type is str:
        raise SearchError(f"{name}: takes {declaration.bounds}; give --choice {name}=… instead of a range")
    scale = str(given.get("scale", "linear"))
    if scale not in SCALES:
        raise SearchError(f"{name}: there is no scale {scale!r}; it is one of {', '.join(SCALES)}")
    low, high = (_value(declaration, str(given[end])) for end in ("low", "high"))
    found[name] = Range(float(low), float(high), SCALES[scale])


def _value(declaration: Declaration, text: str) -> str:
    try:
        declaration.parse(text.strip())
    except ValueError:
        raise SearchError(f"{declaration.name}={text}: must be {declaration.bounds}") from None
    return text.strip()


def _fixed(given: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the fixed values by their declared names, each checked."""
    values: dict[str, str] = {}
    for key, value in given:
        name = canonical_name(key)
        if values.setdefault(name, value) != value:
            raise SearchError(f"{name}: is fixed twice, as {values[name]} and as {value}; give one")
    parse_hyperparameters(values)
    return values


def _mapping(file: Path, content: Mapping[str, Any], key: str) -> Mapping[Any, Any]:
    value = content.get(key) or {}
    if not isinstance(value, dict):
        raise SearchError(f"{file}: {key} holds {type(value).__name__}; it should hold names and values")
    return value


def _merge(
    base: Plan | None, ranges: Mapping[str, Range], static: Mapping[str, str], settings: Mapping[str, Any]
) -> Plan:
    """Return `base` with what goes before it: a range frees what the base fixes, a fixed value takes its range away."""
    if both := sorted({*ranges} & {*static}):
        raise SearchError(f"{', '.join(both)}: given as a range and as a fixed value; give one")
    plan = base or Plan(ranges or declared_ranges())
    fixed = {name: value for name, value in {**plan.static, **static}.items() if name not in ranges}
    space = {name: values for name, values in {**plan.ranges, **ranges}.items() if name not in fixed}
    if not space:
        raise SearchError("nothing is left to search: every hyperparameter is fixed; give a --range or a --choice")
    given = {name: value for name, value in settings.items() if value not in (None, ())}
    if "strategy" in given:
        given["strategy"] = given["strategy"].capitalize()
    plan = replace(plan, ranges=space, static=fixed, **given)
    _check(plan)
    return plan


def _check(plan: Plan) -> None:
    """Raise SearchError for what no search can have; what the service limits is its validation's."""
    check_ranges(_parameter_ranges(plan.ranges))
    names = get_args(Strategy)
    if plan.strategy not in names:
        raise SearchError(f"there is no strategy {plan.strategy.lower()!r}; it is one of {', '.join(names).lower()}")
    if plan.objective not in KEPT_METRICS:
        raise SearchError(f"{plan.objective!r} cannot be the objective, which is one of {', '.join(KEPT_METRICS)}")
    if plan.objective not in EARLY_METRICS and (plan.strategy == "Hyperband" or plan.early_stopping):
        raise SearchError(
            f"{plan.objective} is printed once a job, too late to stop it early; take one of {', '.join(EARLY_METRICS)}"
        )
    for name in ("jobs", "parallel"):
        if getattr(plan, name) < 1:
            raise SearchError(f"{name} is {getattr(plan, name)}; it should be 1 or more")
    if plan.patience is not None and plan.patience < 3:
        raise SearchError(f"patience is {plan.patience}; it should be 3 or more (contract B9)")
    if len(plan.warm_start) > _MOST_PARENTS:
        raise SearchError(f"{len(plan.warm_start)} searches to start from; {_MOST_PARENTS} are the most")
    try:
        parse_hyperparameters(plan.static)
    except HyperparameterError as error:
        raise SearchError(f"the fixed values: {error}") from None

"""Check a tuning request for what the service refuses and its API model allows (contract B1, B2, B5, B7 to B11)."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from kennel.errors import SearchError
from kennel.metrics import value_pattern
from kennel.tuning.space import Parameter, parse_ranges, resources
from kennel_cli.platforms.validation import client_error, validate

OPERATION = "CreateHyperParameterTuningJob"
OBJECTIVE_KEY = "_tuning_objective_metric"  # the tuner adds it to every trial's hyperparameters (contract B4)
MAX_JOBS = 750  # training jobs of one search (contract B11)
MAX_RANDOM_JOBS = 10_000  # of a random one
MAX_PARALLEL = 100  # training jobs at a time; an account begins with 10 (contract B11)
MAX_HYPERPARAMETERS = 100  # static, tuned, and the tuner's own (contract B2)
MAX_RUNTIME = 30 * 24 * 3600  # seconds of one search (contract B11)


def validate_tuning(request: Mapping[str, Any]) -> None:
    """Check a CreateHyperParameterTuningJob request.

    Raises botocore's ParamValidationError or ClientError as `validate` does, and a ClientError (ValidationException)
    for what contradicts itself or goes beyond a limit.
    """
    validate(OPERATION, request)
    problems = list(_problems(request))
    if problems:
        raise client_error("ValidationException", "; ".join(problems), OPERATION)


def _problems(request: Mapping[str, Any]) -> Iterator[str]:
    config = request["HyperParameterTuningJobConfig"]
    definition = request.get("TrainingJobDefinition")
    if definition is None:
        yield "TrainingJobDefinition is missing; TrainingJobDefinitions and Autotune are not supported here"
        return
    for member in ("ParameterRanges", "HyperParameterTuningJobObjective"):
        if member not in config:
            yield f"{member} is missing in HyperParameterTuningJobConfig"
            return
    yield from _resource_problems(definition)
    if config["ParameterRanges"].get("AutoParameters"):
        yield "AutoParameters are not supported here; give each hyperparameter a range"
        return
    try:
        parameters = parse_ranges(config["ParameterRanges"])
    except SearchError as error:
        yield str(error)
        return
    static = definition.get("StaticHyperParameters", {})
    yield from _objective_problems(config, definition)
    yield from _space_problems(parameters, static)
    yield from _limit_problems(config)
    yield from _strategy_problems(config, parameters, static)


def _resource_problems(definition: Mapping[str, Any]) -> Iterator[str]:
    given = definition.get("HyperParameterTuningResourceConfig", {})
    if "ResourceConfig" not in definition and not given:
        yield "TrainingJobDefinition has neither ResourceConfig nor HyperParameterTuningResourceConfig"
    elif given and "InstanceType" not in given and not given.get("InstanceConfigs"):
        yield "HyperParameterTuningResourceConfig has neither InstanceType nor InstanceConfigs"


def _objective_problems(config: Mapping[str, Any], definition: Mapping[str, Any]) -> Iterator[str]:
    wanted = config["HyperParameterTuningJobObjective"]["MetricName"]
    definitions = definition["AlgorithmSpecification"].get("MetricDefinitions", [])
    defined = [entry["Name"] for entry in definitions]
    if wanted not in defined:
        known = ", ".join(defined) or "none"
        yield f"the objective metric {wanted} is not among the MetricDefinitions, which yield: {known}"
    for entry in definitions:
        if entry["Name"] == wanted and value_pattern(entry["Regex"]) is None:
            yield f"the Regex of {wanted}, {entry['Regex']!r}, is none or has no group, so that it can find no value"
    for name in sorted({name for name in defined if defined.count(name) > 1}):
        yield f"MetricDefinitions define {name} {defined.count(name)} times; define it once"


def _space_problems(parameters: tuple[Parameter, ...], static: Mapping[str, str]) -> Iterator[str]:
    if not parameters:
        yield "there is no range to search"
    both = sorted({parameter.name for parameter in parameters} & set(static))
    if both:
        yield f"{', '.join(both)}: given as a static hyperparameter and as a range; give one"
    count = len(parameters) + len({*static, OBJECTIVE_KEY})
    if count > MAX_HYPERPARAMETERS:
        yield f"{count} hyperparameters, with {OBJECTIVE_KEY}; {MAX_HYPERPARAMETERS} are the most"


def _limit_problems(config: Mapping[str, Any]) -> Iterator[str]:
    limits = config["ResourceLimits"]
    most = MAX_RANDOM_JOBS if config["Strategy"] == "Random" else MAX_JOBS
    if limits.get("MaxNumberOfTrainingJobs", 1) > most:
        jobs = limits["MaxNumberOfTrainingJobs"]
        yield f"MaxNumberOfTrainingJobs is {jobs}; {config['Strategy']} takes {most} at most"
    if limits["MaxParallelTrainingJobs"] > MAX_PARALLEL:
        yield f"MaxParallelTrainingJobs is {limits['MaxParallelTrainingJobs']}; {MAX_PARALLEL} is the most"
    if limits.get("MaxRuntimeInSeconds", 0) > MAX_RUNTIME:
        yield f"MaxRuntimeInSeconds is {limits['MaxRuntimeInSeconds']}; {MAX_RUNTIME} (30 days) is the most"


def _strategy_problems(
    config: Mapping[str, Any], parameters: tuple[Parameter, ...], static: Mapping[str, str]
) -> Iterator[str]:
    strategy, jobs = config["Strategy"], config["ResourceLimits"].get("MaxNumberOfTrainingJobs")
    if strategy == "Grid":
        yield from _grid_problems(parameters, jobs)
    elif jobs is None:
        yield f"MaxNumberOfTrainingJobs is missing; only Grid can do without, and the strategy is {strategy}"
    if strategy == "Hyperband":
        if config.get("TrainingJobEarlyStoppingType", "Off") != "Off":
            yield "TrainingJobEarlyStoppingType is Auto; Hyperband stops trials by itself, set it to Off"
        try:
            resources(config, static)
        except SearchError as error:
            yield str(error)
    elif "StrategyConfig" in config:
        yield f"StrategyConfig is Hyperband's, and the strategy is {strategy}; leave it out"


def _grid_problems(parameters: tuple[Parameter, ...], jobs: int | None) -> Iterator[str]:
    ranged = [parameter.name for parameter in parameters if parameter.kind != "Categorical"]
    if ranged:
        yield f"Grid tries every combination of categorical values; {', '.join(ranged)} has a range instead of values"
        return
    combinations = math.prod(len(parameter.values) for parameter in parameters)
    if combinations > MAX_JOBS:
        yield f"the grid has {combinations} combinations; {MAX_JOBS} are the most, leave out some values"
    elif jobs not in (None, combinations):
        yield f"MaxNumberOfTrainingJobs is {jobs}, and the grid has {combinations} combinations; leave it out"

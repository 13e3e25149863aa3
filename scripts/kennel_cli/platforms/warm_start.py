"""Whether a search can begin with what another has found (contract B10)."""

from collections.abc import Mapping
from typing import Any

_MOST_CHANGES = 10  # static hyperparameters that may differ from a parent's


def parents_of(request: Mapping[str, Any]) -> list[str]:
    """Return the names of the tuning jobs that a request begins from."""
    given = request.get("WarmStartConfig", {}).get("ParentHyperParameterTuningJobs", [])
    return [parent["HyperParameterTuningJobName"] for parent in given]


def static_of(request: Mapping[str, Any]) -> dict[str, str]:
    """Return the hyperparameters that all trials of a request share."""
    return dict(request["TrainingJobDefinition"].get("StaticHyperParameters", {}))


def difference(parent: Mapping[str, Any], child: Mapping[str, Any]) -> str:
    """Return why a search cannot begin with what another found, or ""."""
    statics = [static_of(request) for request in (parent, child)]
    objectives = [r["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"] for r in (parent, child)]
    names = [sorted({*(g["Name"] for g in ranges_of(r)), *s}) for r, s in zip((parent, child), statics, strict=True)]
    changed = [name for name in statics[0] if name in statics[1] and statics[0][name] != statics[1][name]]
    if objectives[0] != objectives[1]:
        return f"has the objective {objectives[0]}, this one {objectives[1]}; they have to be the same"
    if names[0] != names[1]:
        different = ", ".join(sorted({*names[0]} ^ {*names[1]}))
        return f"has other hyperparameters ({different}); static and tuned together have to be the same"
    if len(changed) > _MOST_CHANGES:
        return f"differs in {len(changed)} static hyperparameters; {_MOST_CHANGES} are the most"
    if child["WarmStartConfig"]["WarmStartType"] == "IdenticalDataAndAlgorithm":
        of = [_data_and_algorithm(request) for request in (parent, child)]
        if of[0] != of[1]:
            return "has other data or another image; use TransferLearning"
    return ""


def _data_and_algorithm(request: Mapping[str, Any]) -> tuple[Any, Any]:
    definition = request["TrainingJobDefinition"]
    return definition.get("InputDataConfig"), definition["AlgorithmSpecification"].get("TrainingImage")


def ranges_of(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the ranges of a request, of whatever kind."""
    ranges = request["HyperParameterTuningJobConfig"]["ParameterRanges"]
    return [given for member in ranges.values() for given in member]

"""Amazon SageMaker Debugger in a request: for accounts that still have the service (contract D1.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from kennel.errors import KennelError
from kennel.hyperparameters import Hyperparameters, parse_hyperparameters
from kennel.judging.choice import named_rules, parameters_of_debugger, parameters_of_profiler

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.type_defs import CreateTrainingJobRequestTypeDef, DebugRuleConfigurationTypeDef

# who holds `sagemaker-debugger-rules` in a region (contract D2.7); the accounts are those of AWS's own SDK
_ACCOUNTS = {
    "af-south-1": "314341159256",
    "ap-east-1": "199566480951",
    "ap-northeast-1": "430734990657",
    "ap-northeast-2": "578805364391",
    "ap-northeast-3": "364406365360",
    "ap-south-1": "904829902805",
    "ap-southeast-1": "972752614525",
    "ap-southeast-2": "184798709955",
    "ca-central-1": "519511493484",
    "cn-north-1": "618459771430",
    "cn-northwest-1": "658757709296",
    "eu-central-1": "482524230118",
    "eu-north-1": "314864569078",
    "eu-south-1": "563282790590",
    "eu-west-1": "929884845733",
    "eu-west-2": "250201462417",
    "eu-west-3": "447278800020",
    "me-south-1": "986000313247",
    "sa-east-1": "818342061345",
    "us-east-1": "503895931360",
    "us-east-2": "915447279597",
    "us-gov-west-1": "515509971035",
    "us-west-1": "685455198987",
    "us-west-2": "895741380848",
}
_REGION = re.compile(r"\.ecr(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?/")
_COLLECTIONS = ("losses", "weights", "gradients", "biases", "relu_input", "relu_output")
_MOST_RULES = 20  # contract D2.7
_INTERVAL = 500  # milliseconds between two samples of the machine (contract D2.5)


def add_debugger(request: CreateTrainingJobRequestTypeDef) -> None:
    """Let the service save tensors of the job, judge them by the job's own rules, and profile the machine.

    Raises KennelError in a region without the service.
    """
    image = _rules_image(request["AlgorithmSpecification"]["TrainingImage"])
    folder = request["OutputDataConfig"]["S3OutputPath"]  # the service appends the job, and `debug-output`
    request["DebugHookConfig"] = {
        "S3OutputPath": folder,
        "HookParameters": {"train.save_interval": "100", "eval.save_interval": "10"},
        "CollectionConfigurations": [{"CollectionName": name} for name in _COLLECTIONS],
    }
    hp = parse_hyperparameters(request.get("HyperParameters", {}))
    rules = _rules(hp)
    request["DebugRuleConfigurations"] = [_rule(name, image, given) for name, given in rules.items()][:_MOST_RULES]
    request["ProfilerConfig"] = {"S3OutputPath": folder, "ProfilingIntervalInMilliseconds": _INTERVAL}
    of_profiler = dict(_pair(part) for part in parameters_of_profiler(hp.rule_parameters))
    # it runs all the others, and has their parameters by the same names (contract D4)
    request["ProfilerRuleConfigurations"] = [_rule("ProfilerReport", image, of_profiler)]


def _rule(name: str, image: str, parameters: Mapping[str, str]) -> DebugRuleConfigurationTypeDef:
    return {
        "RuleConfigurationName": name,
        "RuleEvaluatorImage": image,
        "RuleParameters": {"rule_to_invoke": name, **parameters},
    }


def _rules(hp: Hyperparameters) -> dict[str, dict[str, str]]:
    """Return the job's own rules by the names that the service has for them, with the parameters that were given."""
    given = [_pair(part) for part in parameters_of_debugger(hp.rule_parameters)]
    return {
        "".join(word.capitalize() for word in name.split("_")): {
            key.removeprefix(f"{name}_"): value for key, value in given if key.startswith(f"{name}_")
        }
        for name in named_rules(hp.rules)
    }


def _pair(part: str) -> tuple[str, str]:
    key, _, value = part.partition("=")
    return key.strip(), value.strip()


def _rules_image(training_image: str) -> str:
    """Return the image of the service's rules in the region of the job, which is that of the job's own image."""
    found = _REGION.search(training_image)
    region, suffix = (found[1], found[2] or "") if found else ("", "")
    if region not in _ACCOUNTS:
        raise KennelError(
            f"Amazon SageMaker Debugger has no rules in {region or 'the region of ' + training_image}; leave out "
            "--aws-debugger: the job judges itself, and its report says what the rules found"
        )
    return f"{_ACCOUNTS[region]}.dkr.ecr.{region}.amazonaws.com{suffix}/sagemaker-debugger-rules:latest"

"""The rules by AWS's names and parameters, with both of AWS's sets of defaults (contract D4).

They are judged once, when the training has ended, so AWS's `scan_interval_us` has no meaning here.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from kennel.errors import HyperparameterError, RuleError
from kennel.judging.choice import parameters_of_profiler
from kennel.judging.rule import Rule
from kennel.judging.rules import Rules
from kennel.profiler.profile import Profile
from kennel.profiler.rules.bottlenecks import CPUBottleneck, IOBottleneck
from kennel.profiler.rules.gpus import BatchSize, GPUMemoryIncrease, LoadBalancing, LowGPUUtilization
from kennel.profiler.rules.overall import OverallFrameworkMetrics, OverallSystemUsage
from kennel.profiler.rules.steps import Dataloader, MaxInitializationTime, StepOutlier

RULES: Rules[Profile] = Rules(
    LowGPUUtilization,
    BatchSize,
    CPUBottleneck,
    IOBottleneck,
    GPUMemoryIncrease,
    LoadBalancing,
    MaxInitializationTime,
    OverallSystemUsage,
    OverallFrameworkMetrics,
    StepOutlier,
    Dataloader,
)

# the classes have the defaults that AWS's SDK sends; its documentation names these
DOCUMENTED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "BatchSize": {"patience": 100},
        "CPUBottleneck": {"patience": 100},
        "IOBottleneck": {"gpu_threshold": 70.0},
        "GPUMemoryIncrease": {"increase": 10.0, "patience": 100, "window": 500},
        "LoadBalancing": {"patience": 10},
        "StepOutlier": {"stddev": 5.0},
    }
)


def choose_rules(preset: str, parameters: str = "") -> list[Rule[Profile]]:
    """Return all rules as the hyperparameters `profiler_preset` and `rule_parameters` ask for them.

    Their defaults are those of AWS's `sdk`, or of its documentation (`documented`). Raises HyperparameterError for a
    rule or a parameter that is not known, and for a value that is not allowed.
    """
    defaults = DOCUMENTED if preset == "documented" else {}
    try:
        given = RULES.parameters_by_rule(parameters_of_profiler(parameters))
        return [
            RULES.make(name, {k: str(v) for k, v in defaults.get(name, {}).items()} | given.get(name, {}))
            for name in RULES
        ]
    except RuleError as error:
        raise HyperparameterError(f"rule_parameters: {error}") from error


def markdown_table() -> str:
    """Return the table of all rules that stands in the README, and what the documented defaults have otherwise."""
    differing = "; ".join(
        f"`{rule}` {', '.join(f'`{name}` {value:g}' for name, value in values.items())}"
        for rule, values in DOCUMENTED.items()
    )
    return f"{RULES.markdown_table()}\n\n`profiler_preset=documented`: {differing}."

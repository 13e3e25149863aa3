"""Kennel's own training as a container is asked for it: the job, and how its lines reach the log."""

import logging
import sys
from dataclasses import replace

from kennel.container.environment import TrainingEnvironment
from kennel.hyperparameters import OBJECTIVE, SEARCH, parse_hyperparameters
from kennel.training.job import Job


def read_job(given: TrainingEnvironment) -> Job:
    """Return the job that the configuration files describe. Raises HyperparameterError for bad hyperparameters."""
    from kennel.debugger import choice as debugger  # noqa: PLC0415 - it brings numpy's threads, see `keep_sigterm`
    from kennel.profiler import rules as profiler  # noqa: PLC0415 - as above

    values = {name: value for name, value in given.hyperparameters.items() if name != SEARCH}
    hyperparameters = parse_hyperparameters(values)
    if OBJECTIVE in given.hyperparameters:  # a trial: of many, few are ever served
        hyperparameters = replace(hyperparameters, export="none")
    # bad rules are refused before anything begins
    debugger.choose_rules(hyperparameters.rules, hyperparameters.rule_parameters)
    profiler.choose_rules(hyperparameters.profiler_preset, hyperparameters.rule_parameters)
    return Job(
        hyperparameters=hyperparameters,
        channels=given.channels,
        model_dir=given.folders.model,
        output_dir=given.folders.output_data,
        cache_dir=given.cache_dir,
        weights_dir=given.weights_dir,
        name=given.job_name,
        checkpoint_dir=given.checkpoint_dir,
        tensorboard_dir=given.tensorboard_dir,
    )


def log_plain_lines(rank: int = 0) -> None:
    """Let Kennel's own lines reach the log as they are, without the toolkit's prefix: metrics are read from them.

    Of several processes only the first says how it goes (contract B6); the others' warnings begin with their rank.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s" if rank == 0 else f"rank {rank}: %(message)s"))
    ours = logging.getLogger("kennel")
    ours.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    ours.propagate = False
    ours.addHandler(handler)

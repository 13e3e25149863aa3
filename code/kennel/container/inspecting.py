"""The debugger of a job, as its hyperparameters and configuration files ask for it."""

from kennel.debugger.choice import choose_rules
from kennel.debugger.inspector import Inspector
from kennel.debugger.verdicts import Verdicts
from kennel.hyperparameters import DEFAULT_RULES
from kennel.training.job import Job
from kennel.training.progress import StopSignal


def make_inspector(job: Job, stop: StopSignal) -> Inspector:
    """Return who looks at the tensors of a job, and sets `stop` for the rules where the job asks for that."""
    hp = job.hyperparameters
    rules = choose_rules(hp.rules, hp.rule_parameters)

    def on_issue(name: str) -> None:
        if hp.rule_action == "stop_training":
            stop.set(f"rule {name}")

    return Inspector(rules, Verdicts(rules, hp.rules != DEFAULT_RULES, job.output_dir, on_issue))

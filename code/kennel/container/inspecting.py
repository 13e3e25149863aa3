"""The debugger of a job, as its hyperparameters and configuration files ask for it."""

from pathlib import Path

from kennel.container.environment import DEBUG_CONFIG, TENSORS, TrainingEnvironment, read_json_object, variable
from kennel.debugger.choice import choose_rules
from kennel.debugger.hook import TensorHook
from kennel.debugger.inspector import Inspector
from kennel.debugger.verdicts import Verdicts
from kennel.harmless import harmless
from kennel.judging.choice import are_asked_for
from kennel.training.job import Job
from kennel.training.progress import StopSignal


def make_inspector(job: Job, given: TrainingEnvironment, stop: StopSignal) -> Inspector:
    """Return who looks at the tensors of a job, and sets `stop` for the rules where the job asks for that."""
    hp = job.hyperparameters
    rules = choose_rules(hp.rules, hp.rule_parameters)

    def on_issue(name: str) -> None:
        if hp.rule_action == "stop_training":
            stop.set(f"rule {name}")

    verdicts = Verdicts(rules, are_asked_for(hp.rules), job.output_dir, on_issue)
    return Inspector(rules, verdicts, _saver(hp.debugger, given))


def _saver(debugger: str, given: TrainingEnvironment) -> TensorHook | None:
    """Return what saves tensors, where the job asks for it; nothing, with a warning, where that cannot be."""
    file = Path(variable(DEBUG_CONFIG, str(given.folders.debug_config)))
    if debugger != "on" and not file.exists():
        return None
    with harmless("tensors cannot be saved", "training goes on without that"):
        config = read_json_object(file)
        return TensorHook(config, given.folders.place(str(config.get("LocalPath", TENSORS))))
    return None

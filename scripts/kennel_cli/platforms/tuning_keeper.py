"""The background process that runs one local tuning job: it proposes trials, starts them, and learns from their ends.

All that it knows is in files: the proposals in Optuna's storage, the trials in the training jobs' own folders. Killed
at any moment and started again, it goes on.
"""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from kennel.errors import KennelError
from kennel.hyperparameters import default_values
from kennel.metrics import metric_curve
from kennel.tuning.search import Prior, Proposal, Search
from kennel_cli.platforms.choice import LOCAL, WARM
from kennel_cli.platforms.local import LocalSageMaker
from kennel_cli.platforms.logs import new_lines
from kennel_cli.platforms.platform import RUNNING
from kennel_cli.platforms.records import Record, last_lines, now
from kennel_cli.platforms.responses import GONE
from kennel_cli.platforms.trials import FINAL
from kennel_cli.platforms.warm import warm_up
from kennel_cli.platforms.warm_start import parents_of, static_of

POLL = 0.05  # seconds between two looks at the trials
GIVE_UP = 3  # trials that failed, with none that succeeded: the others would fail alike
_PROGRAM = "sagemaker_program"  # the hyperparameter that names a script for the toolkit to run (contract A5.1)
STAGNATION = 30  # trials without a better objective after which a search counts as converged (Optuna's own default)


@dataclass
class _Trial:
    """A training job that runs."""

    number: int
    job: str
    curve: list[float] = field(default_factory=list)  # its objective after each epoch
    position: int = 0  # in its log
    stopped: bool = False  # asked to stop by us


class Tuner:
    """One search, from its request to its end."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._request = record.request()
        self._config = self._request["HyperParameterTuningJobConfig"]
        self._objective = self._config["HyperParameterTuningJobObjective"]
        self._maximize = self._objective["Type"] == "Maximize"
        self._warm = record.runner() == LOCAL
        self._sagemaker = LocalSageMaker(record.home, WARM if self._warm else record.runner())
        self._running: dict[int, _Trial] = {}
        self._curves: list[list[float]] = []  # of the trials that ended
        self._values: list[float] = []  # their objectives, in the order of their ends
        self._failed: list[str] = []  # why trials have no objective
        self._unseen = ""  # why one that completed has none
        self._static = self._request["TrainingJobDefinition"].get("StaticHyperParameters", {})
        self._search = Search(
            self._config,
            self._static,
            default_values(),
            self._priors(),
            record.folder / "search.sqlite",
        )

    def run(self) -> None:
        """Run the search to its end, and write its status as it goes."""
        if self._warm:
            warm_up(is_script=_PROGRAM in self._static)
        self._recover()
        status, reason = self._search_on()
        if self._running:
            self._record.update(HyperParameterTuningJobStatus="Stopping")
            self._stop_all()
        if not self._values and not reason and status == "Completed":
            status, reason = "Failed", f"No training job has succeeded. {self._failed[0]}" if self._failed else ""
        ended = {"FailureReason": reason[:1024]} if reason else {}
        self._record.update(
            HyperParameterTuningJobStatus=status,
            HyperParameterTuningEndTime=now(),
            TuningJobCompletionDetails=self._completion_details(),
            **ended,
        )

    def _search_on(self) -> tuple[str, str]:
        """Start and watch trials until there is a reason to end; return the status to end with, and why it failed."""
        deadline = self._deadline()
        exhausted = False
        while True:
            self._watch()
            if self._record.is_asked_to_stop() or time.time() > deadline:
                return "Stopped", ""
            if reason := self._failure():
                return "Failed", reason
            if self._is_complete():
                return "Completed", ""
            while not exhausted and len(self._running) < self._config["ResourceLimits"]["MaxParallelTrainingJobs"]:
                exhausted = not self._start_next()
            if exhausted and not self._running:
                return "Completed", ""
            time.sleep(POLL)

    def _start_next(self) -> bool:
        """Start one more trial; return whether there was one to start."""
        most = self._config["ResourceLimits"].get("MaxNumberOfTrainingJobs")
        if most is not None and len(self._running) + len(self._values) + len(self._failed) >= most:
            return False
        proposal = self._search.propose()
        if proposal is None:
            return False
        self._start(proposal)
        return True

    def _start(self, proposal: Proposal) -> None:
        job = self._sagemaker.start_trial(self._record.name, proposal.number, proposal.values, self._warm)
        self._running[proposal.number] = _Trial(proposal.number, job)

    def _recover(self) -> None:
        """Take up the trials of a tuner that died here: those that run go on, those that ended are not run again."""
        unfinished = self._search.unfinished()
        numbers = {proposal.number for proposal in unfinished}
        for summary in self._summaries():
            number = int(summary["TrainingJobName"].removeprefix(f"{self._record.name}-").split("-")[0])
            if number not in numbers:
                self._note_end(_Trial(number, summary["TrainingJobName"]), summary)
        for proposal in unfinished:
            self._start(proposal)

    def _watch(self) -> None:
        """Read what the running trials printed, stop the hopeless ones, and learn from those that ended."""
        for trial in list(self._running.values()):
            description = self._sagemaker.describe_training_job(TrainingJobName=trial.job)
            ended = description["TrainingJobStatus"] not in RUNNING
            self._read_log(trial)
            if ended:
                del self._running[trial.number]
                [summary] = [s for s in self._summaries() if s["TrainingJobName"] == trial.job]
                self._search.finish(trial.number, self._note_end(trial, summary))
            elif not trial.stopped and self._search.is_hopeless(trial.number, trial.curve, self._curves):
                self._stop(trial)

    def _note_end(self, trial: _Trial, summary: Mapping[str, Any]) -> float | None:
        """Remember how a trial ended, and return its objective."""
        self._read_log(trial)
        if summary["ObjectiveStatus"] == "Succeeded":
            value: float = summary[FINAL]["Value"]
            self._values.append(value)
            self._curves.append(trial.curve)
            return value
        if summary["TrainingJobStatus"] == "Failed":
            self._failed.append(f"{trial.job}: {summary.get('FailureReason', '')}")
        elif trial.stopped or summary["TrainingJobStatus"] == "Stopped":
            self._failed.append(f"{trial.job}: it was stopped before it had printed {self._objective['MetricName']}")
        else:
            lines = last_lines(self._sagemaker.training_log(trial.job), 5)
            self._unseen = (
                f"{trial.job}: its log holds no value of {self._objective['MetricName']}, which {self._regex()!r} "
                f"should find. The last lines of the log:\n{lines}"
            )
            self._failed.append(self._unseen)
        return None

    def _read_log(self, trial: _Trial) -> None:
        lines, trial.position = new_lines(self._sagemaker.training_log(trial.job), trial.position)
        trial.curve += metric_curve(lines, self._regex())

    def _regex(self) -> str:
        definitions = self._request["TrainingJobDefinition"]["AlgorithmSpecification"]["MetricDefinitions"]
        return str(next(d["Regex"] for d in definitions if d["Name"] == self._objective["MetricName"]))

    def _failure(self) -> str:
        """Return why the search has no sense any more, or ""."""
        failed = [reason for reason in self._failed if not reason.endswith(GONE)]  # the others may be as good as any
        if self._values or not failed:
            return ""
        if self._unseen:
            return f"The objective was not found: {self._unseen}"
        if len(failed) >= GIVE_UP:
            return f"The first {len(failed)} training jobs failed, the first of them, {failed[0]}"
        return ""

    def _is_complete(self) -> bool:
        """Return whether a completion criterion is met (contract B9)."""
        criteria = self._config.get("TuningJobCompletionCriteria", {})
        target = criteria.get("TargetObjectiveMetricValue")
        if target is not None and any(v >= target if self._maximize else v <= target for v in self._values):
            return True
        patience = criteria.get("BestObjectiveNotImproving", {}).get("MaxNumberOfTrainingJobsNotImproving")
        if patience is not None and self._not_improving() >= patience:
            return True
        return self._is_converged()

    def _is_converged(self) -> bool:
        given = self._config.get("TuningJobCompletionCriteria", {}).get("ConvergenceDetected", {})
        return given.get("CompleteOnConvergence") == "Enabled" and self._not_improving() >= STAGNATION

    def _not_improving(self) -> int:
        """Return how many trials have ended since the best one."""
        if not self._values:
            return 0
        best = max(self._values) if self._maximize else min(self._values)
        return len(self._values) - 1 - self._values.index(best)

    def _completion_details(self) -> dict[str, Any]:
        details: dict[str, Any] = {"NumberOfTrainingJobsObjectiveNotImproving": self._not_improving()}
        return {**details, "ConvergenceDetectedTime": now()} if self._is_converged() else details

    def _stop_all(self) -> None:
        """Stop the running trials, and wait for their ends."""
        for trial in self._running.values():
            self._stop(trial)
        while self._running:
            self._watch()
            time.sleep(POLL)

    def _stop(self, trial: _Trial) -> None:
        trial.stopped = True
        self._sagemaker.stop_unless_ended(trial.job)

    def _deadline(self) -> float:
        """Return when the search has to end, in seconds since 1970."""
        began = datetime.fromisoformat(self._record.status()["CreationTime"])
        limit = self._config["ResourceLimits"].get("MaxRuntimeInSeconds", math.inf)
        return float(began.timestamp() + limit)

    def _summaries(self) -> Sequence[dict[str, Any]]:
        return list(self._sagemaker.trials(self._record.name))

    def _priors(self) -> list[Prior]:
        """Return what the parents of a warm start found (contract B10)."""
        return [
            # what is tuned here may have been static there
            Prior(
                {**static_of(self._sagemaker.tuning_request(parent)), **trial["TunedHyperParameters"]},
                trial[FINAL]["Value"],
            )
            for parent in parents_of(self._request)
            for trial in self._sagemaker.trials(parent)
            if FINAL in trial
        ]


def main(folder: Path) -> None:
    """Keep the tuning job in `folder`; whatever happens, its status says how it ended."""
    record = Record(folder)
    try:
        Tuner(record).run()
    except Exception as error:
        logging.exception("the tuner failed")
        ours = "" if isinstance(error, KennelError) else "InternalServerError: "
        reason = f"{ours}{type(error).__name__}: {error}; see {record.folder / 'keeper.log'}"
        record.update(
            HyperParameterTuningJobStatus="Failed", HyperParameterTuningEndTime=now(), FailureReason=reason[:1024]
        )
        LocalSageMaker(record.home).stop_trials(record.name)  # nobody waits for them any more

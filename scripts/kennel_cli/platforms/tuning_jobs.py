"""The part of LocalSageMaker that tunes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kennel_cli.platforms.detach import start_detached
from kennel_cli.platforms.platform import RUNNING
from kennel_cli.platforms.records import Record, now
from kennel_cli.platforms.responses import ACCOUNT, GONE, Response, cut, page, response, summaries
from kennel_cli.platforms.training_jobs import TRAINING_KEEPER, TrainingJobs, training_status
from kennel_cli.platforms.trials import FINAL, best_trial, final_objective, trial_request
from kennel_cli.platforms.tuning_validation import OPERATION, validate_tuning
from kennel_cli.platforms.validation import client_error, validate
from kennel_cli.platforms.warm import fork_keeper
from kennel_cli.platforms.warm_start import difference, parents_of, ranges_of

_KEEPER = "kennel_cli.platforms.tuning_keeper"
_SUMMARY = (
    "HyperParameterTuningJobArn",
    "HyperParameterTuningJobStatus",
    "Strategy",
    "CreationTime",
    "LastModifiedTime",
    "HyperParameterTuningEndTime",
    "ResourceLimits",
)
_COUNTERS = ("TrainingJobStatusCounters", "ObjectiveStatusCounters")
_TRIAL = (
    "TrainingJobArn",
    "CreationTime",
    "TrainingStartTime",
    "TrainingEndTime",
    "TrainingJobStatus",
    "FailureReason",
)


class TuningJobs(TrainingJobs):
    """Hyperparameter tuning jobs with the methods, requests, responses and errors of boto3's client."""

    def create_hyper_parameter_tuning_job(self, **request: Any) -> Response:
        """Start a search. Raises ClientError for what the service refuses, and when the name is taken."""
        validate_tuning(request)
        for parent in parents_of(request):
            self._check_parent(parent, request)
        record = self._tuning_job(request["HyperParameterTuningJobName"])
        arn = f"{ACCOUNT}:hyper-parameter-tuning-job/{record.name}"
        status = {"HyperParameterTuningJobArn": arn, "HyperParameterTuningJobStatus": "InProgress"}
        try:
            record.create(request, status, _KEEPER, self.runner)
        except FileExistsError:
            message = "Tuning job names must be unique within an AWS account and Region, or this machine."
            raise client_error("ResourceInUse", message, OPERATION) from None
        return response({"HyperParameterTuningJobArn": arn})

    def describe_hyper_parameter_tuning_job(self, **request: Any) -> Response:
        """Return the job's request, its status, its counters and its best training job."""
        validate("DescribeHyperParameterTuningJob", request)
        record = self._existing(request["HyperParameterTuningJobName"], "DescribeHyperParameterTuningJob")
        asked, status, trials = record.request(), _tuning_status(record), list(self._trials(record))
        description = {**asked, **status, **_counters(trials)}
        objective = asked["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]
        if best := best_trial(trials, objective["Type"]):
            description["BestTrainingJob"] = best
        if asked.get("WarmStartConfig", {}).get("WarmStartType") == "IdenticalDataAndAlgorithm":
            inherited = [trial for parent in parents_of(asked) for trial in self._trials(self._tuning_job(parent))]
            if best := best_trial([*inherited, *trials], objective["Type"]):
                description["OverallBestTrainingJob"] = best
        return response(description)

    def list_hyper_parameter_tuning_jobs(self, **request: Any) -> Response:
        """Return summaries of tuning jobs: newest first, by name or status if so asked, in pages."""
        validate("ListHyperParameterTuningJobs", request)
        kind = "HyperParameterTuningJob"
        items = summaries(self.home / "tuning-jobs", kind, self._summary, (*_SUMMARY, *_COUNTERS))
        return page("HyperParameterTuningJobSummaries", items, kind, request)

    def list_training_jobs_for_hyper_parameter_tuning_job(self, **request: Any) -> Response:
        """Return a tuning job's training jobs: by name, status, time or final objective, in pages."""
        operation = "ListTrainingJobsForHyperParameterTuningJob"
        validate(operation, request)
        record = self._existing(request["HyperParameterTuningJobName"], operation)
        trials = list(self._trials(record))
        if "StatusEquals" in request:
            trials = [trial for trial in trials if trial["TrainingJobStatus"] == request["StatusEquals"]]
        order = request.get("SortBy", "Name")
        if order == "FinalObjectiveMetricValue":
            trials = [trial for trial in trials if FINAL in trial]  # as the service: jobs without one are left out
            trials.sort(key=lambda trial: trial[FINAL]["Value"])
        else:
            key = {"Name": "TrainingJobName", "Status": "TrainingJobStatus"}.get(order, "CreationTime")
            trials.sort(key=lambda trial: (trial[key], trial["TrainingJobName"]))
        if request.get("SortOrder", "Ascending") == "Descending":
            trials.reverse()
        return cut("TrainingJobSummaries", trials, request)

    def stop_hyper_parameter_tuning_job(self, **request: Any) -> Response:
        """Ask a tuning job to stop: it starts no more training jobs, and stops those that run."""
        validate("StopHyperParameterTuningJob", request)
        record = self._existing(request["HyperParameterTuningJobName"], "StopHyperParameterTuningJob")
        status = record.status()["HyperParameterTuningJobStatus"]
        if status not in RUNNING:
            message = f"The request was rejected because the tuning job is in status {status}."
            raise client_error("ValidationException", message, "StopHyperParameterTuningJob")
        record.ask_to_stop()
        if not record.is_kept():  # its tuner was killed: nobody else would stop the trials
            self.stop_trials(record.name)
            record.update(HyperParameterTuningJobStatus="Stopped", HyperParameterTuningEndTime=now())
        return response({})

    def resume_hyper_parameter_tuning_job(self, name: str) -> None:
        """Start the tuner of a tuning job again, after it was killed or the machine was restarted. Not in boto3.

        It goes on where it was: training jobs that ended are not run again. Raises ClientError when it has ended or
        runs still.
        """
        record = self._existing(name, "ResumeHyperParameterTuningJob")
        status = record.status()["HyperParameterTuningJobStatus"]
        try:
            if status not in RUNNING:
                raise BlockingIOError
            record.restart(_KEEPER)
        except BlockingIOError:
            message = f"The tuning job {name} is {status} and needs no tuner."
            raise client_error("ValidationException", message, "ResumeHyperParameterTuningJob") from None

    def start_trial(self, tuning_job: str, number: int, values: Mapping[str, str], warm: bool) -> str:
        """Start training job `number` of a tuning job, unless it was started before; return its name. Not in boto3.

        `values` are the tuned hyperparameters. A `warm` one is a fork of this process.
        """
        record = self._tuning_job(tuning_job)
        request = trial_request(record.request(), number, values)
        name: str = request["TrainingJobName"]
        job = self._training_job(name)
        if job.exists():
            if job.status()["SecondaryStatus"] == "Starting" and not job.is_kept():
                job.restart(TRAINING_KEEPER)  # the tuner that made it died before anybody kept it
        else:
            arn = record.status()["HyperParameterTuningJobArn"]
            self._create_training_job(request, fork_keeper if warm else start_detached, TuningJobArn=arn)
        return name

    def stop_trials(self, tuning_job: str) -> None:
        """Stop the training jobs of a tuning job that run. Not in boto3."""
        for trial in self.trials(tuning_job):
            self.stop_unless_ended(trial["TrainingJobName"])

    def tuning_request(self, name: str) -> Response:
        """Return the request of a tuning job. Not in boto3."""
        return self._tuning_job(name).request()

    def tuning_folder(self, name: str) -> Path:
        """Return the folder of a tuning job. Not in boto3."""
        return self._tuning_job(name).folder

    def _tuning_job(self, name: str) -> Record:
        return Record(self.home / "tuning-jobs" / name)

    def _existing(self, name: str, operation: str) -> Record:
        record = self._tuning_job(name)
        if not record.exists():
            raise client_error("ResourceNotFound", f"Requested tuning job {name} not found.", operation)
        return record

    def _check_parent(self, parent: str, request: Mapping[str, Any]) -> None:
        """Raise ClientError unless a search can begin with what `parent` found (contract B10)."""
        problem = ""
        record = self._tuning_job(parent)
        if not record.exists():
            problem = f"there is no tuning job {parent}"
        elif (status := _tuning_status(record)["HyperParameterTuningJobStatus"]) in RUNNING:
            problem = f"{parent} is {status}; a parent has to have ended"
        else:
            problem = difference(record.request(), request)
            problem = problem and f"{parent} {problem}"
        if problem:
            raise client_error("ValidationException", f"WarmStartConfig: {problem}", OPERATION)

    def trials(self, name: str) -> Iterator[Response]:
        """Yield summaries of all training jobs of a tuning job, in the order of their numbers. Not in boto3."""
        yield from self._trials(self._tuning_job(name))

    def _trials(self, record: Record) -> Iterator[Response]:
        """Yield summaries of the training jobs of a tuning job, as the service gives them."""
        request, arn = record.request(), record.status()["HyperParameterTuningJobArn"]
        tuned = {given["Name"] for given in ranges_of(request)}
        objective = request["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]
        form = re.compile(re.escape(record.name) + r"-(\d{3,})-[0-9a-f]{8}")
        named = [
            (form.fullmatch(entry.name), entry) for entry in (self.home / "training-jobs").glob(f"{record.name}-*")
        ]
        for _, entry in sorted((int(match[1]), entry) for match, entry in named if match):
            trial = Record(entry)
            status = training_status(trial)
            if status.get("TuningJobArn") != arn:
                continue
            given = trial.request()["HyperParameters"]
            yield {
                "TrainingJobDefinitionName": request["TrainingJobDefinition"].get("DefinitionName", record.name),
                "TrainingJobName": trial.name,
                "TuningJobName": record.name,
                **{key: status[key] for key in _TRIAL if key in status},
                "TunedHyperParameters": {name: value for name, value in given.items() if name in tuned},
                **final_objective(status, objective),
            }

    def _summary(self, record: Record) -> Response:
        config = record.request()["HyperParameterTuningJobConfig"]
        return {
            **_tuning_status(record),
            **{key: config[key] for key in ("Strategy", "ResourceLimits")},
            **_counters(list(self._trials(record))),
        }


def _counters(trials: Sequence[Response]) -> Response:
    """Return how many of a tuning job's training jobs are in which state (contract B11)."""
    statuses = [trial["TrainingJobStatus"] for trial in trials]
    objectives = [trial["ObjectiveStatus"] for trial in trials]
    return {
        "TrainingJobStatusCounters": {
            "Completed": statuses.count("Completed"),
            "InProgress": sum(status in RUNNING for status in statuses),
            "RetryableError": 0,
            "NonRetryableError": statuses.count("Failed"),
            "Stopped": statuses.count("Stopped"),
        },
        "ObjectiveStatusCounters": {status: objectives.count(status) for status in ("Succeeded", "Pending", "Failed")},
    }


def _tuning_status(record: Record) -> Response:
    kept = record.is_kept()  # before the status is read: a keeper that ended meanwhile has written how
    status = record.status()
    if status["HyperParameterTuningJobStatus"] in RUNNING:
        if not kept:
            reason = f"{GONE}; `kennel tune --resume {record.name}` goes on"
            return {**status, "HyperParameterTuningJobStatus": "Failed", "FailureReason": reason}
        if record.is_asked_to_stop():
            return {**status, "HyperParameterTuningJobStatus": "Stopping"}
    return status

"""The part of LocalSageMaker that trains."""

import contextlib
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from kennel_cli.platforms.detach import StartKeeper, start_detached
from kennel_cli.platforms.platform import RUNNING
from kennel_cli.platforms.records import Record
from kennel_cli.platforms.responses import ACCOUNT, Response, job_status, page, response, summaries
from kennel_cli.platforms.validation import client_error, validate

TRAINING_KEEPER = "kennel_cli.platforms.training_keeper"


class TrainingJobs:
    """Training jobs with the methods, requests, responses and errors of boto3's client."""

    home: Path
    runner: str

    def create_training_job(self, **request: Any) -> Response:
        """Start a training job. Raises ClientError (ResourceInUse) when the name is taken."""
        return self._create_training_job(request, start_detached)

    def _create_training_job(self, request: Response, start: StartKeeper, **known: str) -> Response:
        """Start a training job whose description holds `known` too."""
        validate("CreateTrainingJob", request)
        record = self._training_job(request["TrainingJobName"])
        arn = f"{ACCOUNT}:training-job/{record.name}"
        status = {"TrainingJobArn": arn, "TrainingJobStatus": "InProgress", "SecondaryStatus": "Starting", **known}
        try:
            record.create(request, status, TRAINING_KEEPER, self.runner, start)
        except FileExistsError:
            message = "Training job names must be unique within an AWS account and Region, or this machine."
            raise client_error("ResourceInUse", message, "CreateTrainingJob") from None
        return response({"TrainingJobArn": arn})

    def describe_training_job(self, **request: Any) -> Response:
        """Return the job's request and status."""
        validate("DescribeTrainingJob", request)
        record = self._training_job(request["TrainingJobName"])
        if not record.exists():
            raise client_error("ValidationException", "Requested resource not found.", "DescribeTrainingJob")
        return response({**record.request(), **training_status(record)})

    def list_training_jobs(self, **request: Any) -> Response:
        """Return summaries of jobs: newest first, by name or status if so asked, in pages."""
        validate("ListTrainingJobs", request)
        keys = ("TrainingJobArn", "CreationTime", "LastModifiedTime", "TrainingEndTime", "TrainingJobStatus")
        items = summaries(self.home / "training-jobs", "TrainingJob", training_status, keys)
        return page("TrainingJobSummaries", items, "TrainingJob", request)

    def stop_training_job(self, **request: Any) -> Response:
        """Ask a job to stop: SIGTERM, then SIGKILL after 120 seconds."""
        validate("StopTrainingJob", request)
        status = self.describe_training_job(**request)["TrainingJobStatus"]
        if status not in RUNNING:
            message = f"The request was rejected because the training job is in status {status}."
            raise client_error("ValidationException", message, "StopTrainingJob")
        self._training_job(request["TrainingJobName"]).ask_to_stop()
        return response({})

    def stop_unless_ended(self, name: str) -> None:
        """Ask a job to stop; one that has ended, perhaps since somebody looked, is left alone. Not in boto3."""
        with contextlib.suppress(ClientError):
            self.stop_training_job(TrainingJobName=name)

    def training_folder(self, name: str) -> Path:
        """Return the folder of a job, with its log and its `/opt/ml`. Not in boto3."""
        return self._training_job(name).folder

    def training_log(self, name: str) -> Path:
        """Return the log of a training job, there or not. Not in boto3."""
        return self._training_job(name).log

    def _training_job(self, name: str) -> Record:
        return Record(self.home / "training-jobs" / name)


def training_status(record: Record) -> Response:
    """Return the status that a description of a training job shows; see `job_status`."""
    return job_status(record, "TrainingJobStatus", "SecondaryStatus")

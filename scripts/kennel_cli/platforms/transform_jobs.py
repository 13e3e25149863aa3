"""The part of LocalSageMaker that transforms batches."""

from pathlib import Path
from typing import Any

from kennel_cli.platforms.hosting import Hosting
from kennel_cli.platforms.platform import RUNNING
from kennel_cli.platforms.records import Record
from kennel_cli.platforms.responses import ACCOUNT, Response, job_status, page, response, summaries
from kennel_cli.platforms.store import LocalStore
from kennel_cli.platforms.validation import client_error, validate

_KEEPER = "kennel_cli.platforms.transform_keeper"
_ONLY = {  # what each object being one record of its own means in a request
    "BatchStrategy": ("SingleRecord",),
    "SplitType": ("None",),
    "CompressionType": ("None",),
    "AssembleWith": ("None",),
    "S3DataType": ("S3Prefix",),
    "InstanceCount": (1,),
}
_ABSENT = ("DataProcessing", "DataCaptureConfig", "ExperimentConfig")
_SUMMARY = (
    "TransformJobArn",
    "CreationTime",
    "TransformEndTime",
    "LastModifiedTime",
    "TransformJobStatus",
    "FailureReason",
)


class TransformJobs(Hosting):
    """Batch transform jobs with the methods, requests, responses and errors of boto3's client."""

    store: LocalStore

    def create_transform_job(self, **request: Any) -> Response:
        """Start a batch transform job.

        Raises ClientError when the name is taken, there is no such model, or for what is not available locally: files
        of several records, several machines, joined answers, data capture.
        """
        operation = "CreateTransformJob"
        validate(operation, request)
        self._check(request, operation)
        container = self.describe_model(ModelName=request["ModelName"]).get("PrimaryContainer", {})
        record = self._transform_job(request["TransformJobName"])
        arn = f"{ACCOUNT}:transform-job/{record.name}"
        status = {"TransformJobArn": arn, "TransformJobStatus": "InProgress"}
        try:
            record.create({**request, "Container": container}, status, _KEEPER, self.runner)
        except FileExistsError:
            message = "Job name must be unique within an AWS account and Region, or this machine."
            raise client_error("ResourceInUse", message, operation) from None
        return response({"TransformJobArn": arn})

    def describe_transform_job(self, **request: Any) -> Response:
        """Return the job's request and status."""
        validate("DescribeTransformJob", request)
        record = self._transform_job(request["TransformJobName"])
        if not record.exists():
            message = f"Could not find transform job {record.name}."
            raise client_error("ValidationException", message, "DescribeTransformJob")
        asked = {name: value for name, value in record.request().items() if name not in ("Container", "Tags")}
        return response({**asked, **_status(record)})

    def list_transform_jobs(self, **request: Any) -> Response:
        """Return summaries of jobs: newest first, by name or status if so asked, in pages."""
        validate("ListTransformJobs", request)
        items = summaries(self.home / "transform-jobs", "TransformJob", _status, _SUMMARY)
        return page("TransformJobSummaries", items, "TransformJob", request)

    def stop_transform_job(self, **request: Any) -> Response:
        """Ask a job to stop; what is answered already stays."""
        validate("StopTransformJob", request)
        status = self.describe_transform_job(**request)["TransformJobStatus"]
        if status not in RUNNING:
            message = f"The request was rejected because the transform job is in status {status}."
            raise client_error("ValidationException", message, "StopTransformJob")
        self._transform_job(request["TransformJobName"]).ask_to_stop()
        return response({})

    def transform_log(self, name: str) -> Path:
        """Return the log of a batch transform job, there or not. Not in boto3."""
        return self._transform_job(name).log

    def _transform_job(self, name: str) -> Record:
        return Record(self.home / "transform-jobs" / name)

    def _check(self, request: Response, operation: str) -> None:
        """Raise ClientError for what the service has and this machine has not."""
        asked = {
            **request,
            **request["TransformInput"],
            **request["TransformInput"]["DataSource"]["S3DataSource"],
            **request["TransformOutput"],
            **request["TransformResources"],
        }
        wrong = [name for name in _ABSENT if asked.get(name)]
        wrong += [
            f"{name} {asked[name]}" for name, known in _ONLY.items() if name in asked and asked[name] not in known
        ]
        if wrong:
            message = (
                f"{', '.join(wrong)} is not available locally; each object is one record of its own, on one machine."
            )
            raise client_error("ValidationException", message, operation)
        if not self.store.path(asked["S3Uri"]).exists():
            message = f"No S3 objects found under {asked['S3Uri']}."
            raise client_error("ValidationException", message, operation)


def _status(record: Record) -> Response:
    return job_status(record, "TransformJobStatus")

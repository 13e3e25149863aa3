"""The way to an asynchronous endpoint on AWS: a picture and its answer are objects in the bucket (contract C5.1)."""

import re
import time
import uuid
from typing import Any

from botocore.exceptions import ClientError

from kennel_cli.platforms.account import aws_errors
from kennel_cli.platforms.s3_uri import bucket_and_key
from kennel_cli.platforms.validation import validate
from kennel_cli.prediction.answers import IMAGE, PredictionError

LIMIT = 2**30  # bytes of a picture (contract C5.1)
WAIT = 3600.0  # seconds: where there is no machine until somebody asks, the first answer takes many minutes
POLL = 1.0  # seconds between two looks at the bucket
_STATUS = re.compile(r"error \((\d{3})\)")  # as SageMaker says what a model has answered
_MISSING = ("NoSuchKey", "404")


def output_of(sagemaker: Any, endpoint: str) -> str:
    """Return the URI below which an asynchronous endpoint writes its answers; "" for any other endpoint.

    Raises ClientError where the endpoint or its configuration is not there, AwsError where nobody may look at it.
    """
    with aws_errors("sagemaker"):
        found = sagemaker.describe_endpoint(EndpointName=endpoint)
        if "AsyncInferenceConfig" not in found:
            found = sagemaker.describe_endpoint_config(EndpointConfigName=found["EndpointConfigName"])
    return str(found.get("AsyncInferenceConfig", {}).get("OutputConfig", {}).get("S3OutputPath", ""))


class AsyncTransport:
    """An asynchronous endpoint; pictures are put beside its answers, into `input/`."""

    def __init__(self, runtime: Any, s3: Any, endpoint: str, output: str) -> None:
        """`output` is the URI below which the endpoint writes its answers."""
        self.place = endpoint
        self.limit = LIMIT
        self._runtime = runtime
        self._s3 = s3
        self._input = f"{output.rstrip('/').rpartition('/')[0]}/input"

    def post(self, body: bytes, accept: str) -> bytes:
        """Put the picture into the bucket, ask, and wait for the answer; see `Transport.post`."""
        location = f"{self._input}/{uuid.uuid4().hex}"
        request = {"EndpointName": self.place, "InputLocation": location, "ContentType": IMAGE, "Accept": accept}
        validate("InvokeEndpointAsync", request, service="sagemaker-runtime")
        try:
            with aws_errors("s3"):
                self._s3.put_object(**_place(location), Body=body)
            with aws_errors("sagemaker-runtime"):
                answer = self._runtime.invoke_endpoint_async(**request)
            return self._wait(answer["OutputLocation"], answer.get("FailureLocation"))
        except ClientError as error:
            message = error.response["Error"].get("Message") or str(error)
            raise PredictionError(f"{self.place}: {message}") from error

    def _wait(self, output: str, failure: str | None) -> bytes:
        """Return the answer when it is there. Raises PredictionError for a failure, or none of both in an hour."""
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            if (answer := self._read(output)) is not None:
                return answer
            if failure and (reason := self._read(failure)) is not None:
                said = reason.decode("utf-8", "replace")
                status = _STATUS.search(said)
                raise PredictionError(f"{self.place} failed: {said}", int(status[1]) if status else 0)
            time.sleep(POLL)
        raise PredictionError(f"{self.place} gave no answer in {WAIT:.0f} seconds; it may come yet, to {output}")

    def _read(self, uri: str) -> bytes | None:
        """Return an object, or None where it is not there yet."""
        try:
            with aws_errors("s3"):
                data: bytes = self._s3.get_object(**_place(uri))["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] in _MISSING:
                return None
            raise
        return data

    def close(self) -> None:
        """See `Transport.close`; connections close by themselves."""


def _place(uri: str) -> dict[str, str]:
    bucket, key = bucket_and_key(uri)
    return {"Bucket": bucket, "Key": key}

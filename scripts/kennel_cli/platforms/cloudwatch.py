"""Read the log of a job or an endpoint from CloudWatch Logs."""

from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from kennel_cli.platforms.account import aws_errors
from kennel_cli.platforms.platform import Kind

GROUP = "/aws/sagemaker/TrainingJobs"
_ENDPOINTS = "/aws/sagemaker/Endpoints"  # below it, a group an endpoint
TRANSFORM_GROUP = "/aws/sagemaker/TransformJobs"
# the group is made with an account's first job, and the job's streams with its first line; the rest passes by itself
_LATER = ("ResourceNotFoundException", "ThrottlingException", "ServiceUnavailableException", "LimitExceededException")


def read_log(
    logs: Any, name: str, tokens: Mapping[str, str], of: Kind = Kind.TRAINING
) -> tuple[list[str], dict[str, str]]:
    """Return the lines that came to a log after `tokens`, in the order of their time, and the next tokens.

    A job's streams are those of its kind's group whose names begin with its name and a slash; an endpoint has a group.

    `tokens` says for each stream where to go on. There are no lines where there is no log yet, or the service is busy.
    """
    after: dict[str, str] = dict(tokens)
    events: list[dict[str, Any]] = []
    group, prefix = {
        Kind.TRAINING: (GROUP, f"{name}/"),
        Kind.ENDPOINT: (f"{_ENDPOINTS}/{name}", ""),
        Kind.TRANSFORM: (TRANSFORM_GROUP, f"{name}/"),
    }[of]
    with aws_errors("logs"):
        try:
            for stream in _streams(logs, group, prefix):
                _read_stream(logs, group, stream, after, events)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _LATER:
                raise
    events.sort(key=lambda event: event["timestamp"])  # stable: a stream's own lines stay in their order
    return [line for event in events for line in event["message"].splitlines()], after


def _streams(logs: Any, group: str, prefix: str) -> Iterator[str]:
    """Yield the names of the streams: one a machine, and more when a job was interrupted."""
    wanted = {"logStreamNamePrefix": prefix} if prefix else {}
    pages = logs.get_paginator("describe_log_streams").paginate(logGroupName=group, **wanted)
    for page in pages:
        yield from (stream["logStreamName"] for stream in page["logStreams"])


def _read_stream(logs: Any, group: str, stream: str, after: dict[str, str], events: list[dict[str, Any]]) -> None:
    """Add a stream's new events, page by page, and remember in `after` how far that was."""
    while True:
        token = {"nextToken": after[stream]} if stream in after else {}
        page = logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True, **token)
        events += page["events"]
        if page["nextForwardToken"] == after.get(stream):  # the service's way to say that this is all for now
            return
        after[stream] = page["nextForwardToken"]

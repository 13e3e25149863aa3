"""What the answers of LocalSageMaker have in common with those of the service."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kennel_cli.platforms.platform import RUNNING
from kennel_cli.platforms.records import Record
from kennel_cli.platforms.validation import client_error

ACCOUNT = "arn:aws:sagemaker:local:000000000000"
GONE = "the process that ran it is gone: it was killed, or the machine was restarted"

Response = dict[str, Any]

_TIMES = (
    "CreationTime",
    "LastModifiedTime",
    "TrainingStartTime",
    "TrainingEndTime",
    "TransformStartTime",
    "TransformEndTime",
    "HyperParameterTuningEndTime",
    "ConvergenceDetectedTime",
    "Timestamp",
)


def response(value: Response) -> Response:
    """Return a response as boto3 does: times as datetimes, and the metadata of the HTTP answer."""
    parsed: Response = _with_times(value)
    return {**parsed, "ResponseMetadata": {"HTTPStatusCode": 200, "RetryAttempts": 0}}


def _with_times(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_times(member) for member in value]
    if isinstance(value, dict):
        return {
            key: datetime.fromisoformat(member) if key in _TIMES and isinstance(member, str) else _with_times(member)
            for key, member in value.items()
        }
    return value


def job_status(record: Record, *members: str) -> Response:
    """Return the status that a description shows, for a keeper that is gone and a stop that was asked for too.

    The first of `members` is the job's status, the others go with it.
    """
    kept = record.is_kept()  # before the status is read: a keeper that ended meanwhile has written how
    status = record.status()
    if status[members[0]] in RUNNING:
        if not kept:
            return {**status, **dict.fromkeys(members, "Failed"), "FailureReason": GONE}
        if record.is_asked_to_stop():
            return {**status, **dict.fromkeys(members, "Stopping")}
    return status


def summaries(
    folder: Path, kind: str, read_status: Callable[[Record], Response], keys: tuple[str, ...]
) -> list[Response]:
    """Return the name and the members `keys` of the status of every record below `folder`."""
    items = []
    for entry in folder.glob("[!.]*"):
        record = Record(entry)
        try:
            status = read_status(record)
        except FileNotFoundError:  # deleted between the listing and the reading
            continue
        items.append({f"{kind}Name": record.name, **{key: status[key] for key in keys if key in status}})
    return items


def page(member: str, items: list[Response], prefix: str, request: Mapping[str, Any]) -> Response:
    """Filter, sort and cut a list as the service's list operations do.

    `prefix` is what the members `…Name` and `…Status` of an item begin with. Raises ClientError for a filter that is
    not known here.
    """
    name, status = f"{prefix}Name", f"{prefix}Status"
    filters: dict[str, Callable[[Response, Any], bool]] = {
        "NameContains": lambda item, text: text.lower() in item[name].lower(),
        "StatusEquals": lambda item, wanted: bool(item[status] == wanted),
        "CreationTimeAfter": lambda item, time: _time(item["CreationTime"]) > _time(time),
        "CreationTimeBefore": lambda item, time: _time(item["CreationTime"]) < _time(time),
        "LastModifiedTimeAfter": lambda item, time: _time(item["LastModifiedTime"]) > _time(time),
        "LastModifiedTimeBefore": lambda item, time: _time(item["LastModifiedTime"]) < _time(time),
    }
    unknown = sorted(set(request) - set(filters) - {"SortBy", "SortOrder", "MaxResults", "NextToken"})
    if unknown:
        raise client_error("ValidationException", f"{', '.join(unknown)} is not available locally.", f"List{member}")
    for key, passes in filters.items():
        if key in request:
            items = [item for item in items if passes(item, request[key])]
    key = {"Name": name, "Status": status}.get(request.get("SortBy", ""), "CreationTime")
    items.sort(key=lambda item: (item[key], item["CreationTime"]), reverse=request.get("SortOrder") != "Ascending")
    return cut(member, items, request)


def cut(member: str, items: list[Response], request: Mapping[str, Any]) -> Response:
    """Return the page of `items` that `MaxResults` and `NextToken` ask for."""
    token = request.get("NextToken", "0")
    if not token.isdecimal():
        raise client_error("ValidationException", f"{token!r} is no NextToken of an earlier answer.", f"List{member}")
    start, count = int(token), request.get("MaxResults", 100)
    answer: Response = {member: items[start : start + count]}
    if start + count < len(items):
        answer["NextToken"] = str(start + count)
    return response(answer)


def _time(value: Any) -> datetime:
    """Return a time in UTC; a text or a datetime without a zone is one already, as boto3 takes it."""
    time = datetime.fromisoformat(value) if isinstance(value, str) else value
    moment: datetime = time if time.tzinfo else time.replace(tzinfo=UTC)
    return moment

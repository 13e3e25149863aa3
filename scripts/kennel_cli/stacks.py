"""Stacks of AWS CloudFormation: make one or bring one up to date, and follow its events to the end."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from kennel.errors import KennelError
from kennel_cli.platforms.account import aws_errors
from kennel_cli.platforms.validation import validate

_POLL = 3.0  # seconds between two looks; a stack takes minutes
_GOOD = ("CREATE_COMPLETE", "UPDATE_COMPLETE")
# a stack in one of these can only be deleted; what holds data is not deleted with it
_DEAD = ("CREATE_FAILED", "DELETE_FAILED", "REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED")

Event = Mapping[str, Any]  # a StackEvent as CloudFormation answers it


@dataclass(frozen=True)
class Operation:
    """A stack's creation or update that goes on."""

    stack_id: str
    last: str  # ID of the newest event before it; empty where there was none


class StackFailed(KennelError):
    """A stack cannot be made or changed; the message has CloudFormation's first reason."""


def find_stack(cloudformation: Any, name: str) -> dict[str, Any] | None:
    """Return the description of a stack by its name or ID, or None when there is none."""
    try:
        stacks = cloudformation.describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        if "does not exist" in error.response["Error"]["Message"]:  # the code is ValidationError, as for much else
            return None
        raise
    found: dict[str, Any] = stacks[0]
    return found


def owned_resources(cloudformation: Any, name: str) -> dict[str, str]:
    """Return what a stack owns: logical names to physical names."""
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=name)
    return {
        resource["LogicalResourceId"]: resource["PhysicalResourceId"]
        for page in pages
        for resource in page["StackResourceSummaries"]
        if not resource["ResourceStatus"].startswith("DELETE_") and "PhysicalResourceId" in resource
    }


def check_ready(stack: Mapping[str, Any]) -> None:
    """Raise StackFailed, with the command that mends it, for a stack that cannot be brought up to date now."""
    name, status = stack["StackName"], stack["StackStatus"]
    if status in _DEAD or status == "UPDATE_ROLLBACK_FAILED":
        raise StackFailed(f"the stack {name} is {status}; {_remedy(stack)}")
    if status.endswith("_IN_PROGRESS"):
        raise StackFailed(f"the stack {name} is {status}; run `kennel init` again when that has ended")


def start(cloudformation: Any, request: Mapping[str, Any], stack: Mapping[str, Any] | None) -> Operation | None:
    """Begin to create the stack of a request, or to update `stack`; return None where that is up to date already.

    The request is one that CreateStack and UpdateStack both take.
    """
    validate("UpdateStack" if stack else "CreateStack", request, "cloudformation")
    with aws_errors("cloudformation"):
        if stack is None:
            return Operation(cloudformation.create_stack(**request)["StackId"], last="")
        last = _newest_event(cloudformation, stack["StackId"])
        try:
            cloudformation.update_stack(**request)
        except ClientError as error:
            if "No updates are to be performed" in error.response["Error"]["Message"]:
                return None
            raise
        return Operation(stack["StackId"], last)


def follow(cloudformation: Any, operation: Operation, show: Callable[[Event], None]) -> dict[str, Any]:
    """Tell `show` each event as it comes, until the stack rests, and return the stack's description.

    Raises StackFailed with the reason of the first event that failed.
    """
    last = operation.last
    failed: list[Event] = []
    while True:
        with aws_errors("cloudformation"):
            stack: dict[str, Any] = cloudformation.describe_stacks(StackName=operation.stack_id)["Stacks"][0]
            events = _events_after(cloudformation, operation.stack_id, last)
        for event in events:
            show(event)
            last = event["EventId"]
            if event["ResourceStatus"].endswith("_FAILED"):
                failed.append(event)
        if not stack["StackStatus"].endswith("_IN_PROGRESS"):
            break
        time.sleep(_POLL)
    if stack["StackStatus"] in _GOOD:
        return stack
    reason = stack.get("StackStatusReason", "no reason is given")
    if failed:
        reason = f"{failed[0]['LogicalResourceId']}: {failed[0].get('ResourceStatusReason', reason)}"
    raise StackFailed(f"the stack {stack['StackName']} is {stack['StackStatus']}: {reason}; {_remedy(stack)}")


def _events_after(cloudformation: Any, stack_id: str, last: str) -> list[Event]:
    """Return the events that are newer than the one with the ID `last`, oldest first; all if it is empty."""
    events: list[Event] = []
    for page in cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack_id):
        for event in page["StackEvents"]:  # newest first
            if event["EventId"] == last:
                return events[::-1]
            events.append(event)
    return events[::-1]


def _newest_event(cloudformation: Any, stack_id: str) -> str:
    events = cloudformation.describe_stack_events(StackName=stack_id)["StackEvents"]
    return str(events[0]["EventId"]) if events else ""


def _remedy(stack: Mapping[str, Any]) -> str:
    """Return what to do about a stack that has failed."""
    region = stack["StackId"].split(":")[3]
    options = f"--stack-name {stack['StackName']} --region {region}"
    if stack["StackStatus"] in _DEAD:
        return f"delete it with `aws cloudformation delete-stack {options}`, and run `kennel init` again"
    if stack["StackStatus"] == "UPDATE_ROLLBACK_FAILED":
        return (
            f"let it go back with `aws cloudformation continue-update-rollback {options}`, then run `kennel init` again"
        )
    return "all is as it was before; run `kennel init` again when that is mended"

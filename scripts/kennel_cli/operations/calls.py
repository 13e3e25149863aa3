"""Calls of AWS's services: each checked against the service's own model before the first of several is sent."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore import xform_name
from botocore.exceptions import ClientError, ParamValidationError

from kennel.errors import KennelError
from kennel_cli.places import console, given_settings
from kennel_cli.platforms.account import aws_client, aws_errors, console_address
from kennel_cli.platforms.aws import AwsPlatform
from kennel_cli.platforms.validation import validate


class CallRefused(KennelError):
    """A request is not one that the service takes; nothing was sent."""


@dataclass(frozen=True)
class Call:
    """One request."""

    service: str  # as boto3 calls it
    operation: str  # as the service calls it, such as PutMetricAlarm
    request: Mapping[str, Any]


class Services:
    """The services of the user's account, in the region of the settings or of the user's profile.

    Raises AwsError when there is no region.
    """

    def __init__(self) -> None:
        self._session = AwsPlatform(console, given_settings()).session
        self._clients: dict[str, Any] = {}

    @property
    def region(self) -> str:
        """The region, such as eu-west-1."""
        return str(self._session.region_name)

    @property
    def tags(self) -> Mapping[str, str]:
        """The user's tags, of all that is created. Raises SettingsError."""
        from kennel_cli.user_settings import read_settings  # noqa: PLC0415 - slow to import

        return read_settings(given_settings()).tags

    @property
    def console(self) -> str:
        """The address of the region's management console."""
        return console_address(self._session)

    def send(self, call: Call) -> Any:
        """Send a request and return the answer. Raises AwsError, and ClientError for what is about the request."""
        client = self._client(call.service)
        with aws_errors(call.service):
            return getattr(client, xform_name(call.operation))(**call.request)

    def ask(self, service: str, operation: str, **request: Any) -> Any:
        """Return what the service answers to a request that changes nothing."""
        return self.send(Call(service, operation, request))

    def list_all(self, service: str, operation: str, member: str, **request: Any) -> list[Any]:
        """Return all that a listing holds, page by page, without changing anything."""
        pages = self._client(service).get_paginator(xform_name(operation)).paginate(**request)
        with aws_errors(service):
            return [entry for page in pages for entry in page[member]]

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = aws_client(self._session, service)
        return self._clients[service]


def carry_out(services: Services, calls: Sequence[Call], dry_run: bool) -> list[Any]:
    """Check all requests, then send them in order and return the answers; or print them, and return none.

    Raises CallRefused, before anything is sent, for a request that its service would not take.
    """
    check(calls)
    if dry_run:
        print_calls(calls)
        return []
    return [services.send(call) for call in calls]


def check(calls: Iterable[Call]) -> None:
    """Raise CallRefused for the first request that its service would not take."""
    for call in calls:
        try:
            validate(call.operation, call.request, call.service)
        except ClientError as error:
            raise CallRefused(f"{call.operation}: {error.response['Error']['Message']}") from error
        except ParamValidationError as error:
            raise CallRefused(f"{call.operation}: {' '.join(str(error).split())}") from error


def print_calls(calls: Iterable[Call]) -> None:
    """Print requests as JSON, in the order in which they would be sent."""
    print(json.dumps([vars(call) for call in calls], indent=2))

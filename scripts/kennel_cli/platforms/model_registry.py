"""The part of LocalSageMaker that registers models: groups, and numbered packages in them."""

import contextlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kennel.atomic import write_json, write_new_json
from kennel_cli.platforms.records import now
from kennel_cli.platforms.responses import Response, page, response
from kennel_cli.platforms.validation import client_error, validate

# the service's pattern wants nine characters and more where a region is named
ACCOUNT = "arn:aws:sagemaker:this-machine:000000000000"
_GROUP = "group.json"
_LISTED = (
    "ModelPackageName",
    "ModelPackageVersion",
    "ModelPackageArn",
    "CreationTime",
    "ModelPackageStatus",
    "ModelApprovalStatus",
)


class ModelRegistry:
    """Model packages with the methods, requests, responses and errors of boto3's client; a package is a file."""

    home: Path

    def create_model_package_group(self, **request: Any) -> Response:
        """Make a group for the versions of a model. Raises ClientError when there is one of that name."""
        validate("CreateModelPackageGroup", request)
        name = request["ModelPackageGroupName"]
        file = self._group(name) / _GROUP
        arn = {"ModelPackageGroupArn": f"{ACCOUNT}:model-package-group/{name}"}
        if file.exists():
            message = f"Model Package Group already exists: {arn['ModelPackageGroupArn']}"
            raise client_error("ValidationException", message, "CreateModelPackageGroup")
        write_json(file, {**request, **arn, "ModelPackageGroupStatus": "Completed", "CreationTime": now()})
        return response(arn)

    def describe_model_package_group(self, **request: Any) -> Response:
        """Return a group's request and status."""
        validate("DescribeModelPackageGroup", request)
        name = request["ModelPackageGroupName"]
        return response(self._read(self._group(name) / _GROUP, f"model package group {name}", "Group"))

    def create_model_package(self, **request: Any) -> Response:
        """Register a model as the next version of its group."""
        validate("CreateModelPackage", request)
        name = request["ModelPackageGroupName"]
        self.describe_model_package_group(ModelPackageGroupName=name)
        for version in itertools.count(max(self._versions(name), default=0) + 1):
            arn = f"{ACCOUNT}:model-package/{name}/{version}"
            package = {
                "ModelApprovalStatus": "PendingManualApproval",
                **request,
                "ModelPackageName": f"{name}/{version}",
                "ModelPackageVersion": version,
                "ModelPackageArn": arn,
                "ModelPackageStatus": "Completed",
                "ModelPackageStatusDetails": {"ValidationStatuses": []},
                "CreationTime": now(),
            }
            with contextlib.suppress(FileExistsError):  # another process has taken that version just now
                write_new_json(self._group(name) / f"{version}.json", package)
                break
        return response({"ModelPackageArn": arn})

    def describe_model_package(self, **request: Any) -> Response:
        """Return a package's request and status."""
        validate("DescribeModelPackage", request)
        return response(self._read(self._package(request["ModelPackageName"]), request["ModelPackageName"], ""))

    def list_model_packages(self, **request: Any) -> Response:
        """Return the versions of a group, the newest first unless the request says otherwise."""
        validate("ListModelPackages", request)
        wanted = dict(request)
        if not (name := wanted.pop("ModelPackageGroupName", "")):
            message = "a list without ModelPackageGroupName is not available locally."
            raise client_error("ValidationException", message, "ListModelPackages")
        approval = wanted.pop("ModelApprovalStatus", None)
        versions = sorted(self._versions(name), reverse=True)
        packages = [self._read(self._group(name) / f"{version}.json", name, "") for version in versions]
        listed = [
            {"ModelPackageGroupName": name, **{key: package[key] for key in _LISTED}}
            for package in packages
            if approval in (None, package["ModelApprovalStatus"])
        ]
        return page("ModelPackageSummaryList", listed, "ModelPackage", wanted)

    def update_model_package(self, **request: Any) -> Response:
        """Approve or reject a package."""
        validate("UpdateModelPackage", request)
        file = self._package(request["ModelPackageArn"])
        write_json(file, {**self._read(file, request["ModelPackageArn"], ""), **request, "LastModifiedTime": now()})
        return response({"ModelPackageArn": request["ModelPackageArn"]})

    def _group(self, name: str) -> Path:
        return self.home / "registry" / name

    def _package(self, name: str) -> Path:
        """Return the file of a package, by its ARN or by `group/version`."""
        group, _, version = name.rpartition("model-package/")[2].partition("/")
        return self._group(group) / f"{version}.json"

    def _versions(self, name: str) -> Iterator[int]:
        for file in self._group(name).glob("*.json"):
            with contextlib.suppress(ValueError):  # the group's own file
                yield int(file.stem)

    def _read(self, file: Path, name: str, kind: str) -> Response:
        try:
            found: Response = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            operation = f"DescribeModelPackage{kind}"
            raise client_error("ValidationException", f"{name} does not exist.", operation) from None
        return found

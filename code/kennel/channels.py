"""Which channels a job can read: folders of files. Streams and wrapped records are refused before anything starts."""

from collections.abc import Mapping
from typing import Any

from kennel.errors import ContractError

_FILES = "files in the input mode File or FastFile"


def check_channel(name: str, channel: Mapping[str, Any]) -> None:
    """Raise ContractError when a channel is no folder of files (contract A2.6).

    `channel` holds what a request or `inputdataconfig.json` says: `TrainingInputMode`, `S3DataType`,
    `RecordWrapperType`, `CompressionType`; each may be missing.
    """
    if channel.get("TrainingInputMode") == "Pipe":
        raise ContractError(
            f"the channel `{name}` is in Pipe mode, which hands over a stream instead of files; "
            "use the input mode File or FastFile"
        )
    if channel.get("S3DataType") == "AugmentedManifestFile":
        raise ContractError(
            f"the channel `{name}` is an AugmentedManifestFile, which is a stream; use S3DataType S3Prefix or "
            f"ManifestFile, with {_FILES}, one folder a class"
        )
    wrapper = channel.get("RecordWrapperType") or "None"
    if wrapper != "None":
        raise ContractError(
            f"the channel `{name}` has RecordWrapperType {wrapper}, which is a stream of records; leave it out, and "
            f"use image {_FILES}"
        )
    compression = channel.get("CompressionType") or "None"
    if compression != "None":
        raise ContractError(
            f"the channel `{name}` has CompressionType {compression}, which only streams are unpacked from; "
            f"leave it out, and use unpacked {_FILES}"
        )

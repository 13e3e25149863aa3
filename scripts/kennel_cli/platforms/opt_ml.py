"""Lay out `/opt/ml` for a program, as SageMaker does before it starts one (contract A2)."""

import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kennel.atomic import write_json
from kennel.channels import check_channel
from kennel.errors import ContractError
from kennel_cli.platforms.store import LocalStore

BASE = Path("/opt/ml")  # what SageMaker's own paths begin with


class LayoutError(Exception):
    """What the request names is not there, or cannot be had on this machine; the message becomes the FailureReason."""


def lay_out_training(tree: Path, request: Mapping[str, Any], store: LocalStore, host: str) -> None:
    """Make the tree of a training job: configuration files, channels as links, empty output folders.

    `host` is the name under which the program can reach itself.
    """
    _check_channels(request)
    for folder in ("input/config", "input/data", "model", "output/data"):
        (tree / folder).mkdir(parents=True, exist_ok=True)
    config = tree / "input" / "config"
    write_json(config / "hyperparameters.json", request.get("HyperParameters", {}))
    write_json(config / "resourceconfig.json", _resource_config(request["ResourceConfig"], host))
    write_json(config / "inputdataconfig.json", _input_data_config(request))
    if given := request.get("CheckpointConfig"):
        local = _keep(tree, "CheckpointConfig", given, "checkpoints", _place(store, given["S3Uri"]))
        write_json(config / "checkpointconfig.json", {**given, "LocalPath": local})
    if given := request.get("DebugHookConfig"):
        kept = _place(store, f"{given['S3OutputPath'].rstrip('/')}/{request['TrainingJobName']}/debug-output")
        local = _keep(tree, "DebugHookConfig", given, "output/tensors", kept)
        write_json(config / "debughookconfig.json", {**given, "LocalPath": local})
    if given := request.get("TensorBoardOutputConfig"):
        kept = _place(store, f"{given['S3OutputPath'].rstrip('/')}/{request['TrainingJobName']}/tensorboard-output")
        local = _keep(tree, "TensorBoardOutputConfig", given, "output/tensorboard", kept)
        write_json(config / "tensorboardoutputconfig.json", {**given, "LocalPath": local})
    if given := request.get("ProfilerConfig"):
        write_json(config / "profilerconfig.json", given)
    for channel in request.get("InputDataConfig", []):
        _link_channel(tree / "input" / "data" / channel["ChannelName"], channel, store)


def _check_channels(request: Mapping[str, Any]) -> None:
    default = request["AlgorithmSpecification"]["TrainingInputMode"]
    for channel in request.get("InputDataConfig", []):
        said = {**channel, **channel["DataSource"].get("S3DataSource", {})}
        try:
            check_channel(channel["ChannelName"], {**said, "TrainingInputMode": channel.get("InputMode", default)})
        except ContractError as error:
            raise LayoutError(str(error)) from error


def _resource_config(resources: Mapping[str, Any], host: str) -> dict[str, Any]:
    """Return the content of `resourceconfig.json` for one machine (contract A2.2)."""
    if resources.get("InstanceCount", 1) != 1 or "InstanceGroups" in resources:
        raise LayoutError("a local job runs on one machine; set InstanceCount to 1, without InstanceGroups")
    instance = resources["InstanceType"]
    group = {"instance_group_name": "homogeneousCluster", "instance_type": instance, "hosts": [host]}
    return {
        "current_host": host,
        "current_instance_type": instance,
        "current_group_name": "homogeneousCluster",
        "hosts": [host],
        "instance_groups": [group],
        "network_interface_name": "eth0",
    }


def _input_data_config(request: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return the content of `inputdataconfig.json`; a FastFile channel is written as File (contract A2.3)."""
    default = request["AlgorithmSpecification"]["TrainingInputMode"]
    config = {}
    for channel in request.get("InputDataConfig", []):
        mode = channel.get("InputMode", default)
        source = channel["DataSource"].get("S3DataSource", {})
        config[channel["ChannelName"]] = {
            "TrainingInputMode": "File" if mode == "FastFile" else mode,
            "S3DistributionType": source.get("S3DataDistributionType", "FullyReplicated"),
            "RecordWrapperType": channel.get("RecordWrapperType", "None"),
            **({"ContentType": channel["ContentType"]} if "ContentType" in channel else {}),
        }
    return config


def _keep(tree: Path, member: str, config: Mapping[str, Any], default: str, kept: Path) -> str:
    """Link `kept`, a folder of the store, to where the program writes, and return that place: `LocalPath`.

    As a link it holds what an earlier attempt left there, and keeps whatever is written (contract A6.1, A6.5, D2.1).
    """
    local = Path(config.get("LocalPath", BASE / default))
    if local == BASE or not local.is_relative_to(BASE) or local.is_relative_to(BASE / "input"):
        raise LayoutError(f"{member}.LocalPath is {local}; on this machine it should be {BASE / default}")
    kept.mkdir(parents=True, exist_ok=True)
    link = tree / local.relative_to(BASE)
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.exists():
        raise LayoutError(f"{member}.LocalPath is {local}, which holds something else; leave it out")
    link.symlink_to(kept.resolve())
    return str(local)


def _link_channel(folder: Path, channel: Mapping[str, Any], store: LocalStore) -> None:
    source = channel["DataSource"].get("S3DataSource")
    if source is None or source["S3DataType"] != "S3Prefix":
        raise LayoutError(f"channel {channel['ChannelName']}: only S3DataSource with S3Prefix is available locally")
    data = _place(store, source["S3Uri"])
    if not data.exists():
        raise LayoutError(f"channel {channel['ChannelName']}: no S3 objects found under {source['S3Uri']} ({data})")
    if data.is_dir():
        folder.symlink_to(data.resolve())
    else:
        folder.mkdir()
        (folder / data.name).symlink_to(data.resolve())


def lay_out_model(tree: Path, container: Mapping[str, Any], store: LocalStore) -> None:
    """Make the tree of a hosting container: the model, unpacked from its tar file or linked where it lies."""
    tree.mkdir(parents=True, exist_ok=True)
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    uri = source.get("S3Uri") or container.get("ModelDataUrl")
    if not uri:
        raise LayoutError(
            "the model has neither ModelDataUrl nor ModelDataSource; without one there is nothing to serve"
        )
    data = _place(store, uri)
    if not data.exists():
        raise LayoutError(f"could not find model data at {uri} ({data})")
    if data.is_dir():
        (tree / "model").symlink_to(data.resolve())
        return
    try:
        with tarfile.open(data) as tar:
            tar.extractall(tree / "model", filter="data")
    except (tarfile.TarError, EOFError, zlib.error) as error:  # the others where it was cut off or is damaged
        raise LayoutError(f"{uri} is no readable tar file: {error}") from error


def _place(store: LocalStore, uri: str) -> Path:
    try:
        return store.path(uri)
    except ValueError as error:
        raise LayoutError(str(error)) from error


def read_failure(tree: Path) -> str:
    """Return the first 1024 characters of the failure file, or "" (contract A1.5)."""
    file = tree / "output" / "failure"
    return file.read_text(encoding="utf-8", errors="replace")[:1024].strip() if file.exists() else ""

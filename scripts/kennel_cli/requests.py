"""The requests themselves, one function each: what boto3's SageMaker client takes, on AWS and here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NotRequired, TypedDict

from kennel.metrics import metric_definitions
from kennel_cli.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.type_defs import (
        ChannelTypeDef,
        CheckpointConfigTypeDef,
        CreateEndpointConfigInputTypeDef,
        CreateEndpointInputTypeDef,
        CreateHyperParameterTuningJobRequestTypeDef,
        CreateModelInputTypeDef,
        CreateTrainingJobRequestTypeDef,
        HyperParameterTrainingJobDefinitionTypeDef,
        HyperParameterTuningJobConfigTypeDef,
        OutputDataConfigTypeDef,
        ResourceConfigTypeDef,
        StoppingConditionTypeDef,
        TagTypeDef,
    )

MAX_RUNTIME = 24 * 3600  # seconds; SageMaker's own default (contract A1.12)
MAX_WAIT = 2 * MAX_RUNTIME  # seconds that a spot job may take, waiting for machines and running (contract A1.12)


@dataclass(frozen=True)
class JobOptions:
    """How the service should run a job, beside what the job does."""

    spot: bool = False  # on spare machines, which are cheaper and may be taken away (contract A6.2)
    isolated: bool = False  # without a network (contract A6.6)
    tensorboard: bool = False  # keep what TensorBoard reads (contract A6.5)
    debugger: bool = False  # with Amazon SageMaker Debugger, for accounts that still have it (contract D1.1)


PLAIN = JobOptions()


class JobMembers(TypedDict):
    """The members that CreateTrainingJob and a tuning job's TrainingJobDefinition share (contract B3)."""

    RoleArn: str
    InputDataConfig: list[ChannelTypeDef]
    OutputDataConfig: OutputDataConfigTypeDef
    ResourceConfig: ResourceConfigTypeDef
    StoppingCondition: StoppingConditionTypeDef
    CheckpointConfig: NotRequired[CheckpointConfigTypeDef]
    EnableManagedSpotTraining: NotRequired[bool]
    EnableNetworkIsolation: NotRequired[bool]


def job_members(name: str, channels: Mapping[str, str], settings: Settings, options: JobOptions) -> JobMembers:
    """Return what training and tuning requests share. `channels` maps channel names to `s3://` URIs."""
    members: JobMembers = {
        "RoleArn": settings.role_arn,
        "InputDataConfig": [_channel(channel, uri) for channel, uri in channels.items()],
        "OutputDataConfig": {"S3OutputPath": f"s3://{settings.bucket}/training"},
        "ResourceConfig": {
            "InstanceType": settings.training_instance,
            "InstanceCount": 1,
            "VolumeSizeInGB": 50,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": MAX_RUNTIME},
    }
    if options.spot:
        members["EnableManagedSpotTraining"] = True
        members["StoppingCondition"] = {"MaxRuntimeInSeconds": MAX_RUNTIME, "MaxWaitTimeInSeconds": MAX_WAIT}
        members["CheckpointConfig"] = {"S3Uri": f"s3://{settings.bucket}/checkpoints/{name}"}
    if options.isolated:
        members["EnableNetworkIsolation"] = True
    return members


def tag_list(settings: Settings) -> list[TagTypeDef]:
    """Return the member `Tags` of whatever is created."""
    return [{"Key": key, "Value": value} for key, value in settings.tags.items()]


def training_job(
    name: str,
    channels: Mapping[str, str],
    hyperparameters: Mapping[str, str],
    settings: Settings,
    options: JobOptions = PLAIN,
) -> CreateTrainingJobRequestTypeDef:
    """Return a CreateTrainingJob request. `channels` maps channel names to `s3://` URIs."""
    request: CreateTrainingJobRequestTypeDef = {
        "TrainingJobName": name,
        "AlgorithmSpecification": {
            "TrainingImage": settings.image,
            "TrainingInputMode": "File",
            "MetricDefinitions": metric_definitions(),
        },
        "HyperParameters": dict(hyperparameters),
        **job_members(name, channels, settings, options),  # type: ignore[typeddict-item]  # it might hold more
    }
    if options.tensorboard:
        request["TensorBoardOutputConfig"] = {"S3OutputPath": request["OutputDataConfig"]["S3OutputPath"]}
    if settings.tags:
        request["Tags"] = tag_list(settings)
    return request


def tuning_job(
    name: str,
    config: HyperParameterTuningJobConfigTypeDef,
    channels: Mapping[str, str],
    static: Mapping[str, str],
    settings: Settings,
    options: JobOptions = PLAIN,
    parents: Sequence[str] = (),
) -> CreateHyperParameterTuningJobRequestTypeDef:
    """Return a CreateHyperParameterTuningJob request; `parents` are finished searches to begin from."""
    definition: HyperParameterTrainingJobDefinitionTypeDef = {
        "StaticHyperParameters": dict(static),
        "AlgorithmSpecification": {
            "TrainingImage": settings.image,
            "TrainingInputMode": "File",
            "MetricDefinitions": metric_definitions(),
        },
        **job_members(name, channels, settings, options),  # type: ignore[typeddict-item]  # it might hold more
    }
    request: CreateHyperParameterTuningJobRequestTypeDef = {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobConfig": config,
        "TrainingJobDefinition": definition,
    }
    if parents:
        request["WarmStartConfig"] = {
            "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": parent} for parent in parents],
            "WarmStartType": "TransferLearning",  # the ranges and the data may be others (contract B10)
        }
    if settings.tags:
        request["Tags"] = tag_list(settings)
    return request


def _channel(name: str, uri: str) -> ChannelTypeDef:
    return {
        "ChannelName": name,
        "DataSource": {
            "S3DataSource": {
                "S3DataType": "S3Prefix",
                "S3Uri": uri,
                "S3DataDistributionType": "FullyReplicated",
            }
        },
    }


def model_from_tarball(name: str, uri: str, settings: Settings) -> CreateModelInputTypeDef:
    """Return a CreateModel request for the `model.tar.gz` of a training job."""
    return {
        "ModelName": name,
        "ExecutionRoleArn": settings.role_arn,
        "PrimaryContainer": {"Image": settings.image, "ModelDataUrl": uri},
    }


def model_from_folder(name: str, uri: str, settings: Settings) -> CreateModelInputTypeDef:
    """Return a CreateModel request for a model folder that lies uncompressed below `uri`."""
    return {
        "ModelName": name,
        "ExecutionRoleArn": settings.role_arn,
        "PrimaryContainer": {
            "Image": settings.image,
            "ModelDataSource": {
                "S3DataSource": {
                    "S3Uri": uri.rstrip("/") + "/",
                    "S3DataType": "S3Prefix",
                    "CompressionType": "None",
                }
            },
        },
    }


def endpoint_config(name: str, model: str, settings: Settings) -> CreateEndpointConfigInputTypeDef:
    """Return a CreateEndpointConfig request with one variant."""
    return {
        "EndpointConfigName": name,
        "ProductionVariants": [
            {
                "VariantName": "AllTraffic",
                "ModelName": model,
                "InitialInstanceCount": 1,
                "InstanceType": settings.endpoint_instance,
            }
        ],
    }


def endpoint(name: str, config: str) -> CreateEndpointInputTypeDef:
    """Return a CreateEndpoint request."""
    return {"EndpointName": name, "EndpointConfigName": config}

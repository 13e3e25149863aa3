"""The requests themselves, one function each: what boto3's SageMaker client takes, on AWS and here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kennel.metrics import metric_definitions
from kennel_cli.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.type_defs import (
        CreateEndpointConfigInputTypeDef,
        CreateEndpointInputTypeDef,
        CreateModelInputTypeDef,
        CreateTrainingJobRequestTypeDef,
    )

MAX_RUNTIME = 24 * 3600  # seconds; SageMaker's own default (contract A1.12)


def training_job(
    name: str, channels: Mapping[str, str], hyperparameters: Mapping[str, str], settings: Settings
) -> CreateTrainingJobRequestTypeDef:
    """Return a CreateTrainingJob request. `channels` maps channel names to `s3://` URIs."""
    return {
        "TrainingJobName": name,
        "AlgorithmSpecification": {
            "TrainingImage": settings.image,
            "TrainingInputMode": "File",
            "MetricDefinitions": metric_definitions(),
        },
        "RoleArn": settings.role_arn,
        "HyperParameters": dict(hyperparameters),
        "InputDataConfig": [
            {
                "ChannelName": channel,
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": uri,
                        "S3DataDistributionType": "FullyReplicated",
                    }
                },
            }
            for channel, uri in channels.items()
        ],
        "OutputDataConfig": {"S3OutputPath": f"s3://{settings.bucket}/training"},
        "ResourceConfig": {
            "InstanceType": settings.training_instance,
            "InstanceCount": 1,
            "VolumeSizeInGB": 50,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": MAX_RUNTIME},
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

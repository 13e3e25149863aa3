"""The requests themselves, one function each: what boto3's SageMaker client takes, on AWS and here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from kennel.metrics import metric_definitions
from kennel_cli.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.type_defs import (
        ChannelTypeDef,
        CheckpointConfigTypeDef,
        ContainerDefinitionTypeDef,
        CreateEndpointConfigInputTypeDef,
        CreateEndpointInputTypeDef,
        CreateHyperParameterTuningJobRequestTypeDef,
        CreateModelInputTypeDef,
        CreateTrainingJobRequestTypeDef,
        CreateTransformJobRequestTypeDef,
        DataCaptureConfigTypeDef,
        DeploymentConfigTypeDef,
        HyperParameterTrainingJobDefinitionTypeDef,
        HyperParameterTuningJobConfigTypeDef,
        ModelDataSourceTypeDef,
        OutputDataConfigTypeDef,
        ProductionVariantTypeDef,
        ResourceConfigTypeDef,
        RetryStrategyTypeDef,
        StoppingConditionTypeDef,
        TagTypeDef,
        TransformOutputTypeDef,
        TransformResourcesTypeDef,
        UpdateEndpointInputTypeDef,
        VpcConfigTypeDef,
    )

MAX_RUNTIME = 24 * 3600  # seconds; SageMaker's own default (contract A1.12)
# machines with disks of their own encrypt them by themselves, and their requests may not name a key
_LOCAL_STORAGE = re.compile(r"ml\.(g4dn|g5|g6e?|gr6|p3dn|p4de?|p5\w*|p6\S*|trn\w*|[a-z]\d[a-z]*d[a-z]*)\.")
MAX_WAIT = 2 * MAX_RUNTIME  # seconds that a spot job may take, waiting for machines and running (contract A1.12)


@dataclass(frozen=True)
class JobOptions:
    """How the service should run a job, beside what the job does."""

    spot: bool = False  # on spare machines, which are cheaper and may be taken away (contract A6.2)
    isolated: bool = False  # without a network (contract A6.6)
    tensorboard: bool = False  # keep what TensorBoard reads (contract A6.5)
    debugger: bool = False  # with Amazon SageMaker Debugger, for accounts that still have it (contract D1.1)
    fast_file: bool = False  # read images as they are needed, instead of copying all first (contract A2.5)
    instance_count: int = 1  # machines that train together
    retries: int = 0  # times that the service tries a job again after an error of its own (contract A1.12)
    experiment: str = ""  # that the job is listed under


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
    RetryStrategy: NotRequired[RetryStrategyTypeDef]
    VpcConfig: NotRequired[VpcConfigTypeDef]


def job_members(name: str, channels: Mapping[str, str], settings: Settings, options: JobOptions) -> JobMembers:
    """Return what training and tuning requests share. `channels` maps channel names to `s3://` URIs."""
    members: JobMembers = {
        "RoleArn": settings.role_arn,
        "InputDataConfig": [_channel(channel, uri) for channel, uri in channels.items()],
        "OutputDataConfig": {"S3OutputPath": s3_uri(settings, "training")},
        "ResourceConfig": {
            "InstanceType": settings.training_instance,
            "InstanceCount": options.instance_count,
            "VolumeSizeInGB": 50,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": MAX_RUNTIME},
    }
    if options.spot:
        members["EnableManagedSpotTraining"] = True
        members["StoppingCondition"] = {"MaxRuntimeInSeconds": MAX_RUNTIME, "MaxWaitTimeInSeconds": MAX_WAIT}
        members["CheckpointConfig"] = {"S3Uri": s3_uri(settings, f"checkpoints/{name}")}
    if options.isolated:
        members["EnableNetworkIsolation"] = True
    if options.retries:
        members["RetryStrategy"] = {"MaximumRetryAttempts": options.retries}
    if options.fast_file:  # weights are one file, which that mode cannot give
        for channel in members["InputDataConfig"]:
            if channel["ChannelName"] == "training":
                channel["InputMode"] = "FastFile"
    if settings.subnets:
        members["VpcConfig"] = vpc_config(settings)
    if settings.kms_key:
        members["OutputDataConfig"]["KmsKeyId"] = settings.kms_key
        if not _LOCAL_STORAGE.match(settings.training_instance):
            members["ResourceConfig"]["VolumeKmsKeyId"] = settings.kms_key
    return members


def s3_uri(settings: Settings, folder: str) -> str:
    """Return where a folder of Kennel's lies in the bucket."""
    return f"s3://{settings.bucket}/{settings.prefix}{folder}"


def vpc_config(settings: Settings) -> VpcConfigTypeDef:
    """Return the member `VpcConfig` of jobs and models."""
    return {"Subnets": list(settings.subnets), "SecurityGroupIds": list(settings.security_groups)}


def tag_list(tags: Mapping[str, str]) -> list[TagTypeDef]:
    """Return the member `Tags` of whatever is created."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


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
    if options.experiment:
        request["ExperimentConfig"] = {"ExperimentName": options.experiment}
    if settings.tags:
        request["Tags"] = tag_list(settings.tags)
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
        request["Tags"] = tag_list(settings.tags)
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


@dataclass(frozen=True)
class EndpointOptions:
    """How the service should run an endpoint, beside what it serves. All but the defaults are for AWS."""

    instance_count: int = 1
    serverless: bool = False  # no machine while nobody asks (contract C5.2)
    memory: int = 4096  # MB of a serverless endpoint: 1024 to 6144, in steps of 1024
    max_concurrency: int = 10  # requests at a time: of a serverless endpoint, or of each machine of an asynchronous one
    asynchronous: bool = False  # requests and answers are objects in the bucket (contract C5.1)
    capture: int = 0  # percent of requests and answers that are kept in the bucket
    startup_timeout: int = (
        0  # seconds to load the model and to answer /ping; 0 leaves it to the service (contract C1.5)
    )
    ami: str = ""  # of machines with a GPU; one whose driver carries the image's CUDA unless given (contract C6.2)
    isolated: bool = False  # without a network


MACHINE = EndpointOptions()


@dataclass(frozen=True)
class EndpointChange:
    """What an update changes in how the service runs an endpoint; all that is not given stays as it is. For AWS."""

    instance_count: int | None = None
    instance: str = ""  # type of the machines
    capture: int | None = None  # percent of requests and answers that are kept in the bucket; 0 ends it
    startup_timeout: int = 0  # seconds to load the model and to answer /ping
    ami: str = ""  # of machines with a GPU


NO_CHANGE = EndpointChange()
_KEPT = (
    "AsyncInferenceConfig",
    "DataCaptureConfig",
    "EnableNetworkIsolation",
    "ExecutionRoleArn",
    "ExplainerConfig",
    "KmsKeyId",
    "MetricsConfig",
    "VpcConfig",
)
_GPU = re.compile(r"ml\.(g|p)\d")
# driver 550: CUDA 12 runs on 525 and newer (contract C6.2), and this is the newest that all of these machines have
GPU_AMI = "al2-ami-sagemaker-inference-gpu-3-1"


def model_from_tarball(
    name: str, uri: str, settings: Settings, options: EndpointOptions = MACHINE
) -> CreateModelInputTypeDef:
    """Return a CreateModel request for the `model.tar.gz` of a training job."""
    return _model(name, {"Image": settings.image, "ModelDataUrl": uri}, settings, options)


def model_from_folder(
    name: str, uri: str, settings: Settings, options: EndpointOptions = MACHINE
) -> CreateModelInputTypeDef:
    """Return a CreateModel request for a model folder that lies uncompressed below `uri`."""
    source: ModelDataSourceTypeDef = {
        "S3DataSource": {"S3Uri": uri.rstrip("/") + "/", "S3DataType": "S3Prefix", "CompressionType": "None"}
    }
    return _model(name, {"Image": settings.image, "ModelDataSource": source}, settings, options)


def _model(
    name: str, container: ContainerDefinitionTypeDef, settings: Settings, options: EndpointOptions
) -> CreateModelInputTypeDef:
    request: CreateModelInputTypeDef = {
        "ModelName": name,
        "ExecutionRoleArn": settings.endpoint_role_arn,
        "PrimaryContainer": container,
    }
    if options.isolated:
        request["EnableNetworkIsolation"] = True
    if settings.subnets and not options.serverless:  # which cannot have one (contract C5.2)
        request["VpcConfig"] = vpc_config(settings)
    if settings.tags:
        request["Tags"] = tag_list(settings.tags)
    return request


def endpoint_config(
    name: str, model: str, settings: Settings, options: EndpointOptions = MACHINE
) -> CreateEndpointConfigInputTypeDef:
    """Return a CreateEndpointConfig request with one variant."""
    request: CreateEndpointConfigInputTypeDef = {
        "EndpointConfigName": name,
        "ProductionVariants": [_variant(model, settings, options)],
    }
    if options.asynchronous:
        request["AsyncInferenceConfig"] = {
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": options.max_concurrency},
            "OutputConfig": {
                "S3OutputPath": s3_uri(settings, f"async/{name}/output"),
                "S3FailurePath": s3_uri(settings, f"async/{name}/failure"),
            },
        }
    if options.capture:
        request["DataCaptureConfig"] = _capture(name, settings, options.capture)
    if settings.kms_key and not options.serverless and not _LOCAL_STORAGE.match(settings.endpoint_instance):
        request["KmsKeyId"] = settings.kms_key
    if settings.tags:
        request["Tags"] = tag_list(settings.tags)
    return request


def changed_endpoint_config(
    name: str, present: Mapping[str, Any], instances: int, settings: Settings, change: EndpointChange
) -> CreateEndpointConfigInputTypeDef:
    """Return a CreateEndpointConfig request as `present`, a described one with one variant, but for `change`.

    Its model is called `name` too. `instances` run now, which may be others than were configured.
    """
    variant: Any = {**present["ProductionVariants"][0], "ModelName": name}
    if "InstanceType" in variant:
        variant["InitialInstanceCount"] = change.instance_count or max(1, instances)
        if change.instance:
            variant["InstanceType"] = change.instance
            variant.pop("InferenceAmiVersion", None)
        if _GPU.match(variant["InstanceType"]):
            variant["InferenceAmiVersion"] = change.ami or variant.get("InferenceAmiVersion", GPU_AMI)
        _allow_to_start(variant, change.startup_timeout)
    request: Any = {
        "EndpointConfigName": name,
        "ProductionVariants": [variant],
        **{member: present[member] for member in _KEPT if member in present},
    }
    if _LOCAL_STORAGE.match(variant.get("InstanceType", "")):  # which is encrypted with a key of its own
        request.pop("KmsKeyId", None)
    if change.capture is not None:
        request.pop("DataCaptureConfig", None)
    if change.capture:
        request["DataCaptureConfig"] = _capture(name, settings, change.capture)
    if settings.tags:
        request["Tags"] = tag_list(settings.tags)
    changed: CreateEndpointConfigInputTypeDef = request
    return changed


def _capture(name: str, settings: Settings, percent: int) -> DataCaptureConfigTypeDef:
    return {
        "EnableCapture": True,
        "InitialSamplingPercentage": percent,
        "DestinationS3Uri": s3_uri(settings, f"data-capture/{name}"),
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json", "application/jsonlines"]},
    }


def _allow_to_start(variant: ProductionVariantTypeDef, seconds: int) -> None:
    """Give a variant so long to load its model and to answer; 0 leaves it as it is."""
    if seconds:
        variant["ModelDataDownloadTimeoutInSeconds"] = seconds
        variant["ContainerStartupHealthCheckTimeoutInSeconds"] = seconds


def _variant(model: str, settings: Settings, options: EndpointOptions) -> ProductionVariantTypeDef:
    variant: ProductionVariantTypeDef = {"VariantName": "AllTraffic", "ModelName": model}
    if options.serverless:
        variant["ServerlessConfig"] = {"MemorySizeInMB": options.memory, "MaxConcurrency": options.max_concurrency}
        return variant
    variant["InitialInstanceCount"] = options.instance_count
    variant["InstanceType"] = settings.endpoint_instance
    _allow_to_start(variant, options.startup_timeout)
    if _GPU.match(settings.endpoint_instance):
        variant["InferenceAmiVersion"] = options.ami or GPU_AMI  # type: ignore[typeddict-item]  # validated when sent
    return variant


def endpoint_update(
    name: str, config: str, deployment: DeploymentConfigTypeDef | None = None
) -> UpdateEndpointInputTypeDef:
    """Return an UpdateEndpoint request; `deployment` says how the traffic moves, or leaves it to the service."""
    request: UpdateEndpointInputTypeDef = {"EndpointName": name, "EndpointConfigName": config}
    if deployment:
        request["DeploymentConfig"] = deployment
    return request


def endpoint(name: str, config: str, settings: Settings | None = None) -> CreateEndpointInputTypeDef:
    """Return a CreateEndpoint request, with the tags of the settings if they are given."""
    request: CreateEndpointInputTypeDef = {"EndpointName": name, "EndpointConfigName": config}
    if settings and settings.tags:
        request["Tags"] = tag_list(settings.tags)
    return request


# the newer of the two that batch transform has; its driver 535 carries the image's CUDA (contract C4.6)
GPU_BATCH_AMI = "al2-ami-sagemaker-batch-gpu-535"


def transform_job(
    name: str,
    model: str,
    uri: str,
    settings: Settings,
    content_type: str,
    accept: str,
    instance_count: int = 1,
    max_payload: int = 0,
) -> CreateTransformJobRequestTypeDef:
    """Return a CreateTransformJob request: each object below `uri` is one record, and its answer another.

    `content_type` and `accept` are what each is and what it is answered with; `max_payload` is the MB that
    an object may have, 0 for what the container says (contract C4.2).
    """
    output: TransformOutputTypeDef = {
        "S3OutputPath": s3_uri(settings, f"transform/{name}"),
        "Accept": accept,
        "AssembleWith": "None",
    }
    resources: TransformResourcesTypeDef = {
        "InstanceType": settings.endpoint_instance,  # type: ignore[typeddict-item]  # validated when sent
        "InstanceCount": instance_count,
    }
    if _GPU.match(settings.endpoint_instance):
        resources["TransformAmiVersion"] = GPU_BATCH_AMI
    if settings.kms_key:
        output["KmsKeyId"] = settings.kms_key
        if not _LOCAL_STORAGE.match(settings.endpoint_instance):
            resources["VolumeKmsKeyId"] = settings.kms_key
    request: CreateTransformJobRequestTypeDef = {
        "TransformJobName": name,
        "ModelName": model,
        "BatchStrategy": "SingleRecord",
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}},
            "ContentType": content_type,
            "SplitType": "None",
        },
        "TransformOutput": output,
        "TransformResources": resources,
    }
    if max_payload:
        request["MaxPayloadInMB"] = max_payload
    if settings.tags:
        request["Tags"] = tag_list(settings.tags)
    return request

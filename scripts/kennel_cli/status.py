"""Whether there is a job, a search or an endpoint of a name, and how it is."""

from botocore.exceptions import ClientError

from kennel_cli.platforms.account import aws_errors
from kennel_cli.platforms.platform import Kind, Platform, is_not_there

_ASKED = {  # operation, member of its request, member of its answer
    Kind.TRAINING: ("describe_training_job", "TrainingJobName", "TrainingJobStatus"),
    Kind.SEARCH: (
        "describe_hyper_parameter_tuning_job",
        "HyperParameterTuningJobName",
        "HyperParameterTuningJobStatus",
    ),
    Kind.ENDPOINT: ("describe_endpoint", "EndpointName", "EndpointStatus"),
    Kind.TRANSFORM: ("describe_transform_job", "TransformJobName", "TransformJobStatus"),
}


def status_of(platform: Platform, kind: Kind, name: str) -> str | None:
    """Return the status, such as `InProgress`, or None where there is none of that kind and name."""
    operation, member, status = _ASKED[kind]
    try:
        with aws_errors("sagemaker"):
            return str(getattr(platform.sagemaker, operation)(**{member: name})[status])
    except ClientError as error:
        if is_not_there(error):
            return None
        raise

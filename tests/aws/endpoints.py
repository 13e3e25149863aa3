"""Endpoints in the account that moto plays."""

ROLE = "arn:aws:iam::123456789012:role/kennel"
IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/kennel:1"


def make_endpoint(
    sagemaker, name="dogs", instance="ml.m5.xlarge", count=1, asynchronous=False, serverless=None, namespace=""
):
    """Make an endpoint with one variant, its configuration and its model."""
    container = {"Image": IMAGE, "Environment": {"KENNEL_METRICS_NAMESPACE": namespace} if namespace else {}}
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    variant = {"VariantName": "AllTraffic", "ModelName": name}
    if serverless:
        variant["ServerlessConfig"] = serverless
    else:
        variant |= {"InstanceType": instance, "InitialInstanceCount": count}
    output = {"S3OutputPath": asynchronous if isinstance(asynchronous, str) else "s3://photos/out"}
    more = {"AsyncInferenceConfig": {"OutputConfig": output}} if asynchronous else {}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], **more)
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    return name

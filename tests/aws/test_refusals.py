"""What AWS refuses is one sentence, with what mends it."""

import boto3
import pytest
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from kennel_cli.operations.calls import Services
from kennel_cli.platforms.account import AwsError, aws_errors, aws_sentence
from kennel_cli.platforms.aws import AwsPlatform
from kennel_cli.platforms.validation import client_error
from tests.aws.conftest import REGION

ANNA = "arn:aws:iam::123456789012:user/anna"
JOB = f"arn:aws:sagemaker:{REGION}:123456789012:training-job/dogs"
MAY_NOT = f"User: {ANNA} is not authorized to perform: sagemaker:CreateTrainingJob on resource: {JOB}"
QUOTA = (
    "The account-level service limit 'ml.g5.xlarge for training job usage' is 0 Instances, with current utilization of "
    "0 Instances and a request delta of 1 Instances. Please use AWS Service Quotas to request an increase."
)
MALFORMED = "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'"
NOT_GRANTED = (
    "The repository of your image 123456789012.dkr.ecr.eu-west-1.amazonaws.com/kennel:2 does not grant "
    "ecr:GetDownloadUrlForLayer, ecr:BatchGetImage, ecr:BatchCheckLayerAvailability permission to sagemaker"
)
PUSH = "`make push` puts it there and prints its URI for KENNEL_IMAGE"


def busy(retries):
    error = client_error("ThrottlingException", "Rate exceeded", "DescribeTrainingJob")
    error.response["ResponseMetadata"]["RetryAttempts"] = retries
    return error


@pytest.mark.parametrize(
    ("error", "service", "sentence"),
    [
        (
            client_error(
                "AccessDeniedException",
                f"{MAY_NOT} because no identity-based policy allows the sagemaker:CreateTrainingJob action",
                "CreateTrainingJob",
            ),
            "sagemaker",
            f"kennel may not do sagemaker:CreateTrainingJob on {JOB}; give that permission to {ANNA} with an IAM "
            "policy",
        ),
        (
            client_error("AccessDeniedException", f"{MAY_NOT} with an explicit deny", "CreateTrainingJob"),
            "sagemaker",
            f"kennel may not do sagemaker:CreateTrainingJob on {JOB}: a policy denies it to {ANNA}; ask whoever made "
            "that policy",
        ),
        (
            client_error(
                "AccessDenied",
                f"User: {ANNA} is not authorized to perform: cloudwatch:PutMetricAlarm on resource: *",
                "PutMetricAlarm",
            ),
            "cloudwatch",
            f"kennel may not do cloudwatch:PutMetricAlarm; give that permission to {ANNA} with an IAM policy",
        ),
        (
            client_error("403", "Forbidden", "HeadObject"),
            "s3",
            "kennel may not do s3:GetObject (Forbidden); give it to your user or role with an IAM policy",
        ),
        (
            client_error("AccessDeniedException", "not allowed", "InvokeEndpoint"),
            "sagemaker-runtime",
            "kennel may not do sagemaker:InvokeEndpoint (not allowed); give it to your user or role with an IAM policy",
        ),
        (
            client_error("ResourceLimitExceeded", QUOTA, "CreateTrainingJob"),
            "sagemaker",
            "the quota 'ml.g5.xlarge for training job usage' allows 0, 0 are in use, and 1 more were asked for; take "
            "another instance type, or ask for more with `aws service-quotas request-service-quota-increase "
            "--service-code sagemaker --desired-value 1 --quota-code $(aws service-quotas list-service-quotas "
            "--service-code sagemaker --output text "
            "--query \"Quotas[?QuotaName=='ml.g5.xlarge for training job usage'].QuotaCode\")`",
        ),
        (
            client_error("ResourceLimitExceeded", "You have 10 models", "CreateModel"),
            "sagemaker",
            "a quota of the account is reached (You have 10 models); ask for more in the AWS console, under Service "
            "Quotas",
        ),
        (
            busy(4),
            "sagemaker",
            "SageMaker is asked too much: it refused 5 times (Rate exceeded); run the command again in a minute",
        ),
        (
            client_error("ExpiredTokenException", "The security token is expired", "ListTrainingJobs"),
            "sagemaker",
            "AWS does not accept the credentials (The security token is expired); log in again: `aws sso login`, or "
            "set new keys",
        ),
        (
            client_error("ValidationException", "Requested image 1.dkr.ecr/kennel:2 not found.", "CreateModel"),
            "sagemaker",
            f"SageMaker cannot pull the image 1.dkr.ecr/kennel:2 from Amazon ECR; {PUSH}",
        ),
        (
            client_error("ValidationException", "Cannot find the requested image: kennel:2", "CreateTrainingJob"),
            "sagemaker",
            f"SageMaker cannot pull the image kennel:2 from Amazon ECR; {PUSH}",
        ),
        (
            client_error(
                "ValidationException",
                "Cannot find repository: kennel in registry ID: 123456789012 Please check if it exists",
                "CreateTrainingJob",
            ),
            "sagemaker",
            f"SageMaker cannot pull the image kennel from Amazon ECR; {PUSH}",
        ),
        (
            client_error("ValidationException", NOT_GRANTED, "CreateModel"),
            "sagemaker",
            "SageMaker cannot pull the image 123456789012.dkr.ecr.eu-west-1.amazonaws.com/kennel:2 from Amazon ECR; "
            f"{PUSH}",
        ),
        (
            client_error("AuthorizationHeaderMalformed", MALFORMED, "ListObjectsV2"),
            "s3",
            "the bucket is in eu-west-1; set AWS_REGION=eu-west-1, or KENNEL_BUCKET to a bucket of the region you use",
        ),
        (
            client_error("PermanentRedirect", "use another endpoint", "PutObject"),
            "s3",
            "the bucket is in another region (use another endpoint); set AWS_REGION to that one, or KENNEL_BUCKET to "
            "another",
        ),
    ],
)
def test_a_refusal_is_one_sentence_with_what_mends_it(error, service, sentence):
    assert aws_sentence(error, service) == sentence
    with pytest.raises(AwsError) as told, aws_errors(service):
        raise error
    assert str(told.value) == sentence


def test_the_region_of_a_bucket_is_read_from_the_answer():
    error = client_error("PermanentRedirect", "use another endpoint", "PutObject")
    error.response["ResponseMetadata"]["HTTPHeaders"] = {"x-amz-bucket-region": "eu-north-1"}
    assert aws_sentence(error, "s3").startswith("the bucket is in eu-north-1; set AWS_REGION=eu-north-1")


@pytest.mark.parametrize(
    "error",
    [
        client_error("ValidationException", "Could not find endpoint", "DescribeEndpoint"),
        client_error("ResourceNotFound", "Requested resource not found", "DescribeTrainingJob"),
        client_error("AccessDenied", "Access Denied", "ListObjectsV2"),  # the caller knows which bucket
        busy(0),  # whoever does not try again has a use for it
    ],
    ids=["name", "resource", "bucket", "once"],
)
def test_an_error_about_the_request_itself_is_left_to_the_caller(error):
    with pytest.raises(ClientError) as left, aws_errors("sagemaker"):
        raise error
    assert left.value is error
    assert aws_sentence(error) == ""


def test_a_failed_upload_says_what_s3_has_said():
    client = boto3.client("s3", region_name=REGION, aws_access_key_id="a", aws_secret_access_key="b")
    with Stubber(client) as stubber:
        stubber.add_client_error(
            "put_object", "AccessDenied", f"User: {ANNA} is not authorized to perform: s3:PutObject"
        )
        with (
            pytest.raises(AwsError, match="kennel may not do s3:PutObject; give that permission to "),
            aws_errors("s3"),
        ):
            client.upload_file(__file__, "mine", "file")


def test_an_upload_that_failed_for_another_reason_says_it():
    assert aws_sentence(S3UploadFailedError("Failed to upload a to b"), "s3") == (
        "S3 cannot be used: Failed to upload a to b"
    )


@pytest.mark.parametrize(
    ("service", "operation", "arguments", "action"),
    [
        ("sagemaker", "describe_endpoint", ("scale", "dogs", "--max", "2"), "sagemaker:DescribeEndpoint"),
        ("sagemaker", "describe_endpoint", ("alarms", "dogs"), "sagemaker:DescribeEndpoint"),
        ("sagemaker", "describe_endpoint", ("dashboard", "dogs"), "sagemaker:DescribeEndpoint"),
        ("sagemaker", "list_endpoints", ("cost",), "sagemaker:ListEndpoints"),
        ("cloudwatch", "describe_alarms", ("alarms", "dogs", "--off"), "cloudwatch:DescribeAlarms"),
        ("cloudwatch", "delete_dashboards", ("dashboard", "dogs", "--off"), "cloudwatch:DeleteDashboards"),
        (
            "application-autoscaling",
            "describe_scalable_targets",
            ("scale", "dogs", "--off"),
            "application-autoscaling:DescribeScalableTargets",
        ),
    ],
)
def test_a_command_that_may_not_says_which_permission_it_lacks(
    kennel, monkeypatch, service, operation, arguments, action
):
    client = boto3.client(service, region_name=REGION)
    monkeypatch.setattr(Services, "_client", lambda self, name: client if name == service else pytest.fail(name))
    with Stubber(client) as stubber:
        message = f"User: {ANNA} is not authorized to perform: {action} on resource: {JOB}"
        stubber.add_client_error(operation, "AccessDeniedException", message)
        ended = kennel(*arguments)
    assert ended.code == 1
    assert ended.stderr == (
        f"kennel: kennel may not do {action} on {JOB}; give that permission to {ANNA} with an IAM policy\n"
    )
    assert ended.stdout == ""


def test_a_log_that_is_still_refused_after_all_tries_is_asked_for_later(platform):
    with Stubber(platform._logs) as stubber:
        stubber.add_client_error("describe_log_streams", "ThrottlingException", response_meta={"RetryAttempts": 4})
        assert platform.read_log("dogs", None, ended=False) == ([], {})


def test_a_job_that_may_not_be_made_says_which_quota_is_reached(kennel, stubbed, platform, monkeypatch):
    monkeypatch.setattr(AwsPlatform, "sagemaker", platform.sagemaker)
    stubbed.add_client_error("create_training_job", "ResourceLimitExceeded", QUOTA)
    ended = kennel("train", "--on", "aws", "--data", "s3://photos/dogs", "--weights", "none", "--name", "dogs")
    assert ended.code == 1
    assert ended.stderr.startswith("kennel: the quota 'ml.g5.xlarge for training job usage' allows 0, 0 are in use")

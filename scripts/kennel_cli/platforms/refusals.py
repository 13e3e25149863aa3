"""What AWS answers when it refuses, in one sentence with the command that mends it."""

import re
from typing import Any

from botocore.exceptions import ClientError

_BAD_CREDENTIALS = (
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
)
_DENIED = ("AccessDenied", "AccessDeniedException", "403", "UnauthorizedOperation")
_BUSY = (
    "RequestLimitExceeded",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
)
_ELSEWHERE = ("AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect", "301")

_DENIAL = re.compile(
    r"User: (?P<who>\S+) is not authorized to perform: (?P<action>[\w-]+:\w+)(?: on resource: (?P<resource>\S+))?"
)
_QUOTA = re.compile(
    r"service limit '(?P<quota>[^']+)' is (?P<most>\d+) \w+, with current utilization of (?P<used>\d+) \w+ "
    r"and a request delta of (?P<more>\d+)"
)
# what CreateModel and CreateTrainingJob say of an image that is not there, or not theirs to pull
_NO_IMAGE = re.compile(
    r"Requested image ?(?P<image>\S*?) not found|Cannot find (?:the )?requested image:? ?(?P<named>\S*)"
    r"|Cannot find repository: (?P<repository>\S+)|ECR image \"(?P<invalid>[^\"]+)\" is invalid"
    r"|repository of your image (?P<closed>\S+) does not grant",
    re.IGNORECASE,
)
_RIGHT_REGION = re.compile(r"expecting '(?P<region>[a-z0-9-]+)'")
# names of permissions that differ from those of the operations
_ACTIONS = {
    "CompleteMultipartUpload": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "HeadBucket": "ListBucket",
    "HeadObject": "GetObject",
    "ListObjectsV2": "ListBucket",
    "UploadPart": "PutObject",
}


def refusal(error: ClientError, service: str, title: str) -> str:
    """Return what is wrong with the account, or "" for an error that is about the request itself.

    `service` is boto3's name of it, or "" where that is not known; `title` is its name in a sentence.
    """
    code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    sentence = ""
    if code in _BAD_CREDENTIALS:
        sentence = f"AWS does not accept the credentials ({message}); log in again: `aws sso login`, or set new keys"
    elif code in _DENIED:
        sentence = _denied(message, error.operation_name, service)
    elif code == "ResourceLimitExceeded":
        sentence = _over_quota(message)
    elif code in _BUSY:
        sentence = _busy(error.response, message, title)
    elif code in _ELSEWHERE:
        sentence = _elsewhere(error.response, message)
    elif code == "ValidationException" and (found := _NO_IMAGE.search(message)):
        sentence = _no_image(next((name for name in found.groups() if name), ""))
    return sentence


def _denied(message: str, operation: str, service: str) -> str:
    found = _DENIAL.search(message)
    if not found:
        if operation == "ListObjectsV2":  # the caller knows which bucket, and says so
            return ""
        action = _ACTIONS.get(operation, operation)
        action = f"{service.removesuffix('-runtime')}:{action}" if service else action
        return f"kennel may not do {action} ({message}); give it to your user or role with an IAM policy"
    resource = (found["resource"] or "").strip('".,')
    where = f" on {resource}" if resource and resource != "*" else ""
    what = f"kennel may not do {found['action']}{where}"
    if "explicit deny" in message:
        return f"{what}: a policy denies it to {found['who']}; ask whoever made that policy"
    return f"{what}; give that permission to {found['who']} with an IAM policy"


def _over_quota(message: str) -> str:
    found = _QUOTA.search(message)
    if not found:
        return f"a quota of the account is reached ({message}); ask for more in the AWS console, under Service Quotas"
    quota, wanted = found["quota"], int(found["used"]) + int(found["more"])
    code = (
        "aws service-quotas list-service-quotas --service-code sagemaker --output text "
        f"--query \"Quotas[?QuotaName=='{quota}'].QuotaCode\""
    )
    return (
        f"the quota '{quota}' allows {found['most']}, {found['used']} are in use, and {found['more']} more were asked "
        "for; take another instance type, or ask for more with `aws service-quotas request-service-quota-increase "
        f"--service-code sagemaker --desired-value {wanted} --quota-code $({code})`"
    )


def _busy(response: Any, message: str, title: str) -> str:
    """Return "" for a call that was not tried again: whoever wanted it so has a use for the error."""
    retries = response.get("ResponseMetadata", {}).get("RetryAttempts", 0)
    if not retries:
        return ""
    return f"{title} is asked too much: it refused {retries + 1} times ({message}); run the command again in a minute"


def _elsewhere(response: Any, message: str) -> str:
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    named = _RIGHT_REGION.search(message)
    region = headers.get("x-amz-bucket-region") or response["Error"].get("Region") or (named["region"] if named else "")
    if not region:
        return f"the bucket is in another region ({message}); set AWS_REGION to that one, or KENNEL_BUCKET to another"
    return f"the bucket is in {region}; set AWS_REGION={region}, or KENNEL_BUCKET to a bucket of the region you use"


def _no_image(image: str) -> str:
    what = f"the image {image.rstrip('.')}" if image else "the image"
    return (
        f"SageMaker cannot pull {what} from Amazon ECR; `make push` puts it there and prints its URI for KENNEL_IMAGE"
    )

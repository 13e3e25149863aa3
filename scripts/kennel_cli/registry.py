"""Put the image into Amazon ECR, under a tag that tells what it was made from: `make push`."""

import base64
import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

import kennel
from kennel.errors import KennelError
from kennel_cli.platforms.docker import require_image, run_docker

KEPT = 20  # images that the lifecycle policy leaves in the repository
LIFECYCLE = {
    "rules": [
        {
            "rulePriority": 1,
            "description": f"keep the newest {KEPT} images",
            "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": KEPT},
            "action": {"type": "expire"},
        }
    ]
}
_REVISION = "org.opencontainers.image.revision"
_NO_CREDENTIALS = ("UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException")

Say = Callable[[str], None]


class PushError(KennelError):
    """The image cannot be pushed."""


@dataclass(frozen=True)
class Login:
    """What a registry asks for before it takes an image."""

    registry: str  # host, and port if it has one
    user: str
    password: str


def push(image: str, repository: str, region: str | None, source: Path, say: Say) -> str:
    """Push `image`, made from the commit that is checked out in `source`, and return its URI with its digest.

    The repository is created if it is not there. Raises PushError or DockerError for a dirty tree, an image of another
    commit, no engine, no credentials, or a wrong region.
    """
    tag = image_tag(source)
    require_image(image)
    check_revision(image, source)
    ecr = ecr_client(region)
    address = ensure_repository(ecr, repository, say)
    if digest := pushed_digest(ecr, repository, tag):
        say(f"{address}:{tag} is there already, and tags are immutable")
        return f"{address}@{digest}"
    return push_image(image, f"{address}:{tag}", ecr_login(ecr), say)


def image_tag(source: Path) -> str:
    """Return `<version>-<commit>` for a clean checkout. Raises PushError when it is none."""
    commit = _git(source, "rev-parse", "--short=12", "HEAD")
    changed = _git(source, "status", "--porcelain").splitlines()
    if changed:
        raise PushError(
            f"{len(changed)} files differ from the commit {commit} that the tag would name ({changed[0][3:]}); "
            "commit or stash them, and run `make build` again"
        )
    return f"{kennel.__version__}-{commit}"


def check_revision(image: str, source: Path) -> None:
    """Raise PushError unless the image says that it was built from the commit in `source`."""
    commit = _git(source, "rev-parse", "HEAD")
    labels = json.loads(run_docker("image", "inspect", "--format", "{{json .Config.Labels}}", image)) or {}
    built = labels.get(_REVISION, "")
    if built != commit:
        raise PushError(f"{image} was built from {built or 'no known commit'}, not from {commit}; run `make build`")


def ecr_client(region: str | None) -> Any:
    """Return boto3's ECR client. Raises PushError for no region, or one that AWS does not have."""
    session = boto3.Session(region_name=region)
    known = {r for p in session.get_available_partitions() for r in session.get_available_regions("ecr", p)}
    if session.region_name is None:
        raise PushError("no AWS region is set; set AWS_REGION, or the region of your AWS profile")
    if session.region_name not in known:
        raise PushError(f"AWS has no region {session.region_name!r} with ECR; set AWS_REGION to one such as us-east-1")
    try:
        return session.client("ecr")
    except (BotoCoreError, NoRegionError) as error:
        raise PushError(f"ECR cannot be used: {error}") from error


def ensure_repository(ecr: Any, name: str, say: Say) -> str:
    """Return the repository's address; create it with scan on push, immutable tags and a lifecycle policy if needed."""
    try:
        found = _call(ecr.describe_repositories, repositoryNames=[name])["repositories"][0]
    except ecr.exceptions.RepositoryNotFoundException:
        found = _call(
            ecr.create_repository,
            repositoryName=name,
            imageTagMutability="IMMUTABLE",
            imageScanningConfiguration={"scanOnPush": True},
        )["repository"]
        _call(ecr.put_lifecycle_policy, repositoryName=name, lifecyclePolicyText=json.dumps(LIFECYCLE))
        say(f"created the repository {found['repositoryUri']}")
    address: str = found["repositoryUri"]
    return address


def pushed_digest(ecr: Any, repository: str, tag: str) -> str:
    """Return the digest of the image with `tag`, or "" when there is none."""
    try:
        images = _call(ecr.describe_images, repositoryName=repository, imageIds=[{"imageTag": tag}])["imageDetails"]
    except ecr.exceptions.ImageNotFoundException:
        return ""
    return str(images[0]["imageDigest"])


def ecr_login(ecr: Any) -> Login:
    """Return the login of this account's registry, good for twelve hours."""
    data = _call(ecr.get_authorization_token)["authorizationData"][0]
    user, password = base64.b64decode(data["authorizationToken"]).decode().split(":", 1)
    return Login(re.sub(r"^https?://", "", data["proxyEndpoint"]).rstrip("/"), user, password)


def push_image(image: str, target: str, login: Login, say: Say) -> str:
    """Log in, push `image` as `target` (`registry/repository:tag`), and return its URI with its digest."""
    run_docker("login", "--username", login.user, "--password-stdin", login.registry, stdin=login.password)
    run_docker("tag", image, target)
    say(f"pushing {target}")
    run_docker("push", "--quiet", target)
    address = target.rpartition(":")[0]
    digests = json.loads(run_docker("image", "inspect", "--format", "{{json .RepoDigests}}", target))
    uris = [uri for uri in digests if uri.startswith(f"{address}@")]
    if not uris:
        raise PushError(f"the engine does not tell the digest of {target} after the push; it knows {digests}")
    return str(uris[0])


def _call(operation: Callable[..., Any], **request: Any) -> Any:
    """Call an operation of ECR, and say in one sentence what is wrong with the account or the network.

    A ClientError that is about the request itself, such as a name that is not there, is left to the caller.
    """
    try:
        return operation(**request)
    except NoCredentialsError:
        raise PushError("there are no AWS credentials; set AWS_PROFILE, or log in with `aws sso login`") from None
    except ClientError as error:
        if error.response["Error"]["Code"] in _NO_CREDENTIALS:
            message = error.response["Error"]["Message"]
            raise PushError(f"AWS does not accept the credentials ({message}); log in again") from error
        raise
    except BotoCoreError as error:
        raise PushError(f"ECR does not answer: {error}") from error


def _git(source: Path, *arguments: str) -> str:
    answer = subprocess.run(["git", "-C", str(source), *arguments], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise PushError(f"the tag names a commit, and {source} has none: {answer.stderr.strip()}")
    return answer.stdout.rstrip()

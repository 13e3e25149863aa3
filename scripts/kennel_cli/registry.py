"""Put the image into Amazon ECR, under a tag that tells what it was made from: `make push`."""

import base64
import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kennel
from kennel.errors import KennelError
from kennel_cli.platforms.account import aws_client, aws_errors, aws_session
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
    commit, or no engine, and AwsError for no credentials or a wrong region.
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
    """Return boto3's ECR client. Raises AwsError for no region, or one that AWS does not have."""
    return aws_client(aws_session(region, "ecr"), "ecr")


def ensure_repository(ecr: Any, name: str, say: Say) -> str:
    """Return the repository's address; create it with scan on push, immutable tags and a lifecycle policy if needed."""
    found = find_repository(ecr, name)
    if found is None:
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


def find_repository(ecr: Any, name: str) -> Any:
    """Return the description of a repository of the account, or None when there is none of that name."""
    try:
        return _call(ecr.describe_repositories, repositoryNames=[name])["repositories"][0]
    except ecr.exceptions.RepositoryNotFoundException:
        return None


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
    """Call an operation of ECR; raise AwsError for what is wrong with the account or the network."""
    with aws_errors("ecr"):
        return operation(**request)


def _git(source: Path, *arguments: str) -> str:
    answer = subprocess.run(["git", "-C", str(source), *arguments], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise PushError(f"the tag names a commit, and {source} has none: {answer.stderr.strip()}")
    return answer.stdout.rstrip()

"""`make push`: ECR's API as moto plays it, and a real registry that asks for a password."""

import json
import shutil
import subprocess

import bcrypt
import boto3
import pytest
import urllib3

import kennel
from kennel_cli import registry
from kennel_cli.platforms.account import AwsError
from kennel_cli.platforms.docker import DockerError
from kennel_cli.platforms.ports import free_port
from kennel_cli.registry import Login, PushError
from tests.engine import needs_engine

REGION = "eu-west-1"
TEST_IMAGE = "kennel-test-push"
MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json"})


@pytest.fixture
def checkout(tmp_path):
    """A git repository with one commit."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "file").write_text("1")
    git = ["git", "-C", str(folder), "-c", "user.name=A", "-c", "user.email=a@example.org"]
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "Begin"]):
        subprocess.run([*git, *arguments], check=True)
    return folder


def ignore(text):
    pass


def head(checkout):
    command = ["git", "-C", checkout, "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_new_repository_scans_keeps_tags_and_expires_all_but_twenty(account):
    ecr, said = registry.ecr_client(REGION), []
    address = registry.ensure_repository(ecr, "kennel", said.append)
    assert address == "123456789012.dkr.ecr.eu-west-1.amazonaws.com/kennel"
    assert said == [f"created the repository {address}"]
    made = ecr.describe_repositories(repositoryNames=["kennel"])["repositories"][0]
    assert made["imageTagMutability"] == "IMMUTABLE"
    assert made["imageScanningConfiguration"] == {"scanOnPush": True}
    rules = json.loads(ecr.get_lifecycle_policy(repositoryName="kennel")["lifecyclePolicyText"])["rules"]
    assert rules[0]["selection"]["countNumber"] == 20


def test_a_repository_that_is_there_is_left_as_it_is(account):
    ecr = registry.ecr_client(REGION)
    ecr.create_repository(repositoryName="kennel", imageTagMutability="MUTABLE")
    registry.ensure_repository(ecr, "kennel", ignore)
    made = ecr.describe_repositories(repositoryNames=["kennel"])["repositories"][0]
    assert made["imageTagMutability"] == "MUTABLE"


def test_a_tag_that_was_pushed_is_found_with_its_digest(account):
    ecr = registry.ecr_client(REGION)
    registry.ensure_repository(ecr, "kennel", ignore)
    assert registry.pushed_digest(ecr, "kennel", "0.1.0-abc") == ""
    pushed = ecr.put_image(repositoryName="kennel", imageManifest=MANIFEST, imageTag="0.1.0-abc")["image"]
    assert registry.pushed_digest(ecr, "kennel", "0.1.0-abc") == pushed["imageId"]["imageDigest"]


def test_the_login_is_what_ecr_gives_without_its_https(account):
    login = registry.ecr_login(registry.ecr_client(REGION))
    assert login.user == "AWS"
    assert login.registry == "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
    assert login.password


def test_the_tag_is_the_version_and_the_commit(checkout):
    assert registry.image_tag(checkout) == f"{kennel.__version__}-{head(checkout)[:12]}"


def test_a_dirty_tree_is_refused_with_the_file(checkout):
    (checkout / "file").write_text("2")
    with pytest.raises(PushError, match=r"1 files differ from the commit .* \(file\); commit or stash"):
        registry.image_tag(checkout)


def test_a_folder_without_a_commit_is_refused(tmp_path):
    with pytest.raises(PushError, match=r"the tag names a commit, and .* has none"):
        registry.image_tag(tmp_path)


def test_no_region_and_an_unknown_region_are_said(account, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(AwsError, match="no AWS region is set; set AWS_REGION"):
        registry.ecr_client(None)
    with pytest.raises(AwsError, match="AWS has no region 'eu-west-9' with ECR"):
        registry.ecr_client("eu-west-9")


def test_no_credentials_are_said_in_one_sentence(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(AwsError, match="there are no AWS credentials; set AWS_PROFILE"):
        registry.ensure_repository(registry.ecr_client(REGION), "kennel", ignore)


def test_no_engine_is_said_in_one_sentence(checkout, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{checkout}/none.sock")
    with pytest.raises(DockerError, match="no Docker engine answers"):
        registry.push("kennel", "kennel", REGION, checkout, ignore)


@pytest.fixture(scope="module")
def local_registry(tmp_path_factory):
    """A real registry on this machine that asks for a password."""
    if shutil.which("docker-registry") is None:
        pytest.skip("there is no docker-registry; install it (Debian: apt-get install docker-registry)")
    folder = tmp_path_factory.mktemp("registry")
    password = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    (folder / "htpasswd").write_text(f"AWS:{password}\n")
    address = f"127.0.0.1:{free_port()}"
    config = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": address},
        "auth": {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}},
    }
    (folder / "config.yml").write_text(json.dumps(config))
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    pool = urllib3.PoolManager(retries=urllib3.Retry(total=None, connect=50, backoff_factor=0.01, backoff_max=0.2))
    assert pool.request("GET", f"http://{address}/v2/").status == 401
    yield address
    server.terminate()
    server.wait()


@pytest.fixture
def small_image(checkout):
    """An image of one file that says it was built from the checkout."""
    commit = head(checkout)
    (checkout / "Dockerfile").write_text("FROM scratch\nCOPY file /\n")
    label = f"org.opencontainers.image.revision={commit}"
    build = ["docker", "build", "--quiet", "--tag", TEST_IMAGE, "--label", label, str(checkout)]
    subprocess.run(build, check=True, capture_output=True)
    (checkout / "Dockerfile").unlink()
    yield TEST_IMAGE
    subprocess.run(["docker", "rmi", "--force", TEST_IMAGE], check=True, capture_output=True)


@pytest.fixture
def docker_config(tmp_path, monkeypatch):
    """Logins of these tests are not the user's."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


@pytest.mark.docker
@needs_engine
def test_an_image_is_pushed_and_its_digest_told(docker_config, local_registry, small_image):
    target = f"{local_registry}/kennel:0.1.0-abc"
    uri = registry.push_image(small_image, target, Login(local_registry, "AWS", "secret"), ignore)
    assert uri.startswith(f"{local_registry}/kennel@sha256:")
    headers = urllib3.make_headers(basic_auth="AWS:secret")
    listed = urllib3.request("GET", f"http://{local_registry}/v2/kennel/tags/list", headers=headers).json()
    assert listed == {"name": "kennel", "tags": ["0.1.0-abc"]}
    subprocess.run(["docker", "rmi", target], check=True, capture_output=True)


@pytest.mark.docker
@needs_engine
def test_a_wrong_password_is_said_and_nothing_is_pushed(docker_config, local_registry, small_image):
    with pytest.raises(DockerError, match="docker login failed"):
        registry.push_image(
            small_image, f"{local_registry}/kennel:never", Login(local_registry, "AWS", "wrong"), ignore
        )


@pytest.mark.docker
@needs_engine
def test_an_image_of_another_commit_is_refused(small_image, checkout):
    registry.check_revision(small_image, checkout)
    (checkout / "file").write_text("2")
    git = ["git", "-C", str(checkout), "-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "commit", "--quiet", "--all", "--message", "Go on"], check=True)
    with pytest.raises(PushError, match=r"was built from .*; run `make build`"):
        registry.check_revision(small_image, checkout)


@pytest.mark.docker
@needs_engine
def test_a_pushed_tag_is_not_pushed_again(account, small_image, checkout):
    ecr = boto3.client("ecr", region_name=REGION)
    ecr.create_repository(repositoryName="kennel")
    tag = registry.image_tag(checkout)
    pushed = ecr.put_image(repositoryName="kennel", imageManifest=MANIFEST, imageTag=tag)["image"]
    said = []
    uri = registry.push(small_image, "kennel", REGION, checkout, said.append)
    assert uri.endswith(f"/kennel@{pushed['imageId']['imageDigest']}")
    assert "is there already" in said[0]

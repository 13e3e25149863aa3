"""`scripts/infrastructure.yaml` as it is written: what it makes, and what its roles may do."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from kennel_cli import infrastructure
from kennel_cli.registry import LIFECYCLE

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "scripts" / "infrastructure.yaml"
KEPT = {"Bucket", "Repository", "Key", "TrainingLogs", "TransformLogs"}  # what holds data
NO_NARROWER = {"ecr:GetAuthorizationToken", "cloudwatch:PutMetricData"}  # AWS knows no resources for these actions


class Loader(yaml.SafeLoader):
    """Reads `!Ref a` as {"Ref": "a"}, and so on."""


Loader.add_multi_constructor("!", lambda loader, tag, node: {tag: _plain(loader, node)})


def _plain(loader, node):
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_mapping(node, deep=True)


@pytest.fixture(scope="module")
def resources():
    return yaml.load(TEMPLATE.read_text(), Loader)["Resources"]


def statements(resources, *types):
    """Yield the statements of the policies in resources of these types, each with its resource's name."""
    for name, resource in resources.items():
        if resource["Type"] in types:
            for statement in resource["Properties"]["PolicyDocument"]["Statement"]:
                yield name, statement


def listed(value):
    return value if isinstance(value, list) else [value]


def of_roles(resources):
    return list(statements(resources, "AWS::IAM::Policy"))


def test_cfn_lint_has_nothing_to_say():
    command = [Path(sys.executable).with_name("cfn-lint"), "--include-checks", "I", "--", TEMPLATE]
    linted = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout, linted.stderr) == (0, "", "")


def test_it_is_short_enough_to_be_sent_in_a_request():
    assert len(infrastructure.template().encode()) < 51200


def test_no_role_may_do_all_of_anything(resources):
    assert {name for name, _ in of_roles(resources)} == {
        f"{n}Policy" for n in ("Job", "Endpoint", "Container", "Key", "Build")
    }
    for name, statement in of_roles(resources):
        assert statement["Effect"] == "Allow", name
        assert not {"NotAction", "NotResource"} & set(statement), name
        for action in listed(statement["Action"]):
            assert re.fullmatch(r"[a-z0-9]+:[A-Za-z]+", action), f"{name} allows {action}"


def test_no_role_may_do_it_to_everything_but_where_aws_knows_nothing_narrower(resources):
    wide = {action for _, s in of_roles(resources) if s["Resource"] == "*" for action in listed(s["Action"])}
    assert wide == NO_NARROWER
    metrics = [s for _, s in of_roles(resources) if s["Action"] == "cloudwatch:PutMetricData"]
    assert [s["Condition"] for s in metrics] == [{"StringLike": {"cloudwatch:namespace": "/aws/sagemaker/*"}}]


def test_no_statement_of_any_policy_allows_everything_on_everything(resources):
    found = list(statements(resources, "AWS::IAM::Policy", "AWS::S3::BucketPolicy"))
    keys = [s for r in resources.values() for s in r["Properties"].get("KeyPolicy", {}).get("Statement", [])]
    assert keys, "the key has a policy"
    for statement in [*(s for _, s in found), *keys]:
        assert statement["Effect"] == "Deny" or "*" not in listed(statement["Action"])


def test_no_policy_of_aws_is_attached(resources):
    assert "FullAccess" not in TEMPLATE.read_text()
    for resource in resources.values():
        assert not {"ManagedPolicyArns", "Policies"} & set(resource["Properties"])


@pytest.mark.parametrize(
    ("role", "service"),
    [("JobRole", "sagemaker"), ("EndpointRole", "sagemaker"), ("BuildRole", "codebuild")],
)
def test_a_role_is_taken_on_by_its_service_for_this_account_alone(resources, role, service):
    (statement,) = resources[role]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": f"{service}.amazonaws.com"}
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def test_the_bucket_is_encrypted_versioned_closed_and_tidied(resources):
    bucket = resources["Bucket"]["Properties"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    condition, own, plain = rule["If"]
    assert condition == "HasKey"
    assert own["ServerSideEncryptionByDefault"]["KMSMasterKeyID"] == {"GetAtt": "Key.Arn"}
    assert plain["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    rules = {key for rule in bucket["LifecycleConfiguration"]["Rules"] for key in rule}
    assert {"AbortIncompleteMultipartUpload", "NoncurrentVersionExpiration"} <= rules
    assert not {"Expiration", "ExpirationInDays"} & rules  # what is current is never removed


def test_the_bucket_refuses_what_comes_without_tls(resources):
    ((_, statement),) = statements(resources, "AWS::S3::BucketPolicy")
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert statement["Resource"] == [{"GetAtt": "Bucket.Arn"}, {"Sub": "${Bucket.Arn}/*"}]
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_what_holds_data_outlives_the_stack(resources):
    kept = {name for name, resource in resources.items() if resource.get("UpdateReplacePolicy") == "Retain"}
    assert kept == KEPT
    assert {resources[name]["DeletionPolicy"] for name in kept} == {"RetainExceptOnCreate"}


def test_the_repository_is_as_make_push_makes_it(resources):
    repository = resources["Repository"]["Properties"]
    assert json.loads(repository["LifecyclePolicy"]["LifecyclePolicyText"]) == LIFECYCLE
    assert repository["ImageTagMutability"] == "IMMUTABLE"
    assert repository["ImageScanningConfiguration"] == {"ScanOnPush": True}


def test_builds_have_what_buildspec_asks_for(resources):
    header = (ROOT / "buildspec.yml").read_text().partition("version:")[0]
    needed = set(re.findall(r"ecr:[A-Za-z]+", header)) - {"ecr:CreateRepository", "ecr:PutLifecyclePolicy"}
    allowed = {action for name, s in of_roles(resources) if name == "BuildPolicy" for action in listed(s["Action"])}
    assert needed
    assert needed <= allowed
    environment = resources["Build"]["Properties"]["Environment"]
    assert environment["Image"] in header
    assert environment["PrivilegedMode"] is True


def test_an_installed_kennel_brings_the_template(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    for name in ("code", "scripts"):
        shutil.copytree(
            ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg*")
        )
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("kennel_cli/infrastructure.yaml") == TEMPLATE.read_bytes()

import json

import pytest

from kennel.container.environment import (
    REQUEST_LOG,
    TrainingEnvironment,
    invocation_seconds,
    payload_limit,
    share_variable,
)
from kennel.errors import ContractError


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    monkeypatch.delenv("TRAINING_JOB_NAME", raising=False)
    (tmp_path / "input" / "config").mkdir(parents=True)
    return tmp_path


def name_checkpoints(tree, text):
    (tree / "input" / "config" / "checkpointconfig.json").write_text(text)
    return TrainingEnvironment.read().checkpoint_dir


def test_there_are_no_checkpoints_unless_somebody_keeps_them(tree):
    assert TrainingEnvironment.read().checkpoint_dir is None
    (tree / "checkpoints").mkdir()
    assert TrainingEnvironment.read().checkpoint_dir == tree / "checkpoints"


@pytest.mark.parametrize(("named", "found"), [("/opt/ml/checkpoints", "checkpoints"), ("/opt/ml/a/b", "a/b")])
def test_the_folder_for_checkpoints_may_be_named_a6_1(tree, named, found):
    assert name_checkpoints(tree, json.dumps({"S3Uri": "s3://b/k", "LocalPath": named})) == tree / found


def test_the_folder_for_checkpoints_may_be_outside_the_tree(tree):
    assert str(name_checkpoints(tree, '{"LocalPath": "/mnt/kept"}')) == "/mnt/kept"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"LocalPath": null}', '{"LocalPath": 3}'])
def test_a_file_that_says_nothing_of_checkpoints_is_passed_over_a2_4(tree, text):
    assert name_checkpoints(tree, text) is None


def test_the_job_knows_its_name(tree, monkeypatch):
    assert TrainingEnvironment.read().job_name == ""
    monkeypatch.setenv("TRAINING_JOB_NAME", "dogs-17")
    assert TrainingEnvironment.read().job_name == "dogs-17"


def test_a_share_is_a_number_from_0_to_1(monkeypatch):
    monkeypatch.setenv(REQUEST_LOG, "0.25")
    assert share_variable(REQUEST_LOG, 1) == 0.25
    monkeypatch.setenv(REQUEST_LOG, "")
    assert share_variable(REQUEST_LOG, 1) == 1


@pytest.mark.parametrize("text", ["all", "1.5", "-1", "nan"])
def test_what_is_no_share_is_refused(monkeypatch, text):
    monkeypatch.setenv(REQUEST_LOG, text)
    with pytest.raises(ContractError, match=f"KENNEL_REQUEST_LOG is '{text}'; it should be a number from 0 to 1"):
        share_variable(REQUEST_LOG, 1)


@pytest.mark.parametrize(
    ("timeout", "batch", "seconds"),
    [("", "", 60), ("1", "", 60), ("900", "false", 900), ("", "true", 3600), ("60", "true", 3600)],
)
def test_a_caller_waits_a_minute_unless_the_owner_knows_better_c1_7_c4_5(monkeypatch, timeout, batch, seconds):
    monkeypatch.setenv("SAGEMAKER_MODEL_SERVER_TIMEOUT", timeout)
    monkeypatch.setenv("SAGEMAKER_BATCH", batch)
    assert invocation_seconds() == seconds


@pytest.mark.parametrize(("given", "megabytes"), [("", 100), ("6", 6), ("0", 1024)])
def test_the_largest_body_is_the_owners_to_choose_c1_8_c4_3(monkeypatch, given, megabytes):
    monkeypatch.setenv("SAGEMAKER_MAX_PAYLOAD_IN_MB", given)
    assert payload_limit() == megabytes * 2**20

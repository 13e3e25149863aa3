"""`--aws-debugger`: what a request asks of a service that some accounts still have."""

import json

import pytest

from kennel_cli.platforms.validation import validate
from tests.aws.conftest import BUCKET, REGION, SETTINGS

MEMBERS = {"DebugHookConfig", "DebugRuleConfigurations", "ProfilerConfig", "ProfilerRuleConfigurations"}
SMALL = ("--on", "aws", "--weights", "none", "--backbone", "resnet18", "--name", "dogs", "--dry-run")


@pytest.fixture
def dry_run(kennel, colour_images, settings):
    """Return the request that a dry run prints."""

    def run(*arguments):
        ended = kennel("train", *SMALL, "--data", colour_images, *arguments)
        assert ended.code == 0, ended.stderr
        request = json.loads(ended.stdout)
        validate("CreateTrainingJob", request)
        return request

    return run


def test_a_plain_request_does_not_ask_for_the_service_d1_1(dry_run):
    assert not MEMBERS & dry_run().keys()


def test_the_services_rules_are_the_jobs_own_with_their_parameters_d2_7(dry_run):
    request = dry_run("--aws-debugger", "--rules", "overfit,dead_relu", "--rule-parameters", "overfit_patience=3")
    rules = {rule["RuleConfigurationName"]: rule for rule in request["DebugRuleConfigurations"]}
    assert rules["Overfit"]["RuleParameters"] == {"rule_to_invoke": "Overfit", "patience": "3"}
    assert rules["DeadRelu"]["RuleParameters"] == {"rule_to_invoke": "DeadRelu"}
    image = f"929884845733.dkr.ecr.{REGION}.amazonaws.com/sagemaker-debugger-rules:latest"
    assert {rule["RuleEvaluatorImage"] for rule in rules.values()} == {image}
    assert len(dry_run("--aws-debugger")["DebugRuleConfigurations"]) == 11


def test_tensors_and_samples_of_the_machine_go_below_the_job_d2_1_d2_4(dry_run):
    request = dry_run("--aws-debugger")
    folder = f"s3://{BUCKET}/training"  # where the service makes dogs/debug-output and dogs/profiler-output
    assert request["DebugHookConfig"]["S3OutputPath"] == folder
    assert request["DebugHookConfig"]["HookParameters"]["train.save_interval"] == "100"
    collections = {one["CollectionName"] for one in request["DebugHookConfig"]["CollectionConfigurations"]}
    assert {"losses", "weights", "gradients", "biases"} <= collections
    assert request["ProfilerConfig"] == {"S3OutputPath": folder, "ProfilingIntervalInMilliseconds": 500}
    [report] = request["ProfilerRuleConfigurations"]
    assert report["RuleParameters"] == {"rule_to_invoke": "ProfilerReport"}


def test_parameters_of_profiler_rules_go_to_the_report_that_runs_them_d4(dry_run):
    request = dry_run("--aws-debugger", "--rule-parameters", "StepOutlier_stddev=5; overfit_patience=3")
    [report] = request["ProfilerRuleConfigurations"]
    assert report["RuleParameters"] == {"rule_to_invoke": "ProfilerReport", "StepOutlier_stddev": "5"}
    rules = {rule["RuleConfigurationName"]: rule["RuleParameters"] for rule in request["DebugRuleConfigurations"]}
    assert rules["Overfit"] == {"rule_to_invoke": "Overfit", "patience": "3"}


def test_curves_for_tensorboard_go_below_the_job_when_asked_a6_5(dry_run):
    assert "TensorBoardOutputConfig" not in dry_run()
    assert dry_run("--tensorboard")["TensorBoardOutputConfig"] == {"S3OutputPath": f"s3://{BUCKET}/training"}


def test_a_region_without_the_service_is_said_before_anything_is_sent(kennel, colour_images, settings, monkeypatch):
    monkeypatch.setenv("KENNEL_IMAGE", SETTINGS["KENNEL_IMAGE"].replace(REGION, "mx-central-1"))
    ended = kennel("train", *SMALL, "--data", colour_images, "--aws-debugger")
    assert ended.code == 1
    assert "Amazon SageMaker Debugger has no rules in mx-central-1; leave out --aws-debugger" in ended.stderr


def test_a_local_job_has_no_service(kennel, colour_images):
    ended = kennel("train", "--weights", "none", "--data", colour_images, "--aws-debugger")
    assert ended.code == 1
    assert "--aws-debugger is for jobs on AWS" in ended.stderr

import json
import os
import re
import signal
import struct
import subprocess
import sys
import tarfile
import time
from datetime import datetime, timedelta, timezone

import psutil
import pytest
from botocore.exceptions import ClientError, ParamValidationError, WaiterError
from tensorboardX.proto.event_pb2 import Event

from kennel.debugger.trial import read_trial
from kennel_cli.platforms.validation import service_model


def wait_for_line(sagemaker, text, name="job"):
    deadline = time.monotonic() + 60
    log = sagemaker.training_log(name)
    while not (log.exists() and text in log.read_text()):
        assert time.monotonic() < deadline, sagemaker.describe_training_job(TrainingJobName=name)
        time.sleep(0.05)


def refused(call, **request):
    with pytest.raises(ClientError) as caught:
        call(**request)
    return caught.value.response["Error"]


def test_a_job_completes_with_model_output_and_metrics_in_the_store(sagemaker, request_for, finish):
    created = sagemaker.create_training_job(**request_for(epochs="2"))
    assert created["TrainingJobArn"].endswith(":training-job/job")
    description = finish()
    assert description["TrainingJobStatus"] == description["SecondaryStatus"] == "Completed"
    model = sagemaker.store.path(description["ModelArtifacts"]["S3ModelArtifacts"])
    assert model.name == "model.tar.gz"
    with tarfile.open(model) as tar:
        assert sorted(tar.getnames()) == ["kennel.json", "model.safetensors"]
    with tarfile.open(model.with_name("output.tar.gz")) as tar:
        assert "test_predictions.csv" in tar.getnames()
    metrics = {metric["MetricName"]: metric["Value"] for metric in description["FinalMetricDataList"]}
    [last] = re.findall("^best_epoch=.*", sagemaker.training_log("job").read_text(), re.MULTILINE)
    assert f"test_accuracy={metrics['test_accuracy']:.4f};" in last
    assert f"valid_loss={metrics['valid_loss']:.4f};" in last


def test_a_description_has_the_members_and_types_of_the_services_response_a1_11(sagemaker, request_for, finish):
    request = request_for()
    sagemaker.create_training_job(**request)
    description = finish()
    members = service_model("sagemaker").operation_model("DescribeTrainingJob").output_shape.members
    assert set(description) - {"ResponseMetadata"} <= set(members)
    assert {name: description[name] for name in request} == request
    for name in ("CreationTime", "LastModifiedTime", "TrainingStartTime", "TrainingEndTime"):
        assert isinstance(description[name], datetime)
    assert description["TrainingTimeInSeconds"] >= 1


def test_a_model_may_be_kept_uncompressed_a2_8(sagemaker, request_for, finish):
    request = request_for()
    request["OutputDataConfig"]["CompressionType"] = "NONE"
    sagemaker.create_training_job(**request)
    folder = sagemaker.store.path(finish()["ModelArtifacts"]["S3ModelArtifacts"])
    assert (folder / "kennel.json").is_file()


def test_a_failed_job_has_the_failure_files_reason_and_no_model_a1_5(sagemaker, request_for):
    sagemaker.create_training_job(**request_for(weights="pretrained"))
    with pytest.raises(WaiterError):
        sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName="job")
    description = sagemaker.describe_training_job(TrainingJobName="job")
    assert description["TrainingJobStatus"] == "Failed"
    assert description["FailureReason"].startswith("there are no pretrained weights")
    assert "ModelArtifacts" not in description


def test_data_that_is_not_there_fails_the_job_with_its_uri(sagemaker, request_for):
    request = request_for()
    request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"] = "s3://no-bucket/no-key"
    sagemaker.create_training_job(**request)
    with pytest.raises(WaiterError):
        sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName="job")
    reason = sagemaker.describe_training_job(TrainingJobName="job")["FailureReason"]
    assert "no S3 objects found under s3://no-bucket/no-key" in reason


@pytest.mark.parametrize(
    ("channel", "said"),
    [
        ({"InputMode": "Pipe"}, "the channel `training` is in Pipe mode"),
        ({"RecordWrapperType": "RecordIO"}, "the channel `training` has RecordWrapperType RecordIO"),
        ({"CompressionType": "Gzip"}, "the channel `training` has CompressionType Gzip"),
    ],
)
def test_a_channel_that_is_a_stream_fails_the_job_with_what_would_do_a2_6(sagemaker, request_for, channel, said):
    request = request_for()
    request["InputDataConfig"][0] |= channel
    sagemaker.create_training_job(**request)
    with pytest.raises(WaiterError):
        sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName="job")
    reason = sagemaker.describe_training_job(TrainingJobName="job")["FailureReason"]
    assert said in reason
    assert "File or FastFile" in reason


@pytest.mark.parametrize("local", [{}, {"LocalPath": "/opt/ml/input_of_mine/checkpoints"}])
def test_checkpoints_outlive_a_job_and_are_there_for_the_next_a6_1(sagemaker, request_for, finish, tmp_path, local):
    (tmp_path / "script").mkdir()
    (tmp_path / "script" / "attempt.py").write_text(
        "import json, os, pathlib\n"
        "base = pathlib.Path(os.environ['SAGEMAKER_BASE_DIR'])\n"
        "path = json.loads((base / 'input/config/checkpointconfig.json').read_text())['LocalPath']\n"
        "folder = base / pathlib.Path(path).relative_to('/opt/ml')\n"
        "print('found', sorted(p.name for p in folder.iterdir()))\n"
        "(folder / os.environ['TRAINING_JOB_NAME']).touch()\n"
    )
    for name, found in (("first", []), ("second", ["first"])):
        request = request_for(name, sagemaker_program="attempt.py", sagemaker_submit_directory=str(tmp_path / "script"))
        sagemaker.create_training_job(**request, CheckpointConfig={"S3Uri": "s3://bucket/kept", **local})
        assert finish(name)["TrainingJobStatus"] == "Completed"
        assert f"found {found}" in sagemaker.training_log(name).read_text()
    assert (sagemaker.store.path("s3://bucket/kept") / "second").exists()


def test_tensors_of_a_request_with_a_debugger_are_kept_and_can_be_judged_d2_1(sagemaker, request_for, finish):
    hook = {"S3OutputPath": "s3://bucket/saved", "HookParameters": {"save_interval": "1"}}
    profiler = {"S3OutputPath": "s3://bucket/saved", "DisableProfiler": True}
    sagemaker.create_training_job(**request_for(), DebugHookConfig=hook, ProfilerConfig=profiler)
    assert finish()["TrainingJobStatus"] == "Completed"
    saved = sagemaker.store.path("s3://bucket/saved/job/debug-output")
    assert "CrossEntropyLoss_output_0" in {series.name for series in read_trial(saved).series}
    assert not (sagemaker.training_folder("job") / "ml/output/data/profiler.json").exists()


def events(data):
    """Read a file of TensorBoard's: a length, its checksum, an event, its checksum, and so on."""
    while data:
        (length,) = struct.unpack_from("<Q", data)
        yield Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]


def test_the_curves_of_a_job_are_kept_for_tensorboard_a6_5(sagemaker, request_for, finish):
    board = {"S3OutputPath": "s3://bucket/saved"}
    sagemaker.create_training_job(**request_for(epochs="2"), TensorBoardOutputConfig=board)
    assert finish()["TrainingJobStatus"] == "Completed"
    [file] = sagemaker.store.path("s3://bucket/saved/job/tensorboard-output").iterdir()
    values = [(value.tag, event.step) for event in events(file.read_bytes()) for value in event.summary.value]
    curves = ("loss/train", "accuracy/train", "loss/valid", "accuracy/valid")
    assert values == [(curve, epoch) for epoch in (1, 2) for curve in curves]


def test_checkpoints_outside_the_tree_are_refused_on_this_machine(sagemaker, request_for):
    sagemaker.create_training_job(
        **request_for(), CheckpointConfig={"S3Uri": "s3://bucket/kept", "LocalPath": "/somewhere"}
    )
    with pytest.raises(WaiterError):
        sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName="job")
    reason = sagemaker.describe_training_job(TrainingJobName="job")["FailureReason"]
    assert "CheckpointConfig.LocalPath is /somewhere" in reason


def test_a_stopped_job_keeps_its_model_a1_9(sagemaker, request_for, finish):
    sagemaker.create_training_job(**request_for(epochs="1000"))
    wait_for_line(sagemaker, "epoch=1 ")
    sagemaker.stop_training_job(TrainingJobName="job")
    assert sagemaker.describe_training_job(TrainingJobName="job")["TrainingJobStatus"] in ("Stopping", "Stopped")
    description = finish()
    assert description["TrainingJobStatus"] == description["SecondaryStatus"] == "Stopped"
    assert sagemaker.store.path(description["ModelArtifacts"]["S3ModelArtifacts"]).is_file()


def test_a_job_stopped_at_once_says_that_there_is_no_model(sagemaker, request_for, finish):
    sagemaker.create_training_job(**request_for())
    sagemaker.stop_training_job(TrainingJobName="job")
    description = finish()
    assert description["TrainingJobStatus"] == "Stopped"
    assert description["FailureReason"].startswith("Stopped b")
    assert "ModelArtifacts" not in description


def test_a_job_is_stopped_when_its_time_is_over_a1_12(sagemaker, request_for, finish):
    request = request_for(epochs="1000")
    request["StoppingCondition"]["MaxRuntimeInSeconds"] = 8
    sagemaker.create_training_job(**request)
    description = finish()
    assert description["TrainingJobStatus"] == "Stopped"
    assert description["SecondaryStatus"] == "MaxRuntimeExceeded"


def test_a_finished_job_cannot_be_stopped(sagemaker, request_for, finish):
    sagemaker.create_training_job(**request_for())
    finish()
    error = refused(sagemaker.stop_training_job, TrainingJobName="job")
    assert error["Code"] == "ValidationException"
    assert "in status Completed" in error["Message"]


def test_a_name_is_taken_for_good(sagemaker, request_for, finish):
    sagemaker.create_training_job(**request_for())
    assert refused(sagemaker.create_training_job, **request_for())["Code"] == "ResourceInUse"
    finish()
    assert refused(sagemaker.create_training_job, **request_for())["Code"] == "ResourceInUse"


def test_a_job_outlives_the_process_that_started_it(sagemaker, request_for, finish, home):
    code = (
        "import json, sys\n"
        "from kennel_cli.platforms.local import LocalSageMaker\n"
        "from kennel_cli.settings import kennel_home\n"
        "LocalSageMaker(kennel_home()).create_training_job(**json.loads(sys.argv[1]))\n"
    )
    subprocess.run([sys.executable, "-c", code, json.dumps(request_for())], check=True)
    assert finish()["TrainingJobStatus"] == "Completed"


def processes_of(home):
    """Return the processes whose command line or environment names this home."""
    found = []
    for process in psutil.process_iter():
        try:
            named = str(home) in " ".join(process.cmdline()) or str(home) in str(process.environ())
        except psutil.Error:
            continue
        if named and process.pid != os.getpid():
            found.append(process)
    return found


def test_a_job_whose_process_is_gone_has_failed_and_leaves_nothing_running(sagemaker, request_for, home):
    sagemaker.create_training_job(**request_for(epochs="1000"))
    wait_for_line(sagemaker, "epoch=1 ")
    [keeper] = [p for p in processes_of(home) if "training_keeper" in " ".join(p.cmdline())]
    keeper.send_signal(signal.SIGKILL)
    psutil.wait_procs([keeper], timeout=10)
    description = sagemaker.describe_training_job(TrainingJobName="job")
    assert description["TrainingJobStatus"] == "Failed"
    assert "the process that ran it is gone" in description["FailureReason"]
    _, alive = psutil.wait_procs(processes_of(home), timeout=60)
    assert alive == []


def test_jobs_share_images_and_features(sagemaker, request_for, finish):
    for name in ("one", "two"):
        sagemaker.create_training_job(**request_for(name))
        finish(name)
    assert "progress step=decode" in sagemaker.training_log("one").read_text()
    assert "progress step=decode" not in sagemaker.training_log("two").read_text()


def test_a_job_does_not_see_the_users_environment(sagemaker, request_for, finish, home, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-tell")
    sagemaker.create_training_job(**request_for())
    wait_for_line(sagemaker, "start device=")
    [program] = [p for p in processes_of(home) if "kennel.container.train" in p.cmdline()]
    variables = program.environ()
    assert "AWS_SECRET_ACCESS_KEY" not in variables
    assert variables["TRAINING_JOB_NAME"] == "job"
    finish()


def test_a_jobs_own_environment_reaches_it(sagemaker, request_for, finish, tmp_path):
    request = request_for()
    request["Environment"] = {"KENNEL_CACHE": str(tmp_path / "elsewhere")}
    sagemaker.create_training_job(**request)
    finish()
    assert (tmp_path / "elsewhere" / "packed").is_dir()


# Lists


def test_jobs_are_listed_newest_first_filtered_and_in_pages(sagemaker, request_for, finish):
    for name in ("alpha", "beta", "gamma"):
        sagemaker.create_training_job(**request_for(name, epochs="none" if name == "beta" else "1"))
    for name in ("alpha", "gamma"):
        finish(name)

    def names(**request):
        return [job["TrainingJobName"] for job in sagemaker.list_training_jobs(**request)["TrainingJobSummaries"]]

    assert names() == ["gamma", "beta", "alpha"]
    assert names(SortBy="Name", SortOrder="Ascending") == ["alpha", "beta", "gamma"]
    assert names(NameContains="BET") == ["beta"]
    assert names(StatusEquals="Completed") == ["gamma", "alpha"]
    first = sagemaker.list_training_jobs(MaxResults=2)
    assert [job["TrainingJobName"] for job in first["TrainingJobSummaries"]] == ["gamma", "beta"]
    assert names(MaxResults=2, NextToken=first["NextToken"]) == ["alpha"]


def test_jobs_are_listed_by_their_times(sagemaker, request_for):
    for name in ("first", "second"):
        sagemaker.create_training_job(**request_for(name, epochs="none"))
        with pytest.raises(WaiterError):
            sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName=name)
    first, second = (sagemaker.describe_training_job(TrainingJobName=name) for name in ("first", "second"))

    def names(**request):
        return [job["TrainingJobName"] for job in sagemaker.list_training_jobs(**request)["TrainingJobSummaries"]]

    for time_of in ("CreationTime", "LastModifiedTime"):
        assert names(**{f"{time_of}After": first[time_of]}) == ["second"]
        assert names(**{f"{time_of}After": first[time_of].isoformat()}) == ["second"]  # a text, as boto3 takes it too
        assert names(**{f"{time_of}Before": second[time_of]}) == ["first"]
        assert names(**{f"{time_of}After": first[time_of], f"{time_of}Before": second[time_of]}) == []
        elsewhere = first[time_of].astimezone(timezone(timedelta(hours=-9)))
        assert names(**{f"{time_of}After": elsewhere}) == ["second"]
        assert names(**{f"{time_of}After": first[time_of].replace(tzinfo=None)}) == ["second"]  # UTC


@pytest.mark.parametrize("token", ["later", "-1", ""])
def test_a_token_that_no_answer_gave_is_refused(sagemaker, token):
    error = refused(sagemaker.list_training_jobs, NextToken=token)
    assert error == {"Code": "ValidationException", "Message": f"{token!r} is no NextToken of an earlier answer."}


def test_an_empty_home_has_no_jobs_and_unknown_jobs_are_not_found(sagemaker):
    assert sagemaker.list_training_jobs()["TrainingJobSummaries"] == []
    error = refused(sagemaker.describe_training_job, TrainingJobName="nobody")
    assert error == {"Code": "ValidationException", "Message": "Requested resource not found."}


# Validation


def test_what_boto3_refuses_before_sending_is_refused_alike(sagemaker, request_for):
    request = request_for()
    del request["RoleArn"]
    request["ResourceConfig"]["InstanceCount"] = "one"
    request["Colour"] = "red"
    with pytest.raises(ParamValidationError) as caught:
        sagemaker.create_training_job(**request)
    message = str(caught.value)
    assert 'Missing required parameter in input: "RoleArn"' in message
    assert "ResourceConfig.InstanceCount" in message
    assert 'Unknown parameter in input: "Colour"' in message


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            {"TrainingJobName": "under_score"},
            "at 'trainingJobName' failed to satisfy constraint: Member must satisfy reg",
        ),
        ({"OutputDataConfig": {"S3OutputPath": "s3://" + "x" * 1100}}, "must have length less than or equal to 1024"),
        ({"RoleArn": "not-an-arn-but-long-enough"}, "at 'roleArn' failed"),
        (
            {"HyperParameters": {"x": "y" * 2501}},
            "at 'hyperParameters.x.member' failed to satisfy constraint: Member mu",
        ),
        ({"HyperParameters": {f"k{i}": "v" for i in range(101)}}, "less than or equal to 100"),
        (
            {"ResourceConfig": {"InstanceType": "ml.toaster", "InstanceCount": 1, "VolumeSizeInGB": 1}},
            "at 'resourceConfig.instanceType' failed to satisfy constraint: Member must satisfy enum value set: [",
        ),
        ({"OutputDataConfig": {"S3OutputPath": "/tmp/out"}}, "at 'outputDataConfig.s3OutputPath' failed"),
    ],
)
def test_what_the_service_refuses_is_refused_with_its_words(sagemaker, request_for, change, complaint):
    error = refused(sagemaker.create_training_job, **{**request_for(), **change})
    assert error["Code"] == "ValidationException"
    assert error["Message"].startswith("1 validation error detected: Value '")
    assert complaint in error["Message"]
    assert sagemaker.list_training_jobs()["TrainingJobSummaries"] == []


def test_anything_else_is_plainly_not_available(sagemaker):
    with pytest.raises(AttributeError, match="create_pipeline is not available locally"):
        sagemaker.create_pipeline(PipelineName="x")

"""`kennel transform` on this machine, and `LocalSageMaker`'s batch transform jobs, with the real server."""

import contextlib
import csv
import json
import shutil

import pytest
from botocore.exceptions import ClientError, WaiterError

from kennel_cli.platforms.local import LocalSageMaker
from kennel_cli.settings import LOCAL


@pytest.fixture
def pictures(colour_images, tmp_path):
    """A folder of six pictures in folders, and a hidden file that is none."""
    folder = tmp_path / "pictures"
    for name in ("red", "green", "blue"):
        (folder / name).mkdir(parents=True)
        for number in (0, 1):
            shutil.copy(colour_images / "test" / name / f"{number}.png", folder / name)
    (folder / ".DS_Store").write_text("no picture")
    return folder


@pytest.fixture
def sagemaker(home):
    return LocalSageMaker(home)


@pytest.fixture
def begun(sagemaker, random_model, pictures):
    """Start a job by the API."""

    def run(name="batch", environment=None, **more):
        source = sagemaker.store.link(pictures, LOCAL.bucket)
        container = {"Image": "kennel", "ModelDataUrl": sagemaker.store.link(random_model, LOCAL.bucket)}
        if environment:
            container["Environment"] = environment
        sagemaker.create_model(ModelName=name, ExecutionRoleArn=LOCAL.role_arn, PrimaryContainer=container)
        request = {
            "TransformJobName": name,
            "ModelName": name,
            "TransformInput": {
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": source}},
                "ContentType": "application/x-image",
            },
            "TransformOutput": {"S3OutputPath": f"s3://{LOCAL.bucket}/out", "Accept": "application/json"},
            "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
            **more,
        }
        sagemaker.create_transform_job(**request)

    return run


@pytest.fixture
def transformed(sagemaker, begun):
    """Start a job by the API, wait for its end with boto3's own waiter, and return its description."""

    def run(name="batch", **more):
        begun(name, **more)
        with contextlib.suppress(WaiterError):  # it has failed; its description says why
            sagemaker.get_waiter("transform_job_completed_or_stopped").wait(TransformJobName=name)
        return sagemaker.describe_transform_job(TransformJobName=name)

    return run


def rows(file):
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


# The command


def test_all_pictures_of_a_folder_are_in_the_table(kennel, home, random_model, pictures, tmp_path):
    table = tmp_path / "new" / "table.csv"
    ended = kennel("transform", pictures, "--model", random_model, "--name", "batch", "--to", table, "--top-k", "2")
    assert ended.returncode == 0, ended.stderr
    assert "batch is Completed" in ended.stdout
    assert str(table) in ended.stdout
    lines = rows(table)
    assert [line["picture"] for line in lines] == [f"{c}/{n}.png" for c in ("blue", "green", "red") for n in (0, 1)]
    assert list(lines[0]) == ["picture", "label", "probability", "label_2", "probability_2", "error"]
    for line in lines:
        assert line["label"] in ("red", "green", "blue")
        assert 1 >= float(line["probability"]) >= float(line["probability_2"]) > 0
        assert line["error"] == ""
    assert LocalSageMaker(home).list_models()["Models"] == []  # the entry was for this job
    assert "batch transform" in kennel("jobs").stdout
    assert "ready engine=" in kennel("logs", "batch").stdout
    assert "ready engine=" in kennel("logs", "-f", "batch").stdout

    table.unlink()
    assert kennel("transform", "--again", "batch", "--to", table).returncode == 0
    assert rows(table) == lines
    assert kennel("transform", "--again", "batch", "--to", table, "--top-k", "1").returncode == 0
    assert list(rows(table)[0]) == ["picture", "label", "probability", "error"]
    assert "must be unique" in kennel("transform", pictures, "--model", random_model, "--name", "batch").stderr


def test_a_bad_picture_has_no_answer_and_the_others_do(kennel, random_model, pictures, tmp_path):
    (pictures / "red" / "broken.jpg").write_text("no picture")
    table = tmp_path / "table.csv"
    ended = kennel("transform", pictures, "--model", random_model, "--to", table)
    assert ended.returncode == 1
    assert "1 of 7 pictures have no answer" in ended.stderr
    assert "red/broken.jpg: the model answers 422" in ended.stderr
    lines = {line["picture"]: line for line in rows(table)}
    assert (lines["red/broken.jpg"]["label"], lines["red/broken.jpg"]["error"]) == ("", "no answer")
    assert sum(bool(line["label"]) for line in lines.values()) == 6


def test_one_picture_is_a_job_too(kennel, random_model, pictures, tmp_path):
    ended = kennel("transform", pictures / "red" / "0.png", "--model", random_model, "--to", tmp_path / "t.csv")
    assert ended.returncode == 0, ended.stderr
    assert [line["picture"] for line in rows(tmp_path / "t.csv")] == ["0.png"]


def test_a_dry_run_prints_both_requests_and_starts_nothing(kennel, home, random_model, pictures):
    ended = kennel("transform", pictures, "--model", random_model, "--name", "batch", "--dry-run")
    assert ended.returncode == 0, ended.stderr
    assert list(json.loads(ended.stdout)) == ["CreateModel", "CreateTransformJob"]
    assert LocalSageMaker(home).list_transform_jobs()["TransformJobSummaries"] == []


def test_mistakes_are_one_sentence_before_anything_starts(kennel, home, random_model, pictures):
    (pictures / "notes.txt").write_text("no picture")
    for arguments, sentence in (
        ((pictures, "--model", random_model), "notes.txt is no picture"),
        (("/no/such/folder", "--model", random_model), "there is no /no/such/folder"),
        ((pictures / "red", "--model", "nothing"), "nothing is neither a training job"),
        ((pictures / "red",), "give a folder of pictures and --model"),
        ((pictures / "red", "--again", "batch"), "leave out the others"),
        ((pictures / "red", "--model", random_model, "--instance-count", "2"), "is for jobs on AWS"),
        (("--again", "nothing"), "Could not find transform job nothing"),
    ):
        ended = kennel("transform", *arguments)
        assert (ended.returncode, sentence in ended.stderr) == (1, True), ended.stderr
        assert "Traceback" not in ended.stderr
    assert LocalSageMaker(home).list_transform_jobs()["TransformJobSummaries"] == []


# The jobs


def test_each_object_has_an_answer_under_its_name_c4_4(home, transformed):
    job = transformed()
    assert job["TransformJobStatus"] == "Completed", job
    assert job["TransformEndTime"] >= job["TransformStartTime"]
    out = LocalSageMaker(home).store.names(f"s3://{LOCAL.bucket}/out")
    assert out == [f"{c}/{n}.png.out" for c in ("blue", "green", "red") for n in (0, 1)]


def test_an_object_that_cannot_be_read_leaves_the_others_their_answers(home, pictures, transformed):
    (pictures / "gone.png").symlink_to("/nowhere.png")
    long = f"{'n' * 240}.png"  # its answer's name has the 248 bytes that it needs, of 255
    shutil.copy(pictures / "red" / "0.png", pictures / long)
    job = transformed()
    assert job["TransformJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: 1 of 8 objects were not transformed; gone.png: ")
    out = LocalSageMaker(home).store.names(f"s3://{LOCAL.bucket}/out")
    assert len(out) == 7
    assert f"{long}.out" in out


def test_what_the_request_says_reaches_the_container_c4_1(home, transformed):
    big = transformed("big", MaxPayloadInMB=100, MaxConcurrentTransforms=1, BatchStrategy="SingleRecord")
    assert big["TransformJobStatus"] == "Completed", big


def test_a_model_that_never_answers_fails_the_job_with_the_end_of_its_log_c1_5(transformed):
    job = transformed(environment={"KENNEL_ENGINE": "none such"})
    assert job["TransformJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("AlgorithmError: The primary container ended with exit code")
    assert "none such" in job["FailureReason"]


def test_a_running_job_is_stopped_and_one_that_has_ended_is_not(kennel, sagemaker, begun, transformed):
    with pytest.raises(ClientError, match="Could not find"):
        sagemaker.stop_transform_job(TransformJobName="batch")
    begun()
    stopped = kennel("stop", "batch")
    assert stopped.returncode == 0, stopped.stderr
    assert "batch is Stopped" in stopped.stdout
    transformed("other")
    with pytest.raises(ClientError, match="is in status Completed"):
        sagemaker.stop_transform_job(TransformJobName="other")


@pytest.mark.parametrize(
    "more",
    [
        {"BatchStrategy": "MultiRecord"},
        {"DataProcessing": {"JoinSource": "Input"}},
        {"TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 2}},
    ],
)
def test_what_is_not_available_here_is_plainly_refused(transformed, more):
    with pytest.raises(ClientError, match="is not available locally"):
        transformed(**more)

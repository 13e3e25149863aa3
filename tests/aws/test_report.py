"""`kennel report --on aws`: what a job has left comes from S3."""

import io
import json
import tarfile

import pytest

from tests.aws.conftest import BUCKET, SETTINGS, finished_job
from tests.job_output import write_job_output

DATA = f"s3://{BUCKET}/kennel/data/0123456789abcdef/"


@pytest.fixture
def job(sagemaker):
    """A training job that moto has completed."""
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": DATA}}
    finished_job(sagemaker, InputDataConfig=[{"ChannelName": "training", "DataSource": source}])


def upload(s3, folder, prefix=""):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for file in folder.iterdir():
            tar.add(file, prefix + file.name)
    s3.put_object(Bucket=BUCKET, Key="training/dogs/output/output.tar.gz", Body=packed.getvalue())


@pytest.mark.parametrize("prefix", ["", "./"])
def test_the_output_of_a_job_is_fetched_and_its_report_made(kennel, job, s3, tmp_path, home, prefix):
    upload(s3, write_job_output(tmp_path / "output", name="dogs", sources={}), prefix)
    ended = kennel("report", "dogs", "--on", "aws", "--no-open", "--price", "1.4")
    assert ended.code == 0, ended.stderr
    folder = home / "reports" / "dogs"
    assert ended.stdout == f"the report:    {folder / 'report.html'}\n"
    report = json.loads((folder / "report.json").read_text())
    assert report["image"] == SETTINGS["KENNEL_IMAGE"]
    assert report["cost"] == 0.035
    assert report["command"] == f"kennel train --on aws --data {DATA}"  # the weights were in the image


def test_a_job_that_left_nothing_is_one_sentence(kennel, job, s3):
    ended = kennel("report", "dogs", "--on", "aws")
    assert ended.code == 1
    archive = f"s3://{BUCKET}/training/dogs/output/output.tar.gz"
    assert ended.stderr == f"kennel: the job dogs is Completed and has left no output yet ({archive} is missing)\n"


def test_a_job_that_is_not_there_is_one_sentence(kennel):
    ended = kennel("report", "cats", "--on", "aws")
    assert ended.code == 1
    assert ended.stderr == "kennel: there is no training job cats; see `kennel jobs --on aws`\n"

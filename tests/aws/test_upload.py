"""`kennel upload` to an S3 that moto's server plays: what is sent, and what is not sent again."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.aws.conftest import BUCKET, keys

COMMAND = [str(Path(sys.executable).with_name("kennel")), "upload"]
FILES = 400


def sent(aws_server):
    """Return how often each object was put, successfully."""
    return Counter(path for method, path, status in aws_server.asked if method == "PUT" and status == 200)


def test_an_upload_needs_a_bucket_and_neither_role_nor_image(kennel, s3, monkeypatch, colour_images):
    for name in ("KENNEL_ROLE", "KENNEL_IMAGE"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("KENNEL_PREFIX", "vision")
    ended = kennel("upload", colour_images / "test")
    assert ended.code == 0, ended.stderr
    assert ended.stdout.startswith(f"s3://{BUCKET}/vision/kennel/data/")
    assert len(keys(s3)) == 9


def test_an_upload_that_was_killed_goes_on_where_it_was(aws_server, settings, s3, tmp_path):
    photos = tmp_path / "photos"
    for number in range(FILES):
        (photos / f"class-{number % 20}").mkdir(parents=True, exist_ok=True)
        (photos / f"class-{number % 20}" / f"{number}.jpg").write_bytes(number.to_bytes(2, "big") * 1000)
    aws_server.asked.clear()
    with subprocess.Popen([*COMMAND, str(photos)], start_new_session=True) as killed:
        while len(sent(aws_server)) < FILES // 10:
            assert killed.poll() is None
            time.sleep(0.005)
        os.kill(killed.pid, signal.SIGKILL)
    first = None
    while first != (first := sent(aws_server)):
        time.sleep(2)  # what was on its way is there, or is not
    assert 0 < len(first) < FILES
    done = subprocess.run([*COMMAND, str(photos)], check=True, capture_output=True, text=True)
    assert f"uploaded {FILES - len(first):,} of {FILES:,} files" in done.stderr
    uri = done.stdout.strip()
    prefix = uri.removeprefix(f"s3://{BUCKET}/")
    assert sent(aws_server) == Counter({f"/{BUCKET}/{key}": 1 for key in keys(s3)})
    names = {key.removeprefix(prefix) for key in keys(s3)}
    assert names == {file.relative_to(photos).as_posix() for file in photos.rglob("*.jpg")}
    for name in sorted(names)[:: FILES // 10]:
        body = s3.get_object(Bucket=BUCKET, Key=prefix + name)["Body"].read()
        assert body == (photos / name).read_bytes()
    again = subprocess.run([*COMMAND, str(photos)], check=True, capture_output=True, text=True)
    assert (again.stdout.strip(), f"uploaded 0 of {FILES:,} files" in again.stderr) == (uri, True)

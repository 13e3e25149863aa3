"""Time `kennel upload` of many small files against `aws s3 cp --recursive`, to an S3 of this machine.

    make bench-upload
    python -m tests.benchmarks.bench_upload --files 10000 --rounds 3

moto's server is the S3, a new one for each upload, as it keeps all objects in its memory; AWS's own command is
installed from PyPI into an environment of its own, `build/awscli`. Both upload in turn in each round. CPU time is user
and system time of the uploading process, without the server's: the server takes most of the time of both.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import urllib3

from kennel_cli.platforms.ports import free_port

ROOT = Path(__file__).parents[2]
AWS_CLI = ROOT / "build" / "awscli"
VERSION = "awscli==1.42.30"  # the version whose botocore is Kennel's may differ: it has an environment of its own
BUCKET = "photos"
PLACES = 100  # folders, as classes are
SIZE = 4096  # bytes of a file


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000, help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    given = parser.parse_args()
    kennel = [str(Path(sys.executable).with_name("kennel")), "upload"]
    aws = [str(_aws_cli()), "s3", "cp", "--recursive", "--only-show-errors"]
    work = Path(tempfile.mkdtemp(prefix="kennel-bench-"))
    try:
        data = _write_files(work / "data", given.files)
        commands = {
            "kennel upload": [*kennel, str(data)],
            "aws s3 cp --recursive": [*aws, str(data), f"s3://{BUCKET}/data"],
        }
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(given.rounds):
            for name, command in commands.items():
                taken[name].append(_time(command, work, given.files))
    finally:
        shutil.rmtree(work)
    print(f"\n| {given.files:,} files of {SIZE:,} bytes | seconds | CPU seconds | files a second |\n|---|---|---|---|")
    for name, figures in taken.items():
        wall, cpu = (statistics.median(values) for values in zip(*figures, strict=True))
        print(f"| `{name}` | {wall:.1f} | {cpu:.1f} | {given.files / wall:.0f} |")


def _aws_cli() -> Path:
    """Return AWS's own command, installed if it is not there."""
    command = AWS_CLI / "bin" / "aws"
    if not command.exists():
        uv = str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "--quiet", str(AWS_CLI)], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", str(AWS_CLI), VERSION], check=True)
    return command


def _write_files(folder: Path, count: int) -> Path:
    for number in range(count):
        place = folder / f"class-{number % PLACES:03}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.jpg").write_bytes(number.to_bytes(8, "big") * (SIZE // 8))
    return folder


def _time(command: list[str], work: Path, files: int) -> tuple[float, float]:
    """Run a command against a new S3; return its seconds and its CPU seconds. Ends the run where files are missing."""
    with _s3() as (address, variables):
        urllib3.request("PUT", f"{address}/{BUCKET}")
        before, began = os.times(), time.monotonic()
        subprocess.run(command, check=True, env=variables, cwd=work, stdout=subprocess.DEVNULL)
        seconds, after = time.monotonic() - began, os.times()
        there = _count(address)
    if there != files:
        sys.exit(f"{there} of {files} files are there after {' '.join(command)}")
    return seconds, after.children_user + after.children_system - before.children_user - before.children_system


@contextmanager
def _s3() -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield the address of an S3 without objects, and an environment in which commands use it."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    retries = urllib3.Retry(total=60, backoff_factor=0.2, backoff_max=0.5)
    try:
        urllib3.request("GET", f"{address}/moto-api/", retries=retries)
        yield address, {**os.environ, **_VARIABLES, "AWS_ENDPOINT_URL": address}
    finally:
        server.kill()
        server.wait()


_VARIABLES = {
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "KENNEL_BUCKET": BUCKET,
}


def _count(address: str) -> int:
    """Return how many objects there are."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id="bench",
        aws_secret_access_key="bench",
    )
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return sum(len(page.get("Contents", [])) for page in pages)


if __name__ == "__main__":
    main()

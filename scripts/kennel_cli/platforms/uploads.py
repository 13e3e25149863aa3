"""Put a user's file or folder into S3, under a prefix that its content gives, and only what is not there yet."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from kennel.errors import DataError
from kennel_cli.paths import in_utf8
from kennel_cli.platforms.account import AwsError, aws_errors
from kennel_cli.platforms.store import files_below

PREFIX = "kennel/data"  # below it, a folder a content
AT_ONCE = 10  # uploads or downloads; boto3's pool of connections has as many
TRANSFER = TransferConfig(use_threads=False)  # one thread a file; photos are too small to be cut into parts


@dataclass(frozen=True)
class SourceFile:
    """A file to upload, or one that is there already."""

    path: Path
    key: str
    size: int  # bytes


@dataclass(frozen=True)
class Source:
    """A file or folder of the user's, with the URI that its content gives it."""

    uri: str
    bucket: str
    prefix: str  # of the keys of all its files, and of no others
    files: tuple[SourceFile, ...]


def read_source(path: Path, bucket: str, prefix: str = "") -> Source:
    """Read a file, or a folder without what is hidden in it, and say where in `bucket`, below `prefix`, it belongs.

    The same content has the same URI wherever and whenever it is read, and another content another one: what a job
    was trained on does not change after it. Raises DataError when there is nothing to upload.
    """
    path = path.absolute()
    files = sorted(files_below(path)) if path.is_dir() else [path]
    if not files:
        raise DataError(f"there is no file in {path}; give a folder with images")
    names = [in_utf8(file.relative_to(path.parent).as_posix()) for file in files]
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(_digest, files))
    together = hashlib.sha256()
    for name, digest in zip(names, digests, strict=True):
        together.update(f"{name}\0{digest}\n".encode())
    folder = f"{prefix}{PREFIX}/{together.hexdigest()[:16]}"
    slash = "/" if path.is_dir() else ""  # else a folder's URI would also match its name's continuations
    return Source(
        uri=f"s3://{bucket}/{folder}/{path.name}{slash}",
        bucket=bucket,
        prefix=f"{folder}/",
        files=tuple(
            SourceFile(file, f"{folder}/{name}", file.stat().st_size) for file, name in zip(files, names, strict=True)
        ),
    )


def missing_files(s3: Any, source: Source, owner: str = "") -> list[SourceFile]:
    """Return the files that are not in the bucket with the same size.

    Raises AwsError when there is no such bucket, or it is not of the account `owner`, if one is given.
    """
    request = {"Bucket": source.bucket, "Prefix": source.prefix, **({"ExpectedBucketOwner": owner} if owner else {})}
    there: dict[str, int] = {}
    try:
        with aws_errors("s3"):
            for page in s3.get_paginator("list_objects_v2").paginate(**request):
                there.update({entry["Key"]: entry["Size"] for entry in page.get("Contents", [])})
    except ClientError as error:
        raise AwsError(_bucket_sentence(source.bucket, error)) from error
    return [file for file in source.files if there.get(file.key) != file.size]


def upload(s3: Any, bucket: str, files: list[SourceFile], progress: Callable[[int], None]) -> None:
    """Upload files, several at once; `progress` is told the size of each when it is there.

    After an error, or Ctrl-C, nothing new is begun; what is there is not sent again next time.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        pending = {
            pool.submit(s3.upload_file, str(file.path), bucket, file.key, Config=TRANSFER): file for file in files
        }
        try:
            for future in as_completed(pending):
                with aws_errors("s3"):
                    future.result()
                progress(pending[future].size)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _bucket_sentence(bucket: str, error: ClientError) -> str:
    if error.response["Error"]["Code"] == "NoSuchBucket":
        return f"there is no bucket {bucket}; make it with `aws s3 mb s3://{bucket}`, or name yours with KENNEL_BUCKET"
    return f"the bucket {bucket} cannot be read ({error.response['Error']['Message']}); name yours with KENNEL_BUCKET"

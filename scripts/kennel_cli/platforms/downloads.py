"""Get objects from S3: one, or all below a prefix, several at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kennel_cli.platforms.account import aws_errors
from kennel_cli.platforms.s3_uri import bucket_and_key
from kennel_cli.platforms.uploads import AT_ONCE, TRANSFER


def object_names(s3: Any, uri: str) -> list[str]:
    """Return the names of the objects whose keys begin with a URI, relative to its last slash."""
    bucket, prefix = bucket_and_key(uri)
    start = prefix.rfind("/") + 1
    with aws_errors("s3"):
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return [key[start:] for key in keys if not key.endswith("/")]  # such keys are folders to the console


def download_object(s3: Any, uri: str, file: Path) -> None:
    """Download one object. Raises AwsError, and ClientError where it is not there."""
    bucket, key = bucket_and_key(uri)
    file.parent.mkdir(parents=True, exist_ok=True)
    with aws_errors("s3"):
        s3.download_file(bucket, key, str(file))


def download_below(s3: Any, uri: str, names: list[str], folder: Path) -> None:
    """Download the objects of these names below a URI that ends with a slash, into a folder."""
    bucket, prefix = bucket_and_key(uri)
    for parent in {(folder / name).parent for name in names}:
        parent.mkdir(parents=True, exist_ok=True)

    def download(name: str) -> None:
        s3.download_file(bucket, prefix + name, str(folder / name), Config=TRANSFER)

    with ThreadPoolExecutor(AT_ONCE) as pool, aws_errors("s3"):
        list(pool.map(download, names))

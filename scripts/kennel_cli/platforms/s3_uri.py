"""`s3://bucket/key`, taken apart."""

from kennel_cli.platforms.platform import S3


def bucket_and_key(uri: str) -> tuple[str, str]:
    """Return the bucket and the key of an `s3://` URI; a key may hold a `#` or a `?`. Raises ValueError for others."""
    bucket, _, key = uri.removeprefix(S3).partition("/")
    if not uri.startswith(S3) or not bucket:
        raise ValueError(f"{uri} is no s3:// URI")
    return bucket, key.lstrip("/")

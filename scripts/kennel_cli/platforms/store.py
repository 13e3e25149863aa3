"""The local S3: a bucket is a folder, an object a file, and what the user has already is linked, never copied."""

import hashlib
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

from kennel.atomic import replacing
from kennel_cli.paths import absolute, in_utf8
from kennel_cli.platforms.s3_uri import bucket_and_key


class LocalStore:
    """`s3://bucket/key` as files below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, uri: str) -> Path:
        """Return the file or folder of an `s3://` URI, there or not. Raises ValueError for anything else."""
        bucket, key = bucket_and_key(uri)
        if ".." in (bucket, *key.split("/")):
            raise ValueError(f"{uri} leads out of its bucket")
        return self.root / bucket / key.rstrip("/")

    def names(self, uri: str) -> list[str]:
        """Return the names of the objects below a folder's URI, relative to it, or the name of the one object there is.

        What is hidden is none.
        """
        path = self.path(uri)
        if path.is_dir():
            return sorted(file.relative_to(path).as_posix() for file in files_below(path))
        return [path.name] if path.exists() else []

    def object(self, uri: str, name: str) -> Path:
        """Return the file of one of the `names` of a URI."""
        path = self.path(uri)
        return path / name if path.is_dir() else path

    def link_uri(self, target: Path, bucket: str) -> str:
        """Return the URI under which `link` makes a file or folder reachable; the same for the same path.

        Raises DataError for a path that is not UTF-8.
        """
        target = absolute(target)
        return f"s3://{bucket}/linked/{short_digest(in_utf8(str(target)))}/{target.name}"

    def link(self, target: Path, bucket: str) -> str:
        """Make a file or folder of the user's reachable in `bucket`, and return its URI."""
        uri = self.link_uri(target, bucket)
        link = self.path(uri)
        link.parent.mkdir(parents=True, exist_ok=True)
        with replacing(link) as temporary:
            temporary.symlink_to(absolute(target))
        return uri

    def put_tarball(self, folder: Path, uri: str) -> None:
        """Write the content of `folder` as a compressed tar file, with the folder as its root (contract A2.8)."""
        write_tarball(folder, self.path(uri))

    def put_folder(self, folder: Path, uri: str) -> None:
        """Copy the content of `folder` to below `uri`."""
        target = self.path(uri)
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(folder, partial)
        partial.rename(target)


def short_digest(text: str) -> str:
    """Return twelve digits that tell a text apart from others."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def files_below(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder that are not hidden, as the job's index would find them."""
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in names if not name.startswith("."))


def write_tarball(folder: Path, file: Path) -> None:
    """Write the content of `folder` as a tar file, with the folder as its root (contract A2.8)."""
    # level 0, stored as it is: weights hardly shrink, and the attempt takes seconds (100 MB: 2.7 s, 0.1 s without)
    with replacing(file) as temporary, tarfile.open(temporary, "w:gz", compresslevel=0) as tar:
        for entry in sorted(folder.iterdir()):
            tar.add(entry, arcname=entry.name)

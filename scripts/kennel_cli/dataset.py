"""Download and unpack a data set that is published as a zip file."""

import hashlib
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import urllib3

from kennel.atomic import write_text
from kennel.errors import DataError

DOG_IMAGES_URL = "https://s3-us-west-1.amazonaws.com/udacity-aind/dog-project/dogImages.zip"  # 133 breeds, 1.1 GB
_PIECE = 2**16  # bytes read at a time, and the most that a broken connection loses

Progress = Callable[[int, int], None]  # called with the bytes done and the bytes in all (0 while unknown)


def fetch_dataset(url: str, folder: Path, sha256: str, progress: Progress) -> Path:
    """Download the zip file at `url` and unpack it below `folder`; return the folder that it made.

    A download that was cut off goes on where it stopped; what is there already is not fetched again. `sha256` is
    checked unless it is empty. Raises DataError when the server, the checksum or the file is not right.
    """
    target = folder / Path(url).name.removesuffix(".zip")
    if target.is_dir():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{target.name}.zip"
    if not archive.exists():
        _download(url, archive, progress)
    found = checksum(archive)
    if sha256 and found != sha256.lower():
        archive.unlink()
        raise DataError(f"{url} has the checksum {found}, not {sha256}; the file was removed")
    _unpack(archive, target)
    return target


def checksum(file: Path) -> str:
    """Return the SHA-256 of a file, as 64 hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _download(url: str, archive: Path, progress: Progress) -> None:
    """Fetch into a partial file, from where it ends if the server still has the same version of it."""
    partial, tag = archive.with_suffix(".zip.partial"), archive.with_suffix(".zip.etag")
    done = partial.stat().st_size if partial.exists() else 0
    headers = {"Range": f"bytes={done}-"} if done else {}
    if done and tag.exists():
        headers["If-Range"] = tag.read_text()
    pool = urllib3.PoolManager(timeout=60)
    try:
        answer = pool.request("GET", url, headers=headers, preload_content=False)
        if answer.status == 416:  # the partial file is as long as the whole, or longer than what is there now
            partial.unlink()
            _download(url, archive, progress)
            return
        if answer.status not in (200, 206):
            raise DataError(f"{url} answers {answer.status} {answer.reason or ''}; is the address right?")
        if answer.status == 200:
            done = 0
        if etag := answer.headers.get("ETag"):
            write_text(tag, etag)
        total = done + int(answer.headers.get("Content-Length", 0))
        with partial.open("ab" if done else "wb") as file:
            for piece in answer.stream(_PIECE):
                file.write(piece)
                done += len(piece)
                progress(done, total)
    except urllib3.exceptions.HTTPError as error:
        raise DataError(f"{url} could not be downloaded: {error}; run the command again to go on from there") from error
    if total and done != total:
        raise DataError(
            f"{url} was cut off after {done:,} of {total:,} bytes; run the command again to go on from there"
        )
    partial.rename(archive)
    tag.unlink(missing_ok=True)


def _unpack(archive: Path, target: Path) -> None:
    """Unpack beside the target, then rename: the folder is there in full or not at all."""
    unpacked = target.with_name(f".{target.name}.unpacked")
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as file:
            members = [name for name in file.namelist() if not name.startswith("__MACOSX/")]
            file.extractall(unpacked, members)
    except zipfile.BadZipFile as error:
        archive.unlink()
        raise DataError(f"{archive} is no zip file ({error}); it was removed, run the command again") from error
    inside = list(unpacked.iterdir())
    if len(inside) == 1 and inside[0].is_dir():  # the archive holds one folder, whatever its name
        inside[0].rename(target)
        unpacked.rmdir()
    else:
        unpacked.rename(target)

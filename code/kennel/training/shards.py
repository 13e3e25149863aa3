"""Channels whose files are split over hosts: what a host lacks is sent to it, so that every host has all files.

SageMaker gives each host other files where a channel is ShardedByS3Key, and a host may get none (contract A2.7). Files
are sent as they are: all that comes after, from the listing to the messages about bad images, is as on one host.
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from kennel.errors import DataError
from kennel.training.distributed import Processes

CHUNK = 64 * 2**20  # bytes sent at once; bounds the memory that files wait in

Listing = dict[str, dict[str, int]]  # channel to its files: path below the channel's folder, and bytes

log = logging.getLogger(__name__)


def unite(channels: Mapping[str, Path], processes: Processes, folder: Path, chunk: int = CHUNK) -> dict[str, Path]:
    """Return channels in which this host finds the files of all hosts; all processes have to call it.

    Where all hosts have the same files these are `channels` as they are. Else new ones are made below `folder`, the
    same for all processes of a host: links to what is there, and copies of what others have. Raises DataError for a
    file that cannot be read.
    """
    writes = processes.local_rank == 0  # for all processes of its host
    mine = _list(channels) if writes else None
    every = processes.gather((processes.rank, mine))
    hosts = {rank: listing for rank, listing in every if listing is not None}  # by the rank of the one that writes
    everywhere = list(hosts.values())
    if all(listing == everywhere[0] for listing in everywhere):
        return dict(channels)
    if mine is not None:
        shutil.rmtree(folder, ignore_errors=True)  # of an attempt that was killed: in a container numbers come again
        for channel in _names(everywhere):
            (folder / channel).mkdir(parents=True)
        _link(mine, channels, folder)
    missing = 0
    for rank, files in _what_to_send(hosts).items():
        missing += len(files)
        stream = _read(files, channels, chunk) if rank == processes.rank else _sizes(files, chunk)
        receives = writes and rank != processes.rank
        target = _Writer(folder, files if receives else [])
        for part in stream:
            processes.broadcast(part, rank)
            if receives:
                target.write(part)
    processes.gather(None)  # all files are written
    log.info("channels are split over hosts: %d files were sent between %d hosts", missing, len(hosts))
    return {channel: folder / channel for channel in _names(everywhere)}


def _names(listings: Sequence[Listing]) -> list[str]:
    return sorted({channel for listing in listings for channel in listing})


def _list(channels: Mapping[str, Path]) -> Listing:
    """Return all files of all channels; a folder that is missing has none."""
    listing: Listing = {}
    for channel, root in channels.items():
        files = listing[channel] = {}
        for place, _, names in os.walk(root, followlinks=True):
            for name in names:
                path = Path(place, name)
                try:
                    files[str(path.relative_to(root))] = path.stat().st_size
                except OSError as error:
                    raise DataError(f"{path} cannot be read: {error.strerror}") from error
    return listing


def _link(mine: Listing, channels: Mapping[str, Path], folder: Path) -> None:
    """Fill the new channels with links to the files that this host has."""
    for channel, files in mine.items():
        for name in files:
            link = folder / channel / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((channels[channel] / name).absolute())


def _what_to_send(hosts: Mapping[int, Listing]) -> dict[int, list[tuple[str, str, int]]]:
    """Return what each host sends: channel, name and bytes of the files that another lacks and none before it has."""
    sent: dict[int, list[tuple[str, str, int]]] = {rank: [] for rank in sorted(hosts)}
    seen: set[tuple[str, str]] = set()
    for rank, files in sent.items():
        for channel, names in sorted(hosts[rank].items()):
            for name, size in sorted(names.items()):
                everywhere = all(name in listing.get(channel, {}) for listing in hosts.values())
                if not everywhere and (channel, name) not in seen:
                    seen.add((channel, name))
                    files.append((channel, name, size))
    return sent


def _sizes(files: Sequence[tuple[str, str, int]], chunk: int) -> Iterator[torch.Tensor]:
    """Yield empty parts (B,) uint8 for all bytes of `files`."""
    total = sum(size for *_, size in files)
    for start in range(0, total, chunk):
        yield torch.empty(min(chunk, total - start), dtype=torch.uint8)


def _read(files: Sequence[tuple[str, str, int]], channels: Mapping[str, Path], chunk: int) -> Iterator[torch.Tensor]:
    """Yield the bytes of `files`, one after the other, in the parts that `_sizes` yields."""
    parts = _sizes(files, chunk)
    part, filled = next(parts, torch.empty(0, dtype=torch.uint8)), 0
    for channel, name, size in files:
        path, left = channels[channel] / name, size
        try:
            with path.open("rb", buffering=0) as file:
                while left:
                    room = part.numpy()[filled : filled + left]
                    count = file.readinto(room.data)
                    if not count:
                        raise DataError(f"{path} had {size} bytes and has fewer now; leave it as it is")
                    left, filled = left - count, filled + count
                    if filled == len(part):
                        yield part
                        part, filled = next(parts, torch.empty(0, dtype=torch.uint8)), 0
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error


class _Writer:
    """Cuts a stream of bytes into files."""

    def __init__(self, folder: Path, files: Sequence[tuple[str, str, int]]) -> None:
        paths = [folder / channel / name for channel, name, _ in files]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # a link to the same file, where only a third host lacks it
            path.touch()
            os.utime(path, (0, 0))
        self._files = iter((path, size) for path, (*_, size) in zip(paths, files, strict=True) if size)
        self._path, self._left = Path(), 0
        self._hash = hashlib.blake2b()

    def write(self, part: torch.Tensor) -> None:
        """Write a part (B,) uint8, into as many files as it fills."""
        data = part.numpy().data
        while data:
            if not self._left:
                self._path, self._left = next(self._files)
                self._hash = hashlib.blake2b(digest_size=7)
            now, data = data[: self._left], data[self._left :]
            with self._path.open("ab") as file:
                file.write(now)
            self._hash.update(now)
            self._left -= len(now)
            if not self._left:  # a time for each content: the cache finds its image again, and never another's
                time = int.from_bytes(self._hash.digest())
                os.utime(self._path, ns=(time, time))

"""Where a backbone's first weights come from."""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import torch.hub

from kennel.cache import Cache
from kennel.errors import WeightsError
from kennel.hyperparameters import BACKBONES
from kennel.model.torchvision_models import models
from kennel.model.weights_files import CHANNEL, WEIGHTS_SUFFIXES, weights_in

log = logging.getLogger(__name__)

SITE = "KENNEL_WEIGHTS_URL"  # a mirror of torchvision's published files; torchvision's own site unless set
TIMEOUT = 10.0  # seconds for the first answer of the site: who has no network should hear of it soon
STALLED = 60.0  # seconds without a byte after which a download is given up


def find_weights(weights: str, backbone: str, channels: Mapping[str, Path], weights_dir: Path, cache: Cache) -> Path:
    """Return the file to start from: the one that is named, the channel's, the image's, or torchvision's.

    The last is downloaded into the cache. Raises WeightsError when there is none.
    """
    if weights != "pretrained":
        return Path(weights)
    if CHANNEL in channels:
        return _in_channel(channels[CHANNEL], backbone)
    names = [f"{backbone}{suffix}" for suffix in WEIGHTS_SUFFIXES] + published_files(backbone)
    for name in names:
        if (file := weights_dir / name).is_file():
            return file
    try:
        return download(backbone, cache)
    except WeightsError as error:
        raise WeightsError(
            f"there are no pretrained weights of {backbone}: give a state dict with `kennel train --weights FILE`, "
            f"which is the channel `{CHANNEL}`, or its path as `weights`, or weights=none to train from scratch, or "
            f"build the image with {backbone}.pth in WEIGHTS_DIR, or give the job a network to download torchvision's "
            f"({error})"
        ) from error


def published_files(backbone: str) -> list[str]:
    """Return the names of the files that torchvision has published for `backbone`, the one to start from first.

    That is the one which `pretrained=True` stood for: made for images of 224 pixels, and without the tricks of training
    that make a network's frozen features worse. Where there is none, it is the last of the list.
    """
    published = {w.name: w.url.rsplit("/", 1)[1] for w in models.get_model_weights(backbone)}
    published.pop("IMAGENET1K_FEATURES", None)  # of a VGG without its classifier, and for other colours
    first = published.pop("IMAGENET1K_V1", None) or published.popitem()[1]
    return [first, *published.values()]


def download(backbone: str, cache: Cache, waiting: Callable[[], None] = lambda: None) -> Path:
    """Return torchvision's file for `backbone`, from torch's own cache, or from ours, where it is downloaded to.

    `waiting` is called again and again while another process downloads it. Raises WeightsError when that fails.
    """
    name = published_files(backbone)[0]
    known = Path(torch.hub.get_dir()) / "checkpoints" / name
    if known.is_file():
        return known
    site = os.environ.get(SITE, "").strip() or _published_at(backbone, name)
    url = f"{site.rstrip('/')}/{name}"

    def build(folder: Path) -> None:
        log.info("download weights=%s;", url)
        _probe(url)
        found = torch.hub.HASH_REGEX.search(name)
        with _socket_timeout(STALLED):
            torch.hub.download_url_to_file(url, str(folder / name), found and found[1], progress=False)

    try:
        return cache.folder("weights", {"file": name}, build, waiting) / name
    except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: the file is not the one that was published
        raise WeightsError(f"{url}: {error}") from error


def link_for_torchvision(folder: Path, files: Sequence[Path]) -> list[str]:
    """Link files of weights below `folder` under torchvision's names, and return these names.

    With TORCH_HOME=`folder`, a script's own `models.resnet50(weights="DEFAULT")` then finds them without a network. A
    file that is called by a backbone only, such as `resnet50.pth`, stands for all that torchvision has published for
    it. The first of two files comes first; what is in `folder` already stays.
    """
    published = {backbone: published_files(backbone) for backbone in BACKBONES}
    known = {name for names in published.values() for name in names}
    checkpoints = folder / "hub" / "checkpoints"
    linked = []
    for file in files:
        names = [file.name] if file.name in known else published.get(file.stem, [])
        if file.suffix == ".safetensors":  # torch.load, which torchvision calls, does not read it
            continue
        for name in names:
            checkpoints.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                (checkpoints / name).symlink_to(file.resolve())
                linked.append(name)
    return linked


def _in_channel(folder: Path, backbone: str) -> Path:
    """Return the channel's only file, or of several the one that is called by the backbone."""
    files = weights_in(folder)
    if len(files) == 1:
        return files[0]
    called = [file for file in files if file.stem == backbone or file.name in published_files(backbone)]
    if len(called) == 1:
        return called[0]
    found = ", ".join(file.name for file in files) or "none"
    raise WeightsError(
        f"the channel `{CHANNEL}` should hold one .pth, .pt or .safetensors file, or one that is called "
        f"{backbone}; found: {found}"
    )


def _published_at(backbone: str, name: str) -> str:
    urls: list[str] = [w.url for w in models.get_model_weights(backbone)]
    return next(url for url in urls if url.endswith("/" + name)).rpartition("/")[0]


def _probe(url: str) -> None:
    """Raise OSError unless the site answers soon; asking for its address alone can take minutes without a network."""
    problems = [f"no answer within {TIMEOUT:g} seconds"]

    def ask() -> None:
        try:
            with urlopen(url, timeout=TIMEOUT):
                problems.clear()
        except (OSError, HTTPException, ValueError) as error:  # ValueError: the address is none
            problems[:] = [str(error)]
            if isinstance(error, HTTPError):
                error.close()  # it is the answer, too

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(TIMEOUT)
    if problems:
        raise OSError(problems[0])


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Let sockets that are made in the block give up; torch.hub has no argument for it."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)

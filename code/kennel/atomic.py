"""Files that are either there in full or not there at all."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_KEPT = 40  # characters of a name in that of its temporary file: 255 bytes are the most that a name may have


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`, and rename it to `path` when the block ends without an exception."""
    with _beside(path) as temporary:
        yield temporary
        temporary.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8; a reader sees the old file or the new one, never a half."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON; a reader sees the old file or the new one, never a half."""
    write_text(path, _text(value))


def write_new_json(path: Path, value: Any) -> None:
    """Write `value` as `write_json` does. Raises FileExistsError where there is such a file, which is left alone."""
    with _beside(path) as temporary:
        temporary.write_text(_text(value), encoding="utf-8")
        path.hardlink_to(temporary)


def _text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`, another one in each thread; it is gone when the block ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    start = path.name[:_KEPT]
    temporary = path.with_name(f".{start}.{os.getpid()}-{threading.get_native_id()}.partial")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)

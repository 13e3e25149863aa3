"""Read a log that is still being written."""

from pathlib import Path


def new_lines(log: Path, position: int, unfinished: bool = False) -> tuple[list[str], int]:
    """Return the complete lines after `position`, with an unfinished last one if so asked, and the next position."""
    if not log.exists():
        return [], position
    with log.open("rb") as file:
        file.seek(position)
        data = file.read()
    end = len(data) if unfinished else data.rfind(b"\n") + 1
    return data[:end].decode("utf-8", "replace").splitlines(), position + end

"""Paths as users give them."""

from pathlib import Path

from kennel.errors import DataError


def absolute(path: Path) -> Path:
    """Return a path from the root without `..` in it; links stay as they are where there is none."""
    path = path.absolute()
    return path.resolve() if ".." in path.parts else path


def in_utf8(name: str) -> str:
    """Return a name as it is. Raises DataError where it is not UTF-8: no request, table or key could hold it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{name!r}: the name is not UTF-8; rename the file") from None
    return name

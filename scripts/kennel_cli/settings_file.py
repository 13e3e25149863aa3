"""The file of settings, `kennel.toml`: where it is, and how it is written."""

from collections.abc import Mapping
from pathlib import Path

from kennel.atomic import write_text
from kennel.errors import KennelError

SETTINGS_FILE = "kennel.toml"


def settings_file(folder: Path | None = None) -> Path | None:
    """Return the `kennel.toml` of a folder, or of the nearest one above it; the current folder's unless given."""
    start = (folder or Path.cwd()).absolute()
    places = (place / SETTINGS_FILE for place in (start, *start.parents))
    return next((file for file in places if file.is_file()), None)


def write_settings(path: Path, values: Mapping[str, str]) -> None:
    """Set top-level keys of a TOML file; all else in it stays as it is, comments and order included.

    The file is made if it is not there. Raises KennelError when it is there and is not TOML.
    """
    import tomlkit  # noqa: PLC0415 - slow, and every command imports this module
    from tomlkit.exceptions import ParseError  # noqa: PLC0415 - as above

    text = path.read_text(encoding="utf-8") if path.exists() else ""
    try:
        document = tomlkit.parse(text)
    except ParseError as error:
        raise KennelError(f"{path} is not TOML ({error}); mend it, or move it away") from error
    for key, value in values.items():
        document[key] = value
    write_text(path, tomlkit.dumps(document))

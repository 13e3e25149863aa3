"""The command `kennel settings`."""

from rich.table import Table

from kennel_cli.places import console


def settings() -> None:
    """Show all settings, and where each value comes from: an option, a variable, kennel.toml, or the default."""
    from kennel_cli.user_settings import UserSettings, origin, read_settings  # noqa: PLC0415 - slow to import

    given = read_settings({})
    table = Table("setting", "value", "from")
    for name in UserSettings.model_fields:
        table.add_row(name, _text(getattr(given, name)), origin(name, {}))
    console.print(table)


def _text(value: object) -> str:
    """Write a value as it would be written into a variable."""
    if isinstance(value, dict):
        return ",".join(f"{key}={item}" for key, item in value.items())
    return ",".join(value) if isinstance(value, tuple) else str(value)

"""The command `kennel settings`."""

from kennel_cli.places import say


def settings() -> None:
    """Show all settings, and where each value comes from: an option, a variable, kennel.toml, or the default."""
    from kennel_cli.user_settings import UserSettings, origin, read_settings  # noqa: PLC0415 - slow to import

    given = read_settings({})
    rows = [(name, _text(getattr(given, name)), origin(name, {})) for name in UserSettings.model_fields]
    names, values = (max(len(row[column]) for row in rows) for column in (0, 1))
    for name, value, place in rows:
        line = f"{name:{names}}  {value:{values}}  {place}"  # no table: it would cut paths and ARNs
        say(line)


def _text(value: object) -> str:
    """Write a value as it would be written into a variable."""
    if isinstance(value, dict):
        return ",".join(f"{key}={item}" for key, item in value.items())
    return ",".join(value) if isinstance(value, tuple) else str(value)

"""What an instance costs an hour: the user's own prices, then a small table of published ones, else nothing."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any

from kennel.errors import KennelError
from kennel_cli.settings_file import settings_file

ON_DEMAND = ("hosting", "training", "transform")
USES = (*ON_DEMAND, "spot")  # the price of spare machines changes: only the user may know it
_FORM = '"ml.g5.xlarge" = 1.41, or "ml.g5.xlarge" = { hosting = 1.41, training = 1.26 }, in dollars an hour'


class PricesUnreadable(KennelError):
    """A file of prices is missing, or is not what it should be."""


@dataclass(frozen=True)
class Price:
    """What one instance costs."""

    dollars: Decimal  # an hour
    date: str  # of the source, as exactly as it tells: 2024, or 2026-08; "yours" for the user's own


class Prices:
    """Prices of a region, by use and instance type."""

    def __init__(self, region: str, file: Path | None) -> None:
        """`file` is TOML with a table `prices`; the user's `kennel.toml`, if there is one, unless it is given.

        Raises PricesUnreadable.
        """
        self._prices = {**_published(region), **_own(file)}

    def of(self, use: str, instance: str) -> Price | None:
        """Return what an instance costs for one of USES, or None where that is not known."""
        return self._prices.get((use, instance))


def _published(region: str) -> dict[tuple[str, str], Price]:
    text = resources.files("kennel_cli.operations").joinpath("prices.toml").read_text(encoding="utf-8")
    return {
        (use, instance): Price(dollars, block["date"])
        for block in tomllib.loads(text, parse_float=Decimal)["blocks"]
        if block["region"] == region
        for use in ON_DEMAND
        for instance, dollars in block.get(use, {}).items()
    }


def _own(file: Path | None) -> dict[tuple[str, str], Price]:
    name = file or settings_file()
    if name is None:
        return {}
    try:
        tables = tomllib.loads(name.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise PricesUnreadable(f"{name} cannot be read: {error.strerror}; give a TOML file with [prices]") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PricesUnreadable(f"{name} is not TOML ({error}); it should have a table [prices] with {_FORM}") from error
    table = tables.get("prices")
    if table is None and file is None:
        return {}
    if not isinstance(table, Mapping):
        raise PricesUnreadable(f"{name} has no table [prices]; it should have one with {_FORM}")
    return {
        (use, instance): Price(dollars, "yours")
        for instance, value in table.items()
        for use, dollars in _by_use(name, instance, value).items()
    }


def _by_use(file: Path, instance: str, value: Any) -> dict[str, Decimal]:
    """Return the dollars of an instance type by use; one number is for all uses but spot."""
    values = value if isinstance(value, Mapping) else dict.fromkeys(ON_DEMAND, value)
    for use, dollars in values.items():
        is_number = isinstance(dollars, int | Decimal) and not isinstance(dollars, bool)
        if use not in USES or not is_number or not Decimal(dollars).is_finite() or dollars < 0:
            raise PricesUnreadable(f"{file}: the price of {instance!r} is {value!r}; it should be as {_FORM}")
    return {use: Decimal(dollars) for use, dollars in values.items()}

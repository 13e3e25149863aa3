"""`kennel cost`: what runs in the account's region, and what an hour of it costs."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from kennel_cli.operations.calls import Services
from kennel_cli.operations.prices import Price, Prices
from kennel_cli.operations.running import Running, running
from kennel_cli.places import console, say


def cost(
    price_file: Annotated[
        Path | None,
        typer.Option(help="TOML file with your prices: [prices], dollars an hour an instance type (kennel.toml)"),
    ] = None,
) -> None:
    """Say what runs on AWS, and what an hour of it costs, as far as prices are known."""
    services = Services()
    prices = Prices(services.region, price_file)
    found = running(services)
    if not found:
        say(f"nothing runs in {services.region}")
        return
    table = Table("name", "what", "instances", "price of one", "as of", "an hour")
    total, unknown = Decimal(0), set()
    for item in found:
        price = prices.of(item.use, item.instance) if item.count else Price(Decimal(0), "")
        if price is None:
            unknown.add(f"{item.instance or item.name} ({item.use})")
        else:
            total += price.dollars * item.count
        table.add_row(item.name, item.kind, _machines(item), *_figures(item, price))
    console.print(table)
    say(f"an hour of what runs in {services.region} costs {'at least ' if unknown else ''}{_dollars(total)}")
    if unknown:
        say(f"no price is known of {', '.join(sorted(unknown))}; [prices] in kennel.toml, or --price-file, can tell it")
    say("disks, data, logs and all that Kennel does not make, such as notebooks, cost beside that")


def _machines(item: Running) -> str:
    return f"{item.count} × {item.instance}" if item.instance else ""


def _figures(item: Running, price: Price | None) -> tuple[str, str, str]:
    """Return the price of one instance, its date, and what all of them cost, in words."""
    if price is None:
        return "unknown", "", "unknown"
    return _dollars(price.dollars) if item.count else "", price.date, _dollars(price.dollars * item.count)


def _dollars(amount: Decimal) -> str:
    return f"${amount.quantize(Decimal('0.001')).normalize():f}" if amount else "$0"

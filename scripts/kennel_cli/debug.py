"""The command `kennel debug`: rules on the tensors that a training saved."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kennel.errors import KennelError, TrialError
from kennel_cli.places import console, say

if TYPE_CHECKING:
    from kennel.judging.judge import Judgement, Result

ISSUES, ERROR = 1, 2  # exit codes, as linters have them
_COLOURS = {"NoIssuesFound": "green", "IssuesFound": "yellow", "Error": "red", "InProgress": "blue"}


def debug(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="folder that smdebug wrote, with collections/, index/ and events/ in it"),
    ],
    rule: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:PARAMETER=VALUE,…]", help="judge by this rule only; may be repeated. All rules unless given"
        ),
    ] = None,
    other: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="another such folder, for similar_across_runs")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print all findings as JSON")] = False,
) -> None:
    """Look for what went wrong in a training, in the tensors that it saved.

    The exit code is 0 without issues, 1 with issues, 2 for an error.
    """
    try:
        judgement = _judge(folder, rule or [], other or [])
    except KennelError as error:
        _leave(str(error))
    except OSError as error:
        _leave(f"{error.filename or folder}: {error.strerror or error}")
    if as_json:
        print(json.dumps(_json(judgement), indent=2))
    else:
        _show(judgement)
    statuses = {str(result.status) for result in judgement.results}
    if "Error" in statuses or not judgement.results:
        raise typer.Exit(ERROR)
    if "IssuesFound" in statuses:
        raise typer.Exit(ISSUES)


def _leave(message: str) -> NoReturn:
    Console(stderr=True).print(f"kennel: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(ERROR)


def _judge(folder: Path, asked: list[str], others: list[Path]) -> "Judgement":
    try:  # numpy comes with the image's packages; the light client has none of them
        from kennel.debugger.rules import RULES  # noqa: PLC0415
        from kennel.debugger.trial import read_trial  # noqa: PLC0415
        from kennel.judging.judge import judge  # noqa: PLC0415
    except ImportError as error:
        raise TrialError(f"`kennel debug` needs the packages of the image ({error}): pip install '.[image]'") from error
    rules = [RULES.parse(text) for text in asked] or [known() for known in RULES.values()]
    named = [one for rule in rules for one in (getattr(rule, "other_trials", None) or "").split(",") if one.strip()]
    with Console(stderr=True).status(f"reading {folder}"):
        compared = {
            str(one): read_trial(Path(one)) for one in dict.fromkeys([*map(str, others), *map(str.strip, named)])
        }
        measured = dataclasses.replace(read_trial(folder), others=compared)
        return judge(rules, measured, ended=measured.ended, asked_for=bool(asked))


def _show(judgement: "Judgement") -> None:
    table = Table("rule", "status", "how often", "first step", "evidence", "what to try")
    for result in judgement.results:
        status = str(result.status)
        first = result.findings[0] if result.findings else None
        table.add_row(
            result.rule,
            f"[{_COLOURS[status]}]{status}[/]",
            str(len(result.findings)) if first else "",
            str(first.step) if first else "",
            escape(first.message if first else result.reason),
            escape(first.advice if first else ""),
        )
    if judgement.results:
        console.print(table)
    for name, reason in judgement.left_out.items():
        say(f"left out: {name}: {reason}")


def _json(judgement: "Judgement") -> dict[str, Any]:
    results: list[Result] = list(judgement.results)
    return {"rules": [result.as_json() for result in results], "left_out": judgement.left_out}

"""A set of rules: how a user names one of them and its parameters."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic

from kennel.errors import RuleError
from kennel.judging.rule import Evidence, Rule, declarations, parse_parameter


class Rules(Mapping[str, type[Rule[Evidence]]], Generic[Evidence]):
    """Rules by their names, in the order in which they are told."""

    def __init__(self, *rules: type[Rule[Evidence]]) -> None:
        self._rules = {rule.name: rule for rule in rules}

    def __getitem__(self, name: str) -> type[Rule[Evidence]]:
        return self._rules[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)

    def make(self, name: str, parameters: Mapping[str, str]) -> Rule[Evidence]:
        """Return a rule with some of its parameters given as text. Raises RuleError for what it does not know."""
        if name not in self:
            raise RuleError(f"there is no rule {name}; known are: {', '.join(self)}")
        declared = declarations(self[name])
        values: dict[str, Any] = {}
        for key, text in parameters.items():
            if key not in declared:
                raise RuleError(f"{name} has no parameter {key}; it has: {', '.join(declared)}")
            try:
                values[key] = parse_parameter(declared[key], text)
            except ValueError:
                raise RuleError(
                    f"{name}: {key}={text}: must be {declared[key].bounds} (default {declared[key].default})"
                ) from None
            if key.endswith("regex") and values[key] is not None:
                _refuse_bad_expression(name, key, values[key])
        return self[name](**values)

    def parse(self, text: str) -> Rule[Evidence]:
        """Return the rule for `NAME` or `NAME:parameter=value,parameter=value`. Raises RuleError as `make` does."""
        name, _, rest = text.partition(":")
        given: dict[str, str] = {}
        for part in re.split(r",(?=\w+=)", rest) if rest else []:  # a value may have commas of its own
            key, equals, value = part.partition("=")
            if not equals:
                raise RuleError(f"{text}: {part} should be parameter=value")
            given[key.strip()] = value
        return self.make(name.strip(), given)

    def parameters_by_rule(self, parts: Iterable[str]) -> dict[str, dict[str, str]]:
        """Return what each `NAME_PARAMETER=VALUE` gives to which rule. Raises RuleError for a part that names none."""
        given: dict[str, dict[str, str]] = {}
        for part in parts:
            key, equals, value = part.partition("=")
            name = next((name for name in self if key.startswith(f"{name}_")), None)
            if name is None or not equals:
                raise RuleError(
                    f"rule_{part}: should be rule_NAME_PARAMETER=VALUE, where NAME is one of {', '.join(self)}"
                )
            given.setdefault(name, {})[key.removeprefix(f"{name}_").strip()] = value.strip()
        return given

    def markdown_table(self) -> str:
        """Return the table of all rules that stands in the README."""
        rows = ["| rule | finds that | parameters (default) |", "|---|---|---|"]
        for name, rule in self.items():
            parameters = ", ".join(f"`{d.name}` ({_cell(d.default)})" for d in declarations(rule).values())
            rows.append(f"| `{name}` | {rule.fires} | {parameters} |")
        return "\n".join(rows)


def _cell(default: Any) -> str:
    text = f"{default:g}" if isinstance(default, float) else str(default)
    return f"`{text}`".replace("|", "\\|") if isinstance(default, str) else text


def _refuse_bad_expression(name: str, key: str, text: str) -> None:
    try:
        re.compile(text)
    except re.error as error:
        raise RuleError(f"{name}: {key}={text}: is no regular expression: {error}") from None

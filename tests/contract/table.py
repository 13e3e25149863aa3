"""The table in README.md beside this file: which test shows which row of SageMaker's contract, and where.

python -m tests.contract.table > tests/contract/README.md
"""

import ast
import re
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROWS = [
    *(f"A1.{n}" for n in range(1, 13)),
    *(f"A2.{n}" for n in range(1, 13)),
    *(f"A3.{n}" for n in range(1, 7)),
    *(f"A4.{n}" for n in range(1, 5)),
    *(f"A5.{n}" for n in range(1, 13)),
    *(f"A6.{n}" for n in range(1, 11)),
    *(f"A7.{n}" for n in ("1", "2", "2b", "3", "4")),
    *(f"B{n}" for n in range(1, 14)),
    *(f"C1.{n}" for n in range(1, 15)),
    *(f"C2.{n}" for n in range(1, 12)),
    *(f"C3.{n}" for n in range(1, 6)),
    *(f"C4.{n}" for n in range(1, 7)),
    *(f"C5.{n}" for n in range(1, 4)),
]
# what no test here shows, and why
NOT_HERE = {
    "A2.12": "scratch space is the machine's; ours is `/tmp` unless `KENNEL_CACHE` is set",
    "A5.10": "the toolkit's own live synchronization with S3",
    "A5.11": "met by the lock: `pip check` in the image",
    "A5.12": "every test reads what the programs wrote, as it was written",
    "A6.10": "no container work",
    "A7.2": "a matter of channel names in the SDK's own script",
    "A7.2b": "the SDK's driver script is not played here",
    "A7.3": "the SDK's own faults",
    "C2.11": "there is no nginx",
    "C3.3": "no container work",
}
HEAD = """# SageMaker's contract, row by row

Which test shows which row, with the real programs. "container": in containers of the image where one of these files is
there, else as processes of this machine; "process" alone: always so.
Rows are those of the contract's sections on training (A), tuning (B) and hosting (C1 to C5); tests in `aws` show what a
request for AWS says. Made by `python -m tests.contract.table`; a test sees to it that it is not stale.

| row | where | tests, or why there is none |
|---|---|---|
"""


def find_tests() -> dict[str, list[tuple[str, str]]]:
    """Return, for each row, the tests whose names end with it and where each runs."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for file in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                name = f"`{file.relative_to(TESTS)}::{node.name}`"
                for letter, section, number in re.findall(r"_([ac])(\d)_(\d+b?)(?=_|$)", node.name):
                    found[f"{letter.upper()}{section}.{number}"].append((name, _where(file, node)))
                for number in re.findall(r"_b(\d+)(?=_|$)", node.name):
                    found[f"B{number}"].append((name, _where(file, node)))
    return found


def _where(file: Path, test: ast.FunctionDef) -> str:
    marks = " ".join(ast.unparse(decorator) for decorator in test.decorator_list)
    if file.parent.name == "image" or file.name == "test_docker.py":
        return "container"
    both = file.parent.name == "contract" and "process_only" not in marks
    return "container" if both else "process"


def table() -> str:
    """Return the whole README."""
    found = find_tests()
    lines = []
    for row in ROWS:
        tests = found.get(row, [])
        where = ", ".join(
            place for place in ("process", "container") if any(place in place_of for _, place_of in tests)
        )
        what = "<br>".join(name for name, _ in tests) or NOT_HERE.get(row, "")
        lines.append(f"| {row} | {where or 'not here'} | {what} |")
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")

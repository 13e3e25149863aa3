from pathlib import Path

from tests.contract.table import NOT_HERE, ROWS, find_tests, table


def test_the_table_of_rows_is_not_stale():
    readme = Path(__file__).with_name("README.md")
    assert readme.read_text(encoding="utf-8") == table(), (
        "run: python -m tests.contract.table > tests/contract/README.md"
    )


def test_every_row_has_a_test_or_a_reason_and_not_both():
    shown = set(find_tests())
    assert [row for row in ROWS if row not in shown and row not in NOT_HERE] == []
    assert sorted(shown & set(NOT_HERE)) == []

"""A table of text: what is in a cell is never cut, read as markup or misaligned."""

from __future__ import annotations

from rich.cells import cell_len

from harness.reports.columns import Column, Row, text_table

COLUMNS = (Column("case", fold_min=6), Column("p50", right=True), Column("verdict"))


def lines_of(*rows, width=80, color=False):
    return text_table(COLUMNS, rows, width=width, color=color).splitlines()


def test_numbers_stand_at_the_right_and_a_short_row_leaves_columns_empty():
    assert lines_of(Row(("a", "2 ms", "equivalent")), Row(("b", "100 ms"))) == [
        "case     p50  verdict",
        "────────────────────────",
        "a       2 ms  equivalent",
        "b     100 ms",
    ]


def test_a_name_too_long_for_the_line_is_broken_and_stays_whole():
    name = "util=[050pct]-pool=08"
    lines = lines_of(Row((name, "1 ms", "regressed")), width=30)

    assert max(len(line) for line in lines) <= 30
    assert lines[2].endswith("  1 ms  regressed")
    assert "".join(line[:13].rstrip() for line in lines[2:]) == name


def test_a_column_is_never_narrowed_below_its_least_width():
    lines = lines_of(Row(("x" * 20, "1 ms", "regressed")), width=5)
    assert "".join(line[:6].rstrip() for line in lines[2:]) == "x" * 20


def test_wide_characters_keep_the_columns_below_each_other():
    lines = lines_of(Row(("倉庫", "1 ms", "x")), Row(("abcd", "1 ms", "x")))
    assert cell_len(lines[2]) == cell_len(lines[3]) == cell_len("abcd  1 ms  x")


def test_colours_change_no_text_and_come_only_where_asked_for():
    row = Row(("a", "1 ms", "regressed"), last_style="bold red")
    plain, coloured = lines_of(row), lines_of(row, color=True)
    assert "\x1b[" not in "".join(plain)
    assert "\x1b[1;31mregressed\x1b[0m" in coloured[2]
    assert coloured[2].replace("\x1b[1;31m", "").replace("\x1b[0m", "") == plain[2]

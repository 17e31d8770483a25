"""Decimal commas, and commas that part thousands."""

import polars as pl
import pytest

from whereupon.histories.decimals import points_for_commas


@pytest.mark.parametrize(
    ("name", "cells", "wanted"),
    [
        ("value", ["4,5", "3", None], ["4.5", "3", None]),
        ("value", ["-0,25", "n/a", "1,5"], ["-0.25", "n/a", "1.5"]),
        ("value", ["1,234", "5,678"], ["1,234", "5,678"]),
        ("value", ["1.5", "2,5"], ["1.5", "2,5"]),
        ("latitude", ["52,514", "52,513"], ["52.514", "52.513"]),
    ],
)
def test_decimal_comma_is_reported_from_thousands(name: str, cells: list[str | None], wanted: list[str | None]) -> None:
    table, _ = points_for_commas(pl.DataFrame({name: cells}), [name], None)
    assert table[name].to_list() == wanted


def test_column_beyond_doubt_decides_for_a_doubtful_one() -> None:
    table, found = points_for_commas(pl.DataFrame({"a": ["1,5"], "b": ["1,234"]}), ["a", "b"], None)
    assert (table.row(0), found) == (("1.5", "1.234"), ["a", "b"])


def test_setting_decides() -> None:
    table = pl.DataFrame({"a": ["1,234"], "id": ["1,5"]})
    assert points_for_commas(table, ["a"], ",")[0].row(0) == ("1.234", "1,5")
    assert points_for_commas(table, ["a"], ".")[0].row(0) == ("1,234", "1,5")


def test_coded_fields_of_isd_have_no_decimal_comma() -> None:
    """+0056,1 are 5.6 degrees of quality 1, and not 56.1."""
    table = pl.DataFrame({"temperature_c": ["+0056,1", "-0012,5", "+9999,9"]})
    read, found = points_for_commas(table, ["temperature_c"], None)
    assert found == []
    assert read.equals(table)

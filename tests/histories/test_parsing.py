"""Text and typed cells into times, days, numbers and labels."""

from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from whereupon.errors import ConfigError
from whereupon.histories.parsing import to_floats, to_text
from whereupon.histories.times import read_times, to_days, to_times
from whereupon.tests.texts import says

MOMENT = datetime(2013, 1, 27, 0, 51, 40, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "aware"),
    [
        ("2013-01-27T00:51:40Z", True),
        ("2013-01-27t00:51:40z", True),
        (" 2013-01-27 00:51:40 Z ", True),
        ("2013-01-27 00:51:40", False),
        ("2013-01-27T01:51:40+01:00", True),
        ("2013-01-26T19:51:40-0500", True),
        ("2013-01-26 19:51:40-05", True),
        ("2013-01-27T00:51:40.000", False),
        ("1359247900", True),
        ("1359247900.0", True),
    ],
)
def test_spellings_of_one_time_are_that_time(text: str, aware: bool) -> None:
    cells = pl.Series("time", [text])
    assert to_times(cells).to_list() == [MOMENT]
    assert read_times(cells).has_offset.to_list() == [aware]


@pytest.mark.parametrize("text", ["", "yesterday", "2013-13-01T00:00:00Z", "2013-02-29", "27.13.2013", "-70000000000"])
def test_what_is_no_time_becomes_null(text: str) -> None:
    assert to_times(pl.Series("time", [text, "2013-01-27"])).to_list() == [None, datetime(2013, 1, 27, tzinfo=UTC)]


def test_given_format_is_used() -> None:
    assert to_times(pl.Series(["27/01/2013 00:51:40"]), "%d/%m/%Y %H:%M:%S").to_list() == [MOMENT]
    assert to_times(pl.Series(["27/01/2013 01:51:40 +0100"]), "%d/%m/%Y %H:%M:%S %z").to_list() == [MOMENT]
    assert to_times(pl.Series(["27/01/2013"]), "%d/%m/%Y").to_list() == [datetime(2013, 1, 27, tzinfo=UTC)]


def test_format_that_is_none_names_itself() -> None:
    with pytest.raises(ConfigError, match=says("time_format", "'27.1.'", "'%j %Y %H'")):
        to_times(pl.Series(["27.1."]), "%j %Y %H")


def test_typed_columns_of_parquet_are_understood() -> None:
    berlin = MOMENT.astimezone(timezone(timedelta(hours=1)))
    aware = pl.Series([berlin]).cast(pl.Datetime("ms", "UTC")).dt.convert_time_zone("Europe/Berlin")
    assert to_times(aware).to_list() == [MOMENT]
    naive = pl.Series([MOMENT.replace(tzinfo=None)])
    assert to_times(naive).to_list() == [MOMENT]
    assert read_times(naive).has_offset.to_list() == [False]
    assert to_times(pl.Series([1359247900])).to_list() == [MOMENT]
    assert to_times(pl.Series([1359247900000])).to_list() == [MOMENT]
    assert to_times(pl.Series([date(2013, 1, 27)])).to_list() == [datetime(2013, 1, 27, tzinfo=UTC)]
    assert to_times(pl.Series([True])).to_list() == [None]


@limits(deadline=None)
@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)),
    st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_iso_times_agree_with_the_standard_library(moment: datetime, zone: timezone) -> None:
    aware = moment.replace(tzinfo=zone)
    assert to_times(pl.Series([aware.isoformat(), aware.isoformat(" ")])).to_list() == [aware.astimezone(UTC)] * 2


def test_days_ignore_a_clock() -> None:
    cells = pl.Series(["2013-01-27", "20130127", "2013-01-27T23:00", "27", None])
    assert to_days(cells).to_list() == [date(2013, 1, 27)] * 3 + [None, None]
    assert to_days(pl.Series(["27/01/13"]), "%d/%m/%y").to_list() == [date(2013, 1, 27)]


def test_only_finite_numbers_count() -> None:
    cells = pl.Series([" 1.5 ", "-2e1", "nan", "inf", "1,5", "", None])
    assert to_floats(cells).to_list() == [1.5, -20.0, None, None, None, None, None]


def test_labels_are_stripped_and_empty_ones_null() -> None:
    assert to_text(pl.Series([" a ", "", "  ", None])).to_list() == ["a", None, None, None]
    assert to_text(pl.Series([12, None])).to_list() == ["12", None]

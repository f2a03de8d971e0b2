from __future__ import annotations

import logging
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from harness import ConfigError
from harness.clock import ManualClock
from harness.spark.functions.columns import convert_camel_case_to_snake_case
from harness.spark.functions.tables import is_valid_table_name
from harness.spark.functions.times import (
    custom_timer,
    get_start_date_and_end_date_and_list_of_hourly_timestamps,
)


@pytest.mark.parametrize(
    ("camel", "snake"),
    [
        ("userIDNumber", "user_id_number"),
        ("HTTPServer2Port", "http_server2_port"),
        ("orderDate", "order_date"),
        ("ID", "id"),
        ("already_snake", "already_snake"),
        ("", ""),
    ],
)
def test_words_of_a_name_are_parted_at_capitals(camel, snake):
    assert convert_camel_case_to_snake_case(camel) == snake


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("main.sales.orders", True),
        ("`my catalog`.sales.`orders-2026`", True),
        ("sales.orders", False),
        ("main.sales.orders.x", False),
        ("main.sales.orders-2026", False),
        ("main.sales.orders; DROP TABLE x", False),
        ("main.sales.orders\n", False),
        ("main..orders", False),
    ],
)
def test_table_name_has_three_parts(name, valid):
    assert is_valid_table_name(name) is valid


def test_hours_cover_the_range_from_the_hour_it_begins_in():
    found = get_start_date_and_end_date_and_list_of_hourly_timestamps(
        datetime(2026, 1, 1, 10, 20, tzinfo=UTC),
        datetime(2026, 1, 1, 12, 0, 1, tzinfo=UTC),
    )

    assert [hour.hour for hour in found.hours] == [10, 11, 12]
    assert found.start == datetime(2026, 1, 1, 10, tzinfo=UTC)
    assert found.end == datetime(2026, 1, 1, 13, tzinfo=UTC)


def test_day_on_which_clocks_go_back_has_25_hours():
    berlin = ZoneInfo("Europe/Berlin")

    found = get_start_date_and_end_date_and_list_of_hourly_timestamps(
        datetime(2026, 10, 25, tzinfo=berlin), datetime(2026, 10, 26, tzinfo=berlin)
    )

    assert len(found.hours) == 25
    assert len({hour.timestamp() for hour in found.hours}) == 25


def test_hours_begin_by_the_clock_of_their_zone():
    kolkata = ZoneInfo("Asia/Kolkata")  # half an hour off

    found = get_start_date_and_end_date_and_list_of_hourly_timestamps(
        datetime(2026, 1, 1, 10, 45, tzinfo=kolkata),
        datetime(2026, 1, 1, 11, 0, tzinfo=kolkata),
    )

    assert found.hours == (datetime(2026, 1, 1, 10, tzinfo=kolkata),)


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        (datetime(2026, 1, 1), datetime(2026, 1, 2, tzinfo=UTC), "start.*time zone"),  # noqa: DTZ001 - it is refused
        (
            datetime(2026, 1, 2, tzinfo=UTC),
            datetime(2026, 1, 2, tzinfo=UTC),
            "end must be after start=2026-01-02",
        ),
    ],
)
def test_impossible_range_is_refused(start, end, said):
    with pytest.raises(ConfigError, match=said):
        get_start_date_and_end_date_and_list_of_hourly_timestamps(start, end)


def test_timer_logs_a_call_that_raises_too_and_keeps_the_name(caplog):
    clock = ManualClock()

    def work():
        """Work."""
        clock.sleep(1.5)
        raise ValueError("seen")

    timed = custom_timer(work, clock=clock)
    with caplog.at_level(logging.INFO), pytest.raises(ValueError, match="seen"):
        timed()

    assert timed.__name__ == "work"
    assert timed.__doc__ == "Work."
    assert caplog.records[0].duration_ms == 1500
    assert caplog.records[0].operation.endswith("work")

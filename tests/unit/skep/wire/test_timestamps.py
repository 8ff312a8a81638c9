import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep.wire import timestamps

NOON = 1_767_268_800_000  # 2026-01-01T12:00:00Z


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-01-01T12:00:00.000", NOON),
        ("2026-01-01T12:00:00", NOON),
        ("2026-01-01T12:00", NOON),
        ("2026-01-01 12:00:00", NOON),
        ("2026-01-01T12:00:00Z", NOON),
        ("2026-01-01T14:00:00+02:00", NOON),
        ("2026-01-01T14:00:00+0200", NOON),
        ("2026-01-01T14:00:00+02", NOON),
        ("2026-01-01T06:30:00.5-05:30", NOON + 500),
        ("2026-01-01T12:00:00.1", NOON + 100),
        ("2026-01-01T12:00:00.123999", NOON + 123),
        ("2026-01-01T12:00:00.123456789Z", NOON + 123),
        ("2026-01-01", NOON - 12 * 3_600_000),
        ("Thu, 01 Jan 2026 12:00:00 GMT", NOON),
        ("Thu, 01 Jan 2026 14:00:00 +0200", NOON),
        (str(NOON), NOON),
        (" 1767268800000 ", NOON),
        ("-1", -1),
        (NOON, NOON),
        (NOON + 0.9, NOON),
        ("1969-12-31T23:59:59.999", -1),
    ],
)
def test_parse(text: str | float, ms: int) -> None:
    assert timestamps.parse(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-13-01",
        "2026-02-30T00:00:00",
        "2026-01-01T24:00:00",
        "2026-01-01T12:00:60",
        "2026-01-01T12",
        "2026-01-01x12:00:00",
        "2026-01-01T12:00:00+99:00",
        "2026-01-01T12:00:00+01:60",
        "2026-W01-1",
        "Thu, 99 Jan 2026 12:00:00 GMT",
        "Thu, 01 Foo 2026 12:00:00 GMT",
        "99999999999999999",
        "9999-12-31T23:59:59-01:00",
        "٢٠٢٦-01-01",
        float("nan"),
        float("inf"),
        10**15,
        True,
    ],
)
def test_no_time(text: str | float) -> None:
    with pytest.raises(ValueError, match=r"."):
        timestamps.parse(text)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (NOON, "2026-01-01T12:00:00.000"),
        (NOON + 7, "2026-01-01T12:00:00.007"),
        (-1, "1969-12-31T23:59:59.999"),
        (timestamps.MIN, "0001-01-01T00:00:00.000"),
        (timestamps.MAX, "9999-12-31T23:59:59.999"),
    ],
)
def test_format(ms: int, text: str) -> None:
    assert timestamps.format(ms) == text


def test_format_refuses_what_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="years"):
        timestamps.format(timestamps.MAX + 1)


@given(st.integers(timestamps.MIN, timestamps.MAX))
def test_what_is_written_is_read(ms: int) -> None:
    assert timestamps.parse(timestamps.format(ms)) == ms


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert timestamps.MIN <= timestamps.parse(text) <= timestamps.MAX

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtt_bridge.core import topics
from mqtt_bridge.core.topics import Insert, Request
from skep.wire.messages import COMMAND, NOTIFICATION, UPDATE

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@pytest.mark.parametrize(
    ("topic", "meant"),
    [
        ("dh/request", Request(None)),
        ("dh/request/c-1", Request("c-1")),
        ("dh/request/c-1/more", None),
        ("dh/request/", None),
        ("dh/request/a@b", None),
        ("dh/insert/notification/d1/temperature", Insert("d1", "temperature")),
        ("dh/insert/notification/d1/a%2Fb%25", Insert("d1", "a/b%")),
        ("dh/insert/notification/d1/%ff", None),
        ("dh/insert/notification/d1", None),
        ("dh/insert/notification/d1/", None),
        ("dh/insert/notification//t", None),
        ("dh/insert/notification/d1/a/b", None),
        ("dh/insert/command/d1/t", None),
        ("dh/notification/1/1/d1/t", None),
        ("dh", None),
        ("request", None),
        ("", None),
        ("DH/request/c", None),
    ],
)
def test_inbound(topic: str, meant: object) -> None:
    assert topics.inbound(topic) == meant


@pytest.mark.parametrize(
    ("kind", "topic"),
    [
        (NOTIFICATION, "dh/notification/1/2/d1/t"),
        (COMMAND, "dh/command/1/2/d1/t"),
        (UPDATE, "dh/command_update/1/2/d1/t"),
    ],
)
def test_event(kind: int, topic: str) -> None:
    assert topics.event(kind, 1, 2, "d1", "t") == topic


@given(TEXT, st.sampled_from(["", ".*"]))
def test_a_name_is_one_level_and_comes_back(name: str, also: str) -> None:
    level = topics.escape(name, also)
    assert not set(level) & {"/", "+", "#", "\0", *also}
    if name:
        assert topics.inbound(f"dh/insert/notification/d1/{level}") == Insert("d1", name)


def test_response() -> None:
    assert topics.response("device/list", "c1") == "dh/response/device/list@c1"


@pytest.mark.parametrize("text", ["", "a/b", "+", "#", "a@b", "a b", "a\n", "a%2F", "x" * 129, "\0"])
def test_client_ids_that_break_topics_are_refused(text: str) -> None:
    assert not topics.is_client_id(text)


@pytest.mark.parametrize("text", ["a", "ESP8266_01", "x" * 128, "sensor.1", "gerät"])
def test_other_client_ids_are_not(text: str) -> None:
    assert topics.is_client_id(text)

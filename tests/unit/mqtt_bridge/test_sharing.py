from __future__ import annotations

from mqtt_bridge.core.sharing import Subscription, sessions
from mqtt_bridge.core.topics import INBOUND, shared

PLAIN, SHARED = INBOUND, shared("s")


def test_one_session_gets_everything() -> None:
    assert sessions("s", 1, []) == {"s": Subscription(PLAIN, SHARED)}


def test_several_share_it() -> None:
    each = Subscription(SHARED, PLAIN, is_shared=True)
    assert sessions("s", 3, []) == {"s": each, "s-2": each, "s-3": each}
    assert SHARED == ("$share/s/dh/request/#", "$share/s/dh/insert/#")


def test_a_session_that_is_not_wanted_any_more_is_emptied() -> None:
    known = ["s", "s-2", "s-3", "s/rights", "other-2", "s-2-x"]
    assert sessions("s", 1, known).keys() == {"s", "s-2", "s-3"}
    assert sessions("s", 2, known)["s-3"] == Subscription((), PLAIN + SHARED)
    assert sessions("s", 2, known)["s-2"].is_shared

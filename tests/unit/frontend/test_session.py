from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator

import msgspec
import pytest

from frontend.core.services import Limits, now
from frontend.core.session import Session
from skep import errors, logs
from skep.access import User
from skep.wire.messages import COMMAND, UPDATE, InsertNotification, Item
from tests.cases import websocket
from tests.unit.frontend.fakes import Failed, Frontend, command, ids, notification, settled


@pytest.fixture
async def frontend() -> AsyncIterator[Frontend]:
    async with Frontend() as made:
        yield made


def insert(request_id: int, device: str = "mine", **more: object) -> bytes:
    body = {"action": "notification/insert", "requestId": request_id, "deviceId": device, **more}
    return json.dumps({**body, "notification": {"notification": f"n{request_id}"}}).encode()


def ask(action: str, **fields: object) -> bytes:
    return json.dumps({"action": action, "requestId": "r", **fields}).encode()


@pytest.mark.parametrize("case", websocket.CASES, ids=lambda case: case.name)
async def test_case(frontend: Frontend, case: websocket.Case) -> None:
    session, outlet = frontend.session()
    if case.who is not None:
        await session.authenticate(case.who)
    session.receive(case.sent.encode())
    await settled()
    (reply,) = outlet.take()
    assert websocket.matches(case.reply, reply), reply


async def test_authenticate_holds_up_what_follows_it(frontend: Frontend) -> None:
    session, outlet = frontend.session()
    session.receive(ask("authenticate", token="client"))
    session.receive(insert(1))
    await settled()
    assert [r["status"] for r in outlet.take()] == ["success", "success"]


async def test_a_vanished_user_and_an_expired_token(frontend: Frontend) -> None:
    session, outlet = await frontend.client("client")
    frontend.caches.users.pop(2)
    frontend.identities.changed("user", ["2"])
    await settled()
    session.receive(insert(1))
    await settled()
    assert outlet.take()[0]["code"] == 401
    session.receive(ask("authenticate", token="late"))
    await settled()
    assert outlet.take()[0]["error"] == "Token expired"


async def test_inserts_keep_their_order_while_a_device_is_looked_up(frontend: Frontend) -> None:
    session, outlet = await frontend.client()
    frontend.caches.slow = asyncio.Event()
    session.receive(insert(1))
    frontend.caches.slow.set()
    await settled()
    frontend.caches.slow = asyncio.Event()
    session.receive(insert(2, "other"))  # unknown as yet
    session.receive(insert(3))  # known
    await settled()
    assert len(frontend.bus.calls) == 1
    frontend.caches.slow.set()
    await settled()
    names = [body.notification.name for _, body, _ in frontend.bus.calls if isinstance(body, InsertNotification)]
    assert names == ["n1", "n2", "n3"]
    assert [r["requestId"] for r in outlet.take()] == [1, 2, 3]


async def test_known_device_goes_to_the_bus_at_once(frontend: Frontend) -> None:
    session, _ = await frontend.client()
    session.receive(insert(1))
    await settled()
    session.receive(insert(2))
    assert len(frontend.bus.calls) == 2


async def test_a_changed_device_is_looked_up_again(frontend: Frontend) -> None:
    session, outlet = await frontend.client("client")
    session.receive(insert(1))
    await settled()
    frontend.caches.devices["mine"] = frontend.caches.devices["other"]
    frontend.caches.known.clear()
    session.receive(insert(2))
    await settled()
    assert [r["status"] for r in outlet.take()] == ["success", "error"]


async def test_idempotency_key_gives_the_same_id(frontend: Frontend) -> None:
    session, outlet = await frontend.client()
    session.receive(insert(1, idempotencyKey="k"))
    session.receive(insert(2, idempotencyKey="k"))
    session.receive(insert(3, idempotencyKey="other"))
    session.receive(insert(4, "other", idempotencyKey="k"))
    await settled()
    given = [reply["notification"]["id"] for reply in outlet.take()]
    assert given[0] == given[1]
    assert len(set(given)) == 3
    assert max(given) < 2**53
    assert all(body.repeatable for _, body, _ in frontend.bus.calls)


async def test_requests_past_the_bound_wait_and_reading_stops() -> None:
    async with Frontend(Limits(requests=3)) as frontend:
        session, outlet = await frontend.client()
        session.receive(insert(0))
        await settled()
        outlet.take()
        frontend.bus.silent = True
        for i in range(1, 6):
            session.receive(insert(i))
        assert len(frontend.bus.waiting) == 3
        assert outlet.paused
        for body, future in frontend.bus.waiting:
            frontend.bus.answer(body, future)
        frontend.bus.silent = False
        await settled()
        assert [r["requestId"] for r in outlet.take()] == [1, 2, 3, 4, 5]
        assert not outlet.paused


async def test_anonymous_flood_is_cut_off() -> None:
    async with Frontend(Limits(anonymous_messages=5)) as frontend:
        session, outlet = frontend.session()
        for _ in range(12):
            session.receive(b"{}")
        assert outlet.closed is not None
        assert outlet.closed[0] == 1008


async def test_who_was_authenticated_has_longer_to_come_back() -> None:
    async with Frontend(Limits(anonymous=-1, lapsed=1000)) as frontend:
        session, outlet = await frontend.client("client")
        session.check()
        del frontend.caches.users[2]
        frontend.identities.changed("user", ["2"])
        await settled()
        session.check()
        assert outlet.closed is None
        stranger, closed = frontend.session()
        stranger.check()
        assert closed.closed == (1008, "not authenticated")
        frontend.services.limits.__dict__["lapsed"] = -1
        session.check()
        assert outlet.closed == (1008, "not authenticated")


# -- subscriptions ---------------------------------------------------------------------------------------------------


async def test_reply_then_stored_then_live(frontend: Frontend) -> None:
    session, outlet = await frontend.client()
    frontend.bus.stored = [notification(1, 11, time=2000), notification(2, 12, time=3000)]
    frontend.bus.hold_markers = asyncio.Event()
    session.receive(ask("notification/subscribe", deviceId="mine", timestamp=1000))
    await settled()
    frontend.live(notification(2, 12, time=3000), notification(3, 13, time=4000))
    assert outlet.sent == []
    frontend.bus.hold_markers.set()
    await settled()
    replies = outlet.take()
    assert replies[0]["status"] == "success"
    assert ids(replies) == [11, 12, 13]
    assert {r["subscriptionId"] for r in replies} == {replies[0]["subscriptionId"]}


async def test_what_the_replay_contained_is_not_pushed_when_its_event_comes_late(frontend: Frontend) -> None:
    session, outlet = await frontend.client()
    frontend.bus.stored = [notification(1, 11, time=2000)]
    session.receive(ask("notification/subscribe", timestamp=1000))
    await settled()
    frontend.live(notification(1, 11, time=2000), notification(2, 12, time=3000))
    assert ids(outlet.take()) == [11, 12]


async def test_what_comes_live_is_not_given_by_the_replay_before_it(frontend: Frontend) -> None:
    """A batch that is being written to the store: its second message can be read, its first cannot yet."""
    session, outlet = await frontend.client()
    frontend.bus.marked = 10
    frontend.bus.stored = [notification(9, 11, time=2000), notification(12, 13, time=4000)]
    session.receive(ask("notification/subscribe", timestamp=1000))
    await settled()
    assert ids(outlet.take()) == [11]
    frontend.live(notification(11, 12, time=3000), notification(12, 13, time=4000))
    assert ids(outlet.take()) == [12, 13]
    # Now the interest is in effect already: what was handed out before comes from the store, the rest live again.
    frontend.bus.stored += [notification(11, 12, time=3000), notification(13, 14, time=5000)]
    session.receive(ask("notification/subscribe", timestamp=1000))
    await settled()
    assert ids(outlet.take()) == [11, 12, 13]


async def test_an_update_later_than_the_replay_is_pushed(frontend: Frontend) -> None:
    session, outlet = await frontend.client()
    frontend.bus.stored = [command(5, 11, UPDATE, updated=2000)]
    session.receive(ask("command/subscribe", timestamp=500, returnUpdatedCommands=True))
    await settled()
    frontend.live(command(4, 11, UPDATE, updated=1500), command(5, 11, UPDATE, updated=2000))
    frontend.live(command(6, 11, UPDATE, updated=2500))
    replies = outlet.take()
    assert ids(replies) == [11, 11]
    assert {r["action"] for r in replies[1:]} == {"command/update"}


async def test_a_page_never_splits_a_millisecond(frontend: Frontend) -> None:
    session, outlet = await frontend.client()
    frontend.bus.stored = [notification(i, i, time=2000 + i // 150) for i in range(1, 700)]
    session.receive(ask("notification/subscribe", timestamp=1000))
    await settled(200)
    assert ids(outlet.take()) == list(range(1, 700))


async def test_command_replay_is_limited(frontend: Frontend) -> None:
    session, outlet = await frontend.client()
    frontend.bus.stored = [command(i, i, COMMAND, time=2000 + i) for i in range(1, 31)]
    session.receive(ask("command/subscribe", timestamp=1000))
    session.receive(ask("command/subscribe", timestamp=1000, limit=3))
    session.receive(ask("command/subscribe", timestamp=1000, limit=0))
    await settled(100)
    by_subscription: dict[int, int] = {}
    for reply in outlet.take():
        by_subscription[reply["subscriptionId"]] = by_subscription.get(reply["subscriptionId"], -1) + 1
    assert list(by_subscription.values()) == [20, 3, 30]


async def test_commands_past_their_lifetime_are_not_delivered(frontend: Frontend) -> None:
    """Neither stored nor live; their updates are, and so is what was updated in time."""
    session, outlet = await frontend.client()
    old, late, fresh, done = (command(i, i, COMMAND, time=now() - 60_000) for i in (1, 2, 3, 4))
    for item, lifetime in ((old, 59), (fresh, 1_000)):
        assert item.command is not None
        item.command.lifetime = lifetime
    assert late.command is not None
    assert done.command is not None
    late.command.status = done.command.status = "Expired"
    done.command.is_updated = True
    frontend.bus.stored = [old, late, fresh, done]
    session.receive(ask("command/subscribe", timestamp=1000))
    session.receive(ask("command/subscribe", returnUpdatedCommands=True))
    await settled()
    assert ids(outlet.take()) == [3, 4]
    for offset, item in enumerate((old, late, fresh, done), 10):
        frontend.live(Item(0, offset, COMMAND, command=item.command))
    frontend.live(Item(0, 20, UPDATE, command=old.command))
    pushed = outlet.take()
    assert [(p["action"], p["command"]["id"]) for p in pushed] == [("command/update", 1)]


async def test_two_subscriptions_get_two_pushes_one_filter_gets_one(frontend: Frontend) -> None:
    session, outlet = await frontend.client()
    session.receive(ask("notification/subscribe", deviceId="mine", names=["a", "b"]))
    session.receive(ask("notification/subscribe", networkIds=[1, 2]))
    await settled()
    first, second = (reply["subscriptionId"] for reply in outlet.take())
    assert first != second
    frontend.live(notification(1, 11, name="a"))
    frontend.live(notification(2, 12, name="z"))
    assert [(r["subscriptionId"], r["notification"]["id"]) for r in outlet.take()] in (
        [(first, 11), (second, 11), (second, 12)],
        [(second, 11), (first, 11), (second, 12)],
    )


async def test_repeated_events_are_dropped_until_the_log_is_another(frontend: Frontend) -> None:
    session, outlet = await frontend.client()
    session.receive(ask("notification/subscribe"))
    await settled()
    outlet.take()
    frontend.live(notification(1, 11), notification(2, 12))
    frontend.live(notification(1, 11), notification(2, 12), notification(3, 13), notification(1, 14, at=1))
    frontend.live(notification(1, 15), incarnation="another log")
    assert ids(outlet.take()) == [11, 12, 13, 14, 15]


async def test_rights_count_at_each_delivery(frontend: Frontend) -> None:
    session, outlet = await frontend.client("client")
    session.receive(ask("notification/subscribe"))
    await settled()
    outlet.take()
    frontend.live(notification(1, 11), notification(2, 12, device="other"))
    frontend.caches.users[2] = frontend.caches.users[2].__class__(2, "client", 1, 0, frozenset())
    frontend.identities.changed("user", ["2"])
    await settled()
    frontend.live(notification(3, 13))
    assert ids(outlet.take()) == [11]


async def test_a_client_does_not_see_other_networks_by_device(frontend: Frontend) -> None:
    """A device that moves out of sight stops being pushed, though the subscription names it."""
    session, outlet = await frontend.client("client")
    session.receive(ask("notification/subscribe", deviceId="mine"))
    await settled()
    outlet.take()
    moved = notification(1, 11)
    assert moved.notification is not None
    moved.notification.network_id = 2
    frontend.live(moved)
    assert outlet.take() == []


async def test_a_subscribe_is_not_refused_by_rights_of_before(frontend: Frontend) -> None:
    """A network was given a moment ago: PostgreSQL knows, the open socket not yet."""
    session, outlet = await frontend.client("client")
    user = frontend.caches.users[2]
    frontend.caches.users[2] = msgspec.structs.replace(user, networks=frozenset({1, 2}))
    session.receive(ask("notification/subscribe", networkIds=[2]))
    await settled()
    assert outlet.take()[0]["status"] == "success"
    frontend.caches.users[2] = msgspec.structs.replace(user, networks=frozenset())
    session.receive(ask("notification/subscribe", networkIds=[2, 1]))
    await settled()
    assert outlet.take()[0]["code"] == 403


async def test_unsubscribe_ends_it_and_the_interest_lingers(frontend: Frontend) -> None:
    session, outlet = await frontend.client()
    session.receive(ask("notification/subscribe"))
    await settled()
    id = outlet.take()[0]["subscriptionId"]
    session.receive(ask("subscription/list"))
    assert outlet.take()[0]["subscriptions"][0]["subscriptionId"] == id
    session.receive(ask("command/unsubscribe", subscriptionId=id))
    session.receive(ask("notification/unsubscribe", subscriptionId=id))
    assert [r["status"] for r in outlet.take()] == ["error", "success"]
    frontend.live(notification(1, 11))
    assert outlet.take() == []
    assert len(frontend.registry) == 0
    assert len(frontend.interests) == 1


@pytest.mark.parametrize("since", [{}, {"timestamp": 500}])
async def test_unsubscribe_takes_what_is_on_its_way_too(frontend: Frontend, since: dict[str, int]) -> None:
    """As the requests came: subscribed, unsubscribed, and subscribed again."""
    session, outlet = await frontend.client()
    frontend.bus.hold_markers = asyncio.Event()
    session.receive(ask("notification/subscribe", deviceId="mine", **since))
    session.receive(ask("notification/unsubscribe"))
    session.receive(ask("notification/subscribe", names=["n"], **since))
    await settled()
    frontend.live(notification(1, 11))
    frontend.bus.hold_markers.set()
    await settled()
    answers = outlet.take()
    assert [a["action"].split("/")[1] for a in answers if "status" in a] == ["subscribe", "subscribe", "unsubscribe"]
    assert all(a["status"] == "success" for a in answers if "status" in a)
    session.receive(ask("subscription/list"))
    (left,) = outlet.take()[0]["subscriptions"]
    assert left["names"] == ["n"]
    frontend.live(notification(2, 12))
    assert [push["subscriptionId"] for push in outlet.take()] == [left["subscriptionId"]]


async def test_nothing_comes_after_unsubscribe_that_overtakes_the_end_of_the_replay(frontend: Frontend) -> None:
    session, outlet = await frontend.client()
    frontend.bus.hold_markers = asyncio.Event()
    session.receive(ask("notification/subscribe"))
    await settled()
    frontend.live(notification(1, 11))  # waits for the replay's end
    frontend.bus.hold_markers.set()
    while not outlet.sent:  # noqa: ASYNC110 - the replay ends in its own time
        await asyncio.sleep(0)
    session.receive(ask("notification/unsubscribe"))
    replies = outlet.take()
    assert [r["action"] for r in replies] == ["notification/subscribe", "notification/unsubscribe"]
    await settled()
    assert outlet.take() == []


async def test_a_closed_socket_leaves_nothing_behind(frontend: Frontend) -> None:
    session, outlet = await frontend.client()
    frontend.bus.hold_markers = asyncio.Event()
    session.receive(ask("notification/subscribe", deviceId="mine"))
    await settled()
    session.closed()
    frontend.bus.hold_markers.set()
    await settled()
    assert (len(frontend.registry), len(frontend.identities), outlet.sent) == (0, 0, [])


async def test_subscribe_fails_with_the_bus_and_works_after_it(frontend: Frontend) -> None:
    session, outlet = await frontend.client()
    await settled()
    frontend.bus.away = True
    session.receive(ask("notification/subscribe"))
    await settled()
    assert outlet.take()[0]["code"] == 503
    assert (len(frontend.registry), len(frontend.interests)) == (0, 0)
    frontend.bus.away = False
    session.receive(ask("notification/subscribe"))
    await settled()
    assert outlet.take()[0]["status"] == "success"


async def test_too_many_subscriptions() -> None:
    async with Frontend(Limits(subscriptions=2)) as frontend:
        session, outlet = await frontend.client()
        for _ in range(3):
            session.receive(ask("notification/subscribe"))
        await settled()
        assert sorted(r.get("code", 0) for r in outlet.take()) == [0, 0, 429]


async def test_a_gap_closes_subscribers_only(frontend: Frontend) -> None:
    (session, outlet), (_, idle) = await frontend.client(), await frontend.client()
    session.receive(ask("notification/subscribe"))
    await settled()
    frontend.registry.lose()
    assert outlet.closed is not None
    assert outlet.closed[0] == 1013
    assert idle.closed is None


async def test_a_subscription_to_everything_follows_the_rights(frontend: Frontend) -> None:
    session, outlet = await frontend.client("client")
    session.receive(b'{"action":"notification/subscribe","requestId":1}')
    session.receive(b'{"action":"notification/subscribe","requestId":2,"networkIds":[1]}')
    await settled()
    outlet.take()
    everywhere = min(session.subscriptions)
    frontend.live(notification(1, 11, device="other"))
    assert outlet.take() == []
    frontend.caches.users[2] = User(2, "client", 1, 0, frozenset({1, 2}))
    frontend.identities.changed("user", ["2"])
    await settled()
    frontend.live(notification(2, 12, device="other"), notification(3, 13))
    pushed = [(m["notification"]["id"], m["subscriptionId"] == everywhere) for m in outlet.take()]
    assert sorted(pushed) == [(12, True), (13, False), (13, True)]
    frontend.caches.users[2] = User(2, "client", 1, 0, frozenset({2}))
    frontend.identities.changed("user", ["2"])
    await settled()
    frontend.live(notification(4, 14))
    assert outlet.take() == []
    assert len(frontend.registry) == 2
    session.closed()
    assert len(frontend.registry) == 0


async def test_what_can_not_be_followed_has_to_resume(frontend: Frontend) -> None:
    session, outlet = await frontend.client("client")
    session.receive(b'{"action":"notification/subscribe"}')
    await settled()
    frontend.bus.away = True
    frontend.caches.users[2] = User(2, "client", 1, 0, frozenset({1, 2}))
    frontend.identities.changed("user", ["2"])
    await settled()
    assert outlet.closed is not None
    assert outlet.closed[0] == 1013


# -- logs ------------------------------------------------------------------------------------------------------------


class Lines(logging.Handler):
    """What is logged, as the process would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logs.Formatter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (ZeroDivisionError("at home"), "at home"),
        (errors.Internal("Internal server error"), "Internal server error"),
        (Failed(500, "the backend's"), "the backend's"),
    ],
)
@pytest.mark.parametrize(("given", "logged"), [('"r-1.5"', "r-1.5"), ("7", "7"), ('"a b"', "1"), ("null", "1")])
async def test_a_failure_is_logged_with_its_request(
    frontend: Frontend, monkeypatch: pytest.MonkeyPatch, failure: Exception, said: str, given: str, logged: str
) -> None:
    session, outlet = await frontend.client()
    lines = Lines()
    logging.getLogger("frontend.session").addHandler(lines)

    def fail(*_: object, **__: object) -> asyncio.Future[bytes]:
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        future.set_exception(failure)
        return future

    monkeypatch.setattr(frontend.bus, "call", fail)
    try:
        await asyncio.create_task(
            _receive(session, insert(1).replace(b'"requestId": 1', b'"requestId": ' + given.encode()))
        )
        await settled()
    finally:
        logging.getLogger("frontend.session").removeHandler(lines)
    assert outlet.take()[0]["code"] == 500
    (line,) = lines.lines
    assert said in line
    assert re.search(rf" request=ws[0-9a-f]+\.{re.escape(logged)} ", line), line


async def _receive(session: Session, text: bytes) -> None:
    session.receive(text)


async def test_a_refusal_is_not_logged(frontend: Frontend) -> None:
    session, outlet = await frontend.client()
    lines = Lines()
    logging.getLogger("frontend.session").addHandler(lines)
    try:
        session.receive(ask("device/get", deviceId="nowhere"))
        await settled()
    finally:
        logging.getLogger("frontend.session").removeHandler(lines)
    assert outlet.take()[0]["code"] == 404
    assert lines.lines == []


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (
            '{"action":"device/get","requestId":"r9","deviceId":"nope"}',
            r"request=ws[0-9a-f]+\.r9 .*device/get.*: 403 Access",
        ),
        ('{"action":"nope","requestId":"r9"}', r"request=ws[0-9a-f]+\.r9 .*: 400 Illegal argument: nope"),
        ('{"action":', r'request=ws[0-9a-f]+\.1 msg="400 Malformed'),
    ],
)
async def test_a_refusal_is_logged_with_its_request(frontend: Frontend, sent: str, said: str) -> None:
    session, outlet = await frontend.client("client")
    lines, log = Lines(), logging.getLogger("frontend.session")
    log.addHandler(lines)
    log.setLevel(logging.INFO)
    try:
        await asyncio.create_task(_receive(session, sent.encode()))
        await settled()
    finally:
        log.removeHandler(lines)
        log.setLevel(logging.NOTSET)
    assert outlet.take()[0]["status"] == "error"
    (line,) = lines.lines
    assert re.search(said, line), line

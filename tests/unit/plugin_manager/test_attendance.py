"""Who sits where, told by plugin proxies."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from plugin_manager.core import attendance
from plugin_manager.core.attendance import arrange
from skep import access
from skep.access import User
from skep.metadata.plugin_sockets import Arrangement, Hall, PluginGroup, PluginSocket
from skep.metadata.rows import PLUGIN_ACTIVE, PLUGIN_CREATED, Plugin
from skep.wire.plugins import Attend, Seat, Socket

TOPIC = "plugin_topic_1"
OWNER = User(7, "x", access.CLIENT, access.ACTIVE)
LEASE = 3_000


class Room:
    """What PostgreSQL has, written to as `PluginSockets` does."""

    def __init__(self, **plugin: object) -> None:
        row = {"id": 5, "name": "n", "description": None, "topic_name": TOPIC, "filter": "*", "status": PLUGIN_CREATED}
        self.plugin: Plugin | None = Plugin(**{**row, "user_id": 7, "parameters": None, **plugin})  # type: ignore[arg-type]
        self.owner: User | None = OWNER
        self.sockets: dict[tuple[str, int], PluginSocket] = {}
        self.groups: dict[str, PluginGroup] = {}
        self.seen: dict[str, int] = {}
        self.now, self.active = 1_000_000, None

    def tell(self, run: str, *sockets: Socket, limit: int = 4) -> list[Seat]:
        self.seen[run] = self.now
        plugins = {} if self.plugin is None else {TOPIC: (self.plugin, self.owner)}
        runs = {socket.run for socket in self.sockets.values()} | {run}
        hall = Hall(
            now=self.now,
            plugins=plugins,
            sockets=list(self.sockets.values()),
            proxies={name: (self.now - self.seen[name], LEASE) for name in runs},
            groups=list(self.groups.values()),
        )
        told = Attend(run, 1, LEASE, list(sockets))
        done = arrange(hall, told, limit)
        self.write(done)
        return done.seats

    def write(self, done: Arrangement) -> None:
        for gone in done.gone:
            del self.sockets[gone.run, gone.id]
        for group in done.forgotten:
            del self.groups[group.name]
        self.groups |= {group.name: group for group in done.groups}
        for socket in done.sockets:
            self.sockets[socket.run, socket.id] = socket
        slots = [socket.slot for socket in self.sockets.values() if socket.slot is not None]
        assert len(slots) == len(set(slots))
        if done.active:
            self.active = done.active[5]
            assert self.plugin is not None
            self.plugin = replace(self.plugin, status=PLUGIN_ACTIVE if self.active else 1)

    def silent(self) -> bool:
        """Nothing is written when the same is told again."""
        before = dict(self.sockets), dict(self.groups)
        for run in {run for run, _ in self.sockets}:
            sockets = [Socket(s.id, TOPIC, s.suffix) for s in self.sockets.values() if s.run == run]
            self.tell(run, *sockets)
        return before == (self.sockets, self.groups)


def group(suffix: str) -> str:
    return f"plugin-{TOPIC}.{suffix}"


def test_the_first_socket_makes_a_plugin_active_and_the_last_one_inactive():
    room = Room()
    assert room.tell("a", Socket(1, TOPIC)) == [Seat(1, f"{TOPIC}.1")]
    assert room.active is True
    room.tell("a", Socket(1, TOPIC), Socket(2, TOPIC))
    room.tell("b", Socket(1, TOPIC))
    room.tell("a")
    assert room.active is True
    room.tell("b")
    assert room.active is False


def test_sockets_without_a_group_read_alone_and_come_back_to_their_place():
    room = Room()
    assert [s.group for s in room.tell("a", Socket(1, TOPIC, ""), Socket(2, TOPIC, ""))] == [group("-0"), group("-1")]
    assert room.silent()
    [kept, new] = room.tell("a", Socket(2, TOPIC, ""), Socket(3, TOPIC, ""))
    assert (kept.group, new.group) == (group("-1"), group("-0"))
    assert [s.group for s in room.tell("a", Socket(2, TOPIC), Socket(3, TOPIC, "x"))] == ["", group("x")]
    assert room.tell("a", Socket(2, TOPIC, ""))[0].group == group("-0")


def test_only_the_first_group_ever_begins_at_the_beginning():
    room = Room()
    assert room.tell("a", Socket(1, TOPIC, "x"))[0].earliest
    assert room.tell("a", Socket(1, TOPIC, "x"), Socket(2, TOPIC, "x"))[1].earliest
    assert not room.tell("a", Socket(1, TOPIC, "x"), Socket(3, TOPIC, ""))[1].earliest
    room.tell("a")
    assert not room.tell("a", Socket(4, TOPIC, "y"))[0].earliest
    assert room.tell("a", Socket(5, TOPIC, "x"))[0].earliest


def test_groups_that_were_there_miss_nothing_of_a_fresh_stream():
    room = Room()
    room.tell("a", Socket(1, TOPIC, "x"), Socket(2, TOPIC, "y"))
    assert room.plugin is not None
    room.plugin = replace(room.plugin, stream=2)
    seats = room.tell("a", Socket(1, TOPIC, "x"), Socket(2, TOPIC, "y"), Socket(3, TOPIC, "z"))
    assert [(s.stream, s.earliest) for s in seats] == [
        (f"{TOPIC}.2", True),
        (f"{TOPIC}.2", True),
        (f"{TOPIC}.2", False),
    ]


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"plugin": None}, attendance.MISSING),
        ({"plugin": {"enabled": False}}, attendance.DISABLED),
        ({"owner": None}, attendance.NO_OWNER),
        ({"owner": replace(OWNER, status=access.DISABLED)}, attendance.NO_OWNER),
    ],
)
def test_who_must_leave(change, refusal):
    room = Room()
    room.tell("a", Socket(1, TOPIC, ""))
    if change.get("plugin", ...) is None:
        room.plugin, room.sockets = None, {}
    elif "plugin" in change:
        room.plugin = replace(room.plugin, **change["plugin"])
    else:
        room.owner = change["owner"]
    assert room.tell("a", Socket(1, TOPIC, ""), Socket(2, TOPIC)) == [
        Seat(1, refusal=refusal),
        Seat(2, refusal=refusal),
    ]
    assert not room.sockets


@pytest.mark.parametrize("suffix", ["a b", "x" * 65, "a/b", "ä"])
def test_a_bad_group(suffix):
    assert Room().tell("a", Socket(1, TOPIC, suffix)) == [Seat(1, refusal=attendance.BAD_GROUP)]


def test_there_are_so_many_sockets_over_all_proxies():
    room = Room()
    room.tell("a", Socket(1, TOPIC), Socket(2, TOPIC, ""), limit=3)
    [third, fourth] = room.tell("b", Socket(1, TOPIC, "", since=5), Socket(2, TOPIC, "x", since=4), limit=3)
    assert (third.refusal, fourth.refusal) == (attendance.TOO_MANY, "")
    room.tell("a", Socket(2, TOPIC, ""), limit=3)
    assert room.tell("b", Socket(2, TOPIC, "x"), Socket(3, TOPIC), limit=3)[1].refusal == ""


def test_nobody_is_refused_for_a_proxy_that_may_be_dead():
    room = Room()
    room.tell("a", Socket(1, TOPIC), limit=1)
    room.now += 2_000
    assert room.tell("b", Socket(1, TOPIC, ""), limit=1) == [Seat(1)]
    room.now += 2_000
    [seat] = room.tell("b", Socket(1, TOPIC, ""), limit=1)
    assert (seat.stream, seat.group) == (f"{TOPIC}.1", group("-0"))
    assert room.active is True


def test_nobody_gets_a_place_beside_one_that_may_be_free():
    """A killed proxy's place is its plugin's again, with its position, not the next one."""
    room = Room()
    room.tell("a", Socket(1, TOPIC, ""))
    room.now += 300
    assert room.tell("b", Socket(1, TOPIC, "")) == [Seat(1, f"{TOPIC}.1")]
    room.now += 1_000
    assert room.tell("b", Socket(1, TOPIC, "")) == [Seat(1, f"{TOPIC}.1")]
    room.now += 2_000
    assert room.tell("b", Socket(1, TOPIC, ""))[0].group == group("-0")


def test_but_beside_one_that_is_taken():
    room = Room()
    room.tell("a", Socket(1, TOPIC, ""))
    room.now += 300
    room.tell("b", Socket(1, TOPIC, ""))
    room.now += 300
    room.tell("a", Socket(1, TOPIC, ""))
    assert room.tell("b", Socket(1, TOPIC, ""))[0].group == group("-1")


def test_a_lower_place_is_free_whoever_has_the_higher_ones():
    room = Room()
    room.tell("a", Socket(1, TOPIC, ""), Socket(2, TOPIC, ""))
    room.tell("a", Socket(2, TOPIC, ""))
    room.now += 500
    assert room.tell("b", Socket(1, TOPIC, ""))[0].group == group("-0")


def test_groups_are_remembered_within_bounds():
    room = Room()
    room.tell("a", Socket(1, TOPIC, "first"))
    for number in range(attendance.GROUPS + 20):
        room.now += 1
        room.tell("a", Socket(1, TOPIC, "first"), Socket(number + 2, TOPIC, f"g{number}"))
    assert len(room.groups) == attendance.GROUPS
    assert group("first") in room.groups
    assert group("g0") not in room.groups


def test_another_plugins_token_on_a_socket_moves_it():
    room = Room()
    room.tell("a", Socket(1, TOPIC, ""))
    room.tell("a", Socket(1, "plugin_topic_2", ""))
    assert not room.sockets
    assert room.active is False

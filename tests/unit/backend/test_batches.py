"""A small world around the pure part: plans are stored in the fake store, whose contents answer the next ones."""

from typing import Any

import pytest

from backend.core import batches
from backend.core.batches import Answer, Failed, Partition, Plan, Planner, Work
from backend.core.interests import Interests
from backend.core.store import LARGEST, decode_item
from skep import errors
from skep.wire.messages import COMMAND, NOTIFICATION, UPDATE, Item, Marker, Stored, UpdateCommand
from skep.wire.proxy import Delivered
from tests.unit.backend.build import LATER, NOW, command, insert, interest, notification, record, update
from tests.unit.backend.memory_store import MemoryStore


class World:
    def __init__(self, repeated_below: int = 0, state: bytes = b"", fault: Any = None) -> None:
        self.partition = Partition(0, "log", repeated_below, state)
        self.interests = Interests()
        self.store = MemoryStore()
        self.planner = Planner(self.interests, fault)
        for i, kind in enumerate((NOTIFICATION, COMMAND, UPDATE)):
            self.interests.apply(i, f"a/{kind}".encode(), interest(kind=kind), 0)

    def takeover(self, repeated_below: int) -> None:
        """The same store, another backend."""
        self.partition = Partition(0, "log", repeated_below, self.partition.state())

    async def run(self, *records: Delivered, now: int = NOW) -> Plan:
        works: list[Work] = []
        for r in records:
            work = batches.decode(self.partition, r)
            assert isinstance(work, Work)
            works.append(work)
        held = {kind: await self.store.get(kind, keys) for kind, keys in batches.wanted(works).items()}
        plan = self.planner.plan(works, held, now)
        if plan.entries:
            await self.store.put(list(plan.entries.values()))
        return plan

    async def stored(self, kind: int, made: Any) -> Item | None:
        held = await self.store.get(kind, [(made.device_id, made.id)])
        return held[made.device_id, made.id].item if held else None


def events(plan: Plan) -> list[Item]:
    return [decode_item(d.body) for d in plan.deliveries.get("events.a", [])]


def answered(answers: list[Answer]) -> list[Any]:
    return [(a.code, a.message) if a.code else a.body for a in answers]


@pytest.fixture
def world() -> World:
    return World()


async def test_a_notification_is_stored_told_and_answered(world: World) -> None:
    made = notification(device="d")
    plan = await world.run(record(insert(made), 5, time=NOW + 3))

    made.timestamp = NOW + 3
    assert await world.stored(NOTIFICATION, made) == Item(0, 5, NOTIFICATION, notification=made)
    assert events(plan) == [Item(0, 5, NOTIFICATION, notification=made)]
    assert answered(plan.answers) == [Stored(made.id, NOW + 3, NOW + 3, 0, 5)]


async def test_timestamps_of_a_device_rise_by_at_least_one(world: World) -> None:
    plan = await world.run(*(record(insert(notification(device=d)), i) for i, d in enumerate("aabb")))
    assert [i.notification.timestamp - NOW for i in events(plan) if i.notification] == [0, 1, 0, 1]


async def test_a_senders_timestamp_is_kept_and_moves_no_other(world: World) -> None:
    first, second = notification(timestamp=NOW + 10**9), notification()
    plan = await world.run(record(insert(first), 1), record(insert(second), 2))
    assert [i.notification.timestamp for i in events(plan) if i.notification] == [NOW + 10**9, NOW]


async def test_the_next_owner_gives_timestamps_above_the_last(world: World) -> None:
    await world.run(record(insert(notification(device="a")), 1, time=NOW + 50))
    world.takeover(0)
    plan = await world.run(record(insert(notification(device="b")), 2, time=NOW))
    assert events(plan)[0].notification.timestamp == NOW + 51  # type: ignore[union-attr]


async def test_a_commands_answer_waits_for_its_delivery(world: World) -> None:
    made = command()
    plan = await world.run(record(insert(made), 1))
    assert plan.answers == []
    assert answered(plan.late_answers) == [Stored(made.id, NOW, NOW, 0, 1)]
    world.interests.clear()
    plan = await world.run(record(insert(command()), 2))
    assert (len(plan.answers), plan.late_answers) == (1, [])


async def test_a_command_is_updated_in_the_same_batch(world: World) -> None:
    made = command()
    plan = await world.run(record(insert(made), 1), record(update(made), 2, time=NOW + 5))

    assert [(i.kind, i.offset) for i in events(plan)] == [(COMMAND, 1), (UPDATE, 2)]
    before, after = (i.command for i in events(plan))
    assert before is not None
    assert after is not None
    assert (before.status, before.is_updated, before.last_updated) == (None, False, NOW)
    assert (after.status, after.is_updated, after.timestamp, after.last_updated) == ("done", True, NOW, NOW + 5)
    (entry,) = plan.entries.values()
    assert (entry.item.command, entry.born) == (after, 1)


async def test_an_update_changes_only_what_it_sets(world: World) -> None:
    made = command()
    await world.run(record(insert(made), 1))
    await world.run(record(UpdateCommand("d", made.id, set_result=True, result=b"1"), 2))
    await world.run(record(UpdateCommand("d", made.id, set_status=True, status="ok"), 3))
    plan = await world.run(record(UpdateCommand("d", made.id, set_result=True, result=None), 4))

    stored = (await world.stored(COMMAND, made)).command  # type: ignore[union-attr]
    assert (stored.status, stored.result, stored.name, stored.parameters) == ("ok", None, "c", b"{}")  # type: ignore[union-attr]
    assert answered(plan.answers) == [None]


async def test_last_updated_rises_even_if_the_log_stands_still(world: World) -> None:
    made = command()
    await world.run(record(insert(made), 1))
    times = []
    for offset in (2, 3, 4):
        plan = await world.run(record(update(made), offset, time=NOW))
        times.append(events(plan)[0].command.last_updated)  # type: ignore[union-attr]
    assert times == [NOW, NOW + 1, NOW + 2]


LARGE = b'"' + b"x" * (LARGEST - 200) + b'"'


async def test_what_no_record_could_carry_is_refused(world: World) -> None:
    """Each of the two requests fits; what would be stored, and told to subscribers, does not."""
    made = command()
    made.parameters = LARGE
    await world.run(record(insert(made), 1))
    plan = await world.run(record(UpdateCommand("d", made.id, set_result=True, result=LARGE), 2))
    assert answered(plan.answers) == [(413, errors.TooLarge().text)]
    assert (plan.entries, plan.deliveries, plan.failed) == ({}, {}, [])
    stored = await world.stored(COMMAND, made)
    assert stored is not None
    assert stored.command is not None
    assert stored.command.result is None
    large = notification()
    large.parameters = LARGE + b" " * 400
    plan = await world.run(record(insert(large), 3))
    assert answered(plan.answers) == [(413, errors.TooLarge().text)]
    assert (plan.entries, plan.deliveries, plan.failed) == ({}, {}, [])


async def test_an_update_of_nothing_is_not_found(world: World) -> None:
    plan = await world.run(record(UpdateCommand("d", 77, True, "x"), 1))
    assert answered(plan.answers) == [(404, "Command with id = 77 not found")]
    assert (plan.entries, plan.deliveries) == ({}, {})


# -- deadlines ----------------------------------------------------------------------------------------------------


async def test_a_command_past_its_deadline_is_stored_expired_and_not_delivered(world: World) -> None:
    made = command()
    plan = await world.run(record(insert(made), 1), now=LATER + 1)

    assert (await world.stored(COMMAND, made)).command.status == "Expired"  # type: ignore[union-attr]
    assert plan.deliveries == {}
    assert [a.code for a in plan.answers] == [503]
    assert plan.expired == 1


async def test_a_command_past_its_lifetime_is_stored_and_not_delivered(world: World) -> None:
    made, in_time = command(), command()
    made.lifetime = in_time.lifetime = 2
    plan = await world.run(record(insert(made), 1), now=NOW + 2000)
    assert (events(plan), plan.late_answers) == ([], [])
    assert answered(plan.answers) == [Stored(made.id, NOW, NOW, 0, 1)]
    stored = await world.stored(COMMAND, made)
    assert stored is not None
    assert stored.command is not None
    assert stored.command.status is None
    assert len(events(await world.run(record(insert(in_time), 2), now=NOW + 1999))) == 1
    update_ = await world.run(record(update(made, status="done"), 3), now=NOW + 9000)
    assert [item.kind for item in events(update_)] == [UPDATE]


async def test_a_notification_past_its_deadline_is_handled_all_the_same(world: World) -> None:
    plan = await world.run(record(insert(notification()), 1), now=LATER + 1)
    assert len(events(plan)) == 1


async def test_a_command_stored_in_time_but_repeated_too_late_is_not_delivered(world: World) -> None:
    made = command()
    await world.run(record(insert(made), 1))
    world.takeover(repeated_below=2)
    plan = await world.run(record(insert(made), 1), now=LATER + 1)
    assert (plan.deliveries, plan.entries, [a.code for a in plan.answers]) == ({}, {}, [503])


# -- repetitions ----------------------------------------------------------------------------------------------------


async def test_a_repeated_record_keeps_what_is_stored_and_is_told_again(world: World) -> None:
    made = notification()
    first = await world.run(record(insert(made), 1, time=NOW))
    world.takeover(repeated_below=2)
    again = await world.run(record(insert(made), 1, time=NOW + 99))

    assert again.entries == {}
    assert events(again) == events(first)
    assert answered(again.answers) == answered(first.answers)
    later = await world.run(record(insert(notification()), 2, time=NOW))
    assert events(later)[0].notification.timestamp == NOW + 1  # type: ignore[union-attr]


async def test_a_record_that_may_be_repeated_but_was_not_stored_is_new(world: World) -> None:
    world.takeover(repeated_below=2)
    made = notification()
    plan = await world.run(record(insert(made), 1))
    assert [e.maybe for e in plan.entries.values()] == [True]
    assert await world.stored(NOTIFICATION, made) is not None


async def test_repeating_a_commands_history_ends_where_it_was(world: World) -> None:
    made = command()
    history = [
        record(insert(made), 1),
        record(update(made, "one"), 2, time=NOW + 2),
        record(update(made, "two"), 3, time=NOW + 3),
    ]
    first = [events(await world.run(r)) for r in history]
    stored = await world.stored(COMMAND, made)
    world.takeover(repeated_below=4)
    again = events(await world.run(*history))

    assert [(i.kind, i.offset, i.command.status) for i in again if i.command] == [
        (COMMAND, 1, None), (UPDATE, 2, "one"), (UPDATE, 3, "two")
    ]  # fmt: skip
    assert [again[0], again[2]] == [first[0][0], first[2][0]]
    assert await world.stored(COMMAND, made) == stored
    plan = await world.run(record(update(made, "three"), 4))
    assert events(plan)[0].command.status == "three"  # type: ignore[union-attr]


@pytest.mark.parametrize("make", [notification, command])
async def test_an_id_used_again_is_answered_with_what_is_stored(world: World, make: Any) -> None:
    made = make()
    first = await world.run(record(insert(made, repeatable=True), 1))
    again = await world.run(record(insert(made, repeatable=True), 2, time=NOW + 9))
    assert (again.entries, again.deliveries) == ({}, {})
    assert answered(again.answers) == answered(first.answers + first.late_answers)

    twice = make()
    plan = await world.run(record(insert(twice, repeatable=True), 3), record(insert(twice, repeatable=True), 4))
    assert len(events(plan)) == 1
    assert len(plan.answers + plan.late_answers) == 2


async def test_a_repeatable_record_that_was_only_stored_is_told(world: World) -> None:
    made = notification()
    await world.run(record(insert(made, repeatable=True), 1))
    world.takeover(repeated_below=2)
    assert len(events(await world.run(record(insert(made, repeatable=True), 1)))) == 1


async def test_the_same_offset_of_another_log_is_another_record(world: World) -> None:
    made = command()
    await world.run(record(insert(made), 1), record(update(made), 5))
    world.partition = Partition(0, "a new log", 9)
    plan = await world.run(record(update(made, "again"), 2))
    assert (await world.stored(COMMAND, made)).command.status == "again"  # type: ignore[union-attr]
    assert len(events(plan)) == 1


# -- markers, poison ---------------------------------------------------------------------------------------------------


async def test_a_marker_is_answered_with_its_place(world: World) -> None:
    plan = await world.run(record(Marker(3), 7))
    assert answered(plan.answers) == [(0, 7)]


async def test_a_marker_past_the_index_fails(world: World) -> None:
    plan = await world.run(record(Marker(4), 1))
    assert (plan.answers, len(plan.failed)) == ([], 1)


async def test_a_record_that_raises_is_tried_three_times_and_the_others_go_on() -> None:
    tries = []

    def fault(name: str) -> None:
        if name == "bad":
            tries.append(name)
            raise RuntimeError("on purpose")

    world = World(fault=fault)
    good, bad = notification(), notification(name="bad")
    plan = await world.run(record(insert(bad), 1), record(insert(good), 2))
    assert len(tries) == 3
    assert [(f.record.offset, f.reason, f.tries) for f in plan.failed] == [(1, "RuntimeError: on purpose", 3)]
    assert [i.offset for i in events(plan)] == [2]
    assert batches.failure(plan.failed[0]) == Answer(plan.failed[0].call, 500, "Internal server error")  # type: ignore[arg-type]


async def test_a_fault_that_passes_costs_nothing() -> None:
    faults = iter([True, True, False])

    def fault(name: str) -> None:
        if next(faults):
            raise RuntimeError("passing")

    plan = await World(fault=fault).run(record(insert(notification()), 1))
    assert (plan.failed, len(events(plan)), len(plan.answers)) == ([], 1, 1)


@pytest.mark.parametrize(
    ("payload", "asked"),
    [
        (b"", False),
        (b"\xff" * 9, False),
        (record([99, 1], 1).payload, True),
        (record([1, "not a notification"], 1).payload, True),
        (record([3, "d"], 1).payload, True),
        (record([99], 1, reply_to="").payload, False),
    ],
)
def test_what_cant_be_read_fails_and_its_caller_is_told_if_known(payload: bytes, asked: bool) -> None:
    failed = batches.decode(Partition(0, "log", 0), Delivered(1, NOW, 1, 1, b"d", payload))
    assert isinstance(failed, Failed)
    assert (batches.failure(failed) is not None) is asked


def test_only_what_may_exist_is_looked_up() -> None:
    partition = Partition(0, "log", repeated_below=2)
    first, second, third, fourth = notification(), notification(), command(), command()
    made = [insert(first), insert(second), insert(third), update(third), update(fourth), insert(notification(), True)]
    works = [batches.decode(partition, record(r, i + 1)) for i, r in enumerate(made)]
    wanted = batches.wanted([w for w in works if isinstance(w, Work)])
    assert len(wanted[NOTIFICATION]) == 2
    assert wanted[COMMAND] == [("d", fourth.id)]

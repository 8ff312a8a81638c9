from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from frontend.core import identities
from frontend.core import polls as module
from frontend.core.scope import Scope
from frontend.core.services import now
from skep import errors
from skep.access import User
from skep.wire.messages import COMMAND, NOTIFICATION, UPDATE, Item
from tests.unit.frontend.fakes import Frontend, command, message, notification, settled

ALL = Scope(NOTIFICATION)


@pytest.fixture
async def frontend() -> AsyncIterator[Frontend]:
    async with Frontend() as made:
        yield made


def poll(
    frontend: Frontend, since: int | None = None, wait: float = 10, gone: asyncio.Event | None = None
) -> asyncio.Task[list[Item]]:
    async def run() -> list[Item]:
        caller = await frontend.authenticate("client")
        return await frontend.services.polls.poll(caller, "client", ALL, since, 0, wait, gone or asyncio.Event())

    return asyncio.create_task(run())


def found(items: list[Item]) -> list[int]:
    return [message(item).id for item in items]


async def test_stored_items_answer_at_once_and_foreign_ones_do_not(frontend: Frontend) -> None:
    frontend.bus.stored = [notification(1, 11, time=2000), notification(2, 12, device="other", time=3000)]
    assert found(await poll(frontend, since=1000)) == [11]


async def test_without_waiting_there_is_one_read_and_no_interest(frontend: Frontend) -> None:
    assert await poll(frontend, since=1000, wait=0) == []
    assert await poll(frontend, wait=0) == []
    assert len(frontend.bus.calls) == 1
    assert len(frontend.interests) == 0


async def test_the_first_live_message_answers(frontend: Frontend) -> None:
    waiting = poll(frontend, since=1000)
    await settled()
    frontend.live(notification(1, 11, device="other"), notification(2, 12))
    assert found(await waiting) == [12]
    assert (len(frontend.registry), len(frontend.identities), len(frontend.services.polls)) == (0, 0, 0)


async def test_a_message_during_the_read_is_not_missed(frontend: Frontend) -> None:
    frontend.bus.silent = True
    waiting = poll(frontend, since=1000)
    await settled()
    frontend.live(notification(1, 11))
    for body, future in frontend.bus.waiting:
        frontend.bus.answer(body, future)  # read before it was stored
    assert found(await waiting) == [11]


@pytest.mark.parametrize("wait", [0, 10])
async def test_a_batch_that_is_being_stored_is_read_whole_or_not_yet(frontend: Frontend, wait: float) -> None:
    """Who gets the later message would ask for what is later still, and never see the earlier one."""
    first, second, third = (notification(i, i, time=2000 + i) for i in (11, 12, 13))
    frontend.bus.stored, frontend.bus.storing = [notification(3, 3, time=1500), second], [first]
    frontend.bus.marked = 12
    assert found(await poll(frontend, since=1000, wait=wait)) == [3, 11, 12]
    frontend.bus.stored.append(third)  # behind the marker, and perhaps not all of what goes before it
    frontend.bus.storing = [notification(14, 14, device="other", time=1600)]
    assert found(await poll(frontend, since=1000, wait=wait)) == [3, 11, 12]


async def test_a_command_that_is_updated_again_and_again_is_read(frontend: Frontend) -> None:
    frontend.bus.stored = [command(20, 5, COMMAND, time=1500, updated=2500), command(11, 6, COMMAND, time=1600)]
    frontend.bus.storing, frontend.bus.marked = [command(30, 7, COMMAND, device="other")], 12
    caller, polls = await frontend.authenticate("client"), frontend.services.polls
    assert found(await polls.poll(caller, "client", Scope(COMMAND), 1000, 0, 0, asyncio.Event())) == [5, 6]


async def test_what_is_known_to_be_stored_takes_no_marker(frontend: Frontend) -> None:
    await poll(frontend, wait=0.01)
    frontend.live(notification(12, 12, device="other"))
    frontend.bus.stored, frontend.bus.storing = [notification(11, 11, time=2000)], [notification(20, 20)]
    asked = len(frontend.bus.markers)
    assert found(await poll(frontend, since=1000, wait=0)) == [11]
    assert len(frontend.bus.markers) == asked


async def test_timeout_and_a_client_that_goes_away(frontend: Frontend) -> None:
    assert await poll(frontend, wait=0.01) == []
    gone = asyncio.Event()
    waiting = poll(frontend, gone=gone)
    await settled()
    gone.set()
    assert await waiting == []
    assert len(frontend.registry) == 0


async def test_a_revoked_user_is_told(frontend: Frontend) -> None:
    waiting = poll(frontend)
    await settled()
    del frontend.caches.users[2]
    frontend.identities.changed("user", ["2"])
    with pytest.raises(errors.Unauthorized):
        await waiting


async def test_a_gap_ends_polls(frontend: Frontend) -> None:
    waiting = poll(frontend)
    await settled()
    frontend.registry.lose()
    with pytest.raises(errors.Unavailable):
        await waiting


async def test_polls_of_a_user_are_bounded(frontend: Frontend) -> None:
    gone = asyncio.Event()
    waiting = [poll(frontend, gone=gone) for _ in range(module.MAX_PER_USER)]
    await settled()
    with pytest.raises(errors.TooManyRequests):
        await poll(frontend)
    gone.set()
    await asyncio.gather(*waiting)
    assert await poll(frontend, wait=0) == []


async def test_a_long_answer_is_cut_after_a_whole_millisecond(frontend: Frontend) -> None:
    frontend.bus.stored = [notification(i, i, time=2000 + i // 300) for i in range(1, 3000)]
    first = found(await poll(frontend, since=1000, wait=0))
    assert first == list(range(1, 1200))
    last = 2000 + first[-1] // 300
    assert found(await poll(frontend, since=last, wait=0))[0] == first[-1] + 1


async def test_an_expired_command_answers_no_poll(frontend: Frontend) -> None:
    old, fresh = (command(i, i, COMMAND, time=now() - 60_000) for i in (1, 2))
    assert old.command is not None
    old.command.lifetime = 59
    caller = await frontend.authenticate("client")
    frontend.bus.stored = [old]

    async def ask(wait: float) -> list[int]:
        polls, scope = frontend.services.polls, Scope(COMMAND)
        return found(await polls.poll(caller, "client", scope, 1000, 0, wait, asyncio.Event()))

    assert await ask(0) == []
    waiting = asyncio.create_task(ask(10))
    await settled()
    frontend.live(Item(0, 11, COMMAND, command=old.command))
    await settled()
    assert not waiting.done()
    frontend.live(Item(0, 12, COMMAND, command=fresh.command))
    assert await waiting == [2]


async def test_wait_for_update(frontend: Frontend) -> None:
    async def wait(id: int) -> object:
        caller = await frontend.authenticate("client")
        return await frontend.services.polls.wait_for_update(caller, "client", "mine", id, 10, asyncio.Event())

    assert await wait(11) is None  # there is no such command
    frontend.bus.stored = [command(1, 11, COMMAND), command(2, 12, COMMAND, updated=2000)]
    assert await wait(12) is not None
    waiting = asyncio.create_task(wait(11))
    await settled()
    frontend.live(command(3, 12, UPDATE, updated=3000))
    await settled()
    assert not waiting.done()
    update = command(4, 11, UPDATE, updated=3000)
    frontend.live(update)
    assert await waiting == update.command


async def test_other_rights_end_a_poll_and_the_same_do_not(frontend: Frontend) -> None:
    waiting = poll(frontend)
    await settled()
    frontend.caches.users[2] = User(2, "client", 1, 0, frozenset({1}))
    frontend.identities.changed("user", ["2"])
    await settled()
    assert not waiting.done()
    frontend.caches.users[2] = User(2, "client", 1, 0, frozenset())
    frontend.identities.changed("user", ["2"])
    assert await waiting == []


async def test_an_expired_token_ends_a_poll(frontend: Frontend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "RETRY", 0.01)
    frontend.identities.changed("user", [])  # wakes it up: the next look is soon
    frontend.lifetime = 20
    with pytest.raises(errors.Unauthorized, match="Token expired"):
        await poll(frontend)

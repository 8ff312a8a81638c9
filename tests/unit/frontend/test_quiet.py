"""Polls that do not wait cost no read while nothing can be new, and find all that may be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from frontend.core import quiet as module
from frontend.core.devices import DeviceBody
from frontend.core.messages import CommandChanges, NewNotification
from frontend.core.scope import Scope
from skep import errors
from skep.wire.messages import COMMAND, NOTIFICATION, UPDATE, Get, List
from tests.unit.frontend.fakes import DEVICES, Frontend, command, message, notification, settled

MINE = Scope(NOTIFICATION, "mine")
ALL = Scope(NOTIFICATION)


@pytest.fixture
async def frontend() -> AsyncIterator[Frontend]:
    async with Frontend() as made:
        yield made


async def poll(frontend: Frontend, scope: Scope = MINE, since: int = 1000, token: str = "client") -> list[int]:
    caller = await frontend.authenticate(token)
    items = await frontend.services.polls.poll(caller, token, scope, since, 0, 0, asyncio.Event())
    return [message(item).id for item in items]


def reads(frontend: Frontend) -> int:
    return sum(isinstance(body, List) for _, body, _ in frontend.bus.calls)


async def quieten(frontend: Frontend, scope: Scope = MINE, since: int = 1000) -> int:
    """Poll until it costs no read; how many there were."""
    await poll(frontend, scope, since)
    await poll(frontend, scope, since)
    await settled()
    await poll(frontend, scope, since)
    done = reads(frontend)
    assert await poll(frontend, scope, since) == []
    assert reads(frontend) == done
    return done


async def test_idle_polls_read_nothing_for_a_while(frontend: Frontend) -> None:
    done = await quieten(frontend)
    for _ in range(100):
        assert await poll(frontend) == []
        assert await poll(frontend, since=2000, token="admin") == []
    assert reads(frontend) == done
    frontend.time += module.MAX_AGE * 1.01
    await poll(frontend)
    await poll(frontend)
    assert reads(frontend) == done + 1


async def test_what_is_later_than_an_earlier_time_is_another_question(frontend: Frontend) -> None:
    done = await quieten(frontend, since=2000)
    frontend.bus.stored = [notification(1, 11, time=1500)]
    assert await poll(frontend, since=1000) == [11]
    assert reads(frontend) == done + 1
    assert await poll(frontend, since=2000) == []
    assert reads(frontend) == done + 1


async def test_a_live_message_of_the_scope_ends_it_and_others_do_not(frontend: Frontend) -> None:
    done = await quieten(frontend)
    frontend.live(notification(1, 12, device="other", time=2000))
    await poll(frontend)
    assert reads(frontend) == done
    frontend.bus.stored = [notification(2, 11, time=2000)]
    frontend.live(*frontend.bus.stored)
    assert await poll(frontend) == [11]
    assert frontend.registry.delivered == 0
    assert await poll(frontend, since=2000) == []
    done = reads(frontend)
    assert await poll(frontend, since=2000) == []
    assert reads(frontend) == done


async def test_an_acknowledgement_overtakes_its_event(frontend: Frontend) -> None:
    """The sender polls as soon as it hears of the acknowledgement."""
    caller = await frontend.authenticate("client")
    for scope in (
        MINE,
        ALL,
        Scope(NOTIFICATION, None, frozenset({1})),
        Scope(NOTIFICATION, None, None, frozenset({1})),
    ):
        await quieten(frontend, scope)
        frontend.bus.stored = [notification(1, 11, time=2000)]
        frontend.bus.silent = True
        acknowledgement = frontend.services.messages.insert_notification(caller, DEVICES["mine"], NewNotification("n"))
        frontend.bus.silent = False
        asyncio.get_running_loop().call_soon(frontend.bus.answer, *frontend.bus.waiting.pop())
        await acknowledgement
        assert await poll(frontend, scope) == [11]
        frontend.bus.stored = []


async def test_a_saved_devices_notification_is_found(frontend: Frontend) -> None:
    await quieten(frontend)
    frontend.bus.stored = [notification(1, 11, time=2000)]
    await frontend.services.devices.save(await frontend.authenticate("admin"), "mine", DeviceBody())
    assert await poll(frontend) == [11]


async def test_commands_and_updates(frontend: Frontend) -> None:
    session, _ = await frontend.client()
    for kind, text in (
        (COMMAND, b'{"action":"command/insert","deviceId":"mine","command":{"command":"c"}}'),
        (UPDATE, b'{"action":"command/update","deviceId":"mine","commandId":11,"command":{"status":"s"}}'),
    ):
        scope = Scope(kind, "mine", names=frozenset({"c"}))
        await quieten(frontend, scope)
        frontend.bus.stored = [command(1, 11, kind, time=2000, updated=2000 if kind == UPDATE else 0)]
        session.receive(text)
        await settled()
        assert await poll(frontend, scope) == [11]
        frontend.bus.stored = []


async def test_an_acknowledgement_during_the_read(frontend: Frontend) -> None:
    await quieten(frontend)
    frontend.time += 1
    await overtaken(frontend, lambda: frontend.quiet.acknowledged(NOTIFICATION, DEVICES["mine"]))


async def test_a_message_during_the_read(frontend: Frontend) -> None:
    await quieten(frontend)
    frontend.time += 1
    await overtaken(frontend, lambda: frontend.live(notification(1, 11, time=2000)))


async def overtaken(frontend: Frontend, meanwhile: object) -> None:
    """The read was answered before `meanwhile`; its outcome is good for nobody else."""
    assert callable(meanwhile)
    frontend.bus.silent = True
    waiting = asyncio.create_task(poll(frontend))
    await settled()
    meanwhile()
    await settled()
    frontend.bus.silent = False
    for body, future in frontend.bus.waiting:
        frontend.bus.answer(body, future)
    assert await waiting == []
    frontend.bus.stored = [notification(1, 11, time=2000)]
    assert await poll(frontend) == [11]


async def test_a_read_before_the_interest_is_in_effect_says_nothing(frontend: Frontend) -> None:
    frontend.bus.hold_markers = asyncio.Event()
    for _ in range(5):
        await poll(frontend)
        await settled()
    assert reads(frontend) == 5
    frontend.bus.hold_markers.set()
    await quieten(frontend)


async def test_a_read_during_which_the_interest_comes_into_effect(frontend: Frontend) -> None:
    """What was stored between the two was told to nobody."""
    frontend.bus.hold_markers = asyncio.Event()
    await poll(frontend)
    await poll(frontend)
    await overtaken(frontend, frontend.bus.hold_markers.set)


async def test_a_gap_and_a_lost_lease_end_it(frontend: Frontend) -> None:
    await quieten(frontend)
    frontend.registry.lose()
    assert len(frontend.quiet) == 0
    done = reads(frontend)
    assert await poll(frontend) == []
    assert reads(frontend) == done + 1


async def test_an_interest_that_does_not_come_into_effect(frontend: Frontend) -> None:
    frontend.bus.away = True
    for _ in range(4):
        await poll(frontend)
        await settled()
    frontend.bus.away = False
    await quieten(frontend)


async def test_rights_are_the_readers(frontend: Frontend) -> None:
    """What one may not see is there all the same: another one is not told that there is nothing."""
    frontend.bus.stored = [notification(1, 12, device="other", time=2000)]
    for _ in range(5):
        assert await poll(frontend, ALL, token="client") == []
        await settled()
    assert await poll(frontend, ALL, token="admin") == [12]
    assert reads(frontend) == 6


async def test_scopes_are_forgotten(frontend: Frontend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SCOPES", 2)
    monkeypatch.setattr(module, "SWEEP", 0.001)
    await quieten(frontend)
    for name in ("a", "b"):
        await poll(frontend, Scope(NOTIFICATION, name))
    assert len(frontend.quiet) == 2
    assert len(frontend.registry) == 0  # "mine" was used least recently
    await quieten(frontend)
    frontend.time += module.IDLE + 1
    async with asyncio.timeout(5):
        while len(frontend.quiet):  # noqa: ASYNC110 - a timer's work
            await asyncio.sleep(0.001)
    assert len(frontend.registry) == 0
    assert not frontend.quiet._places


async def test_seldom_polls_make_no_interest(frontend: Frontend) -> None:
    for _ in range(3):
        await poll(frontend)
        frontend.time += module.SOON + 0.1
    assert len(frontend.interests) == 0


async def test_an_outage_is_told(frontend: Frontend) -> None:
    await quieten(frontend)
    frontend.time += 1

    async def fail(query: List) -> object:
        raise errors.Unavailable

    frontend.services.messages.list = fail  # type: ignore[method-assign,assignment]
    with pytest.raises(errors.Unavailable):
        await poll(frontend)


# -- the wait for one command ------------------------------------------------------------------------------------------


async def wait(frontend: Frontend, id: int) -> object:
    caller = await frontend.authenticate("client")
    return await frontend.services.polls.wait_for_update(caller, "client", "mine", id, 0, asyncio.Event())


def gets(frontend: Frontend) -> int:
    return sum(isinstance(body, Get) for _, body, _ in frontend.bus.calls)


async def test_an_idle_wait_for_a_command_reads_nothing_for_a_while(frontend: Frontend) -> None:
    frontend.bus.stored = [command(1, 11, COMMAND)]
    for _ in range(3):
        assert await wait(frontend, 11) is None
        await settled()
    done = gets(frontend)
    for _ in range(100):
        assert await wait(frontend, 11) is None
    assert gets(frontend) == done
    assert await wait(frontend, 12) is None  # another one is another question
    assert gets(frontend) == done + 1
    frontend.time += module.MAX_AGE * 1.01
    assert await wait(frontend, 11) is None
    assert gets(frontend) == done + 2
    done_ = command(2, 11, COMMAND, updated=2000)
    frontend.bus.stored = [done_]
    frontend.live(command(2, 11, UPDATE, updated=2000))
    assert await wait(frontend, 11) == done_.command
    assert await wait(frontend, 12) is None
    assert gets(frontend) == done + 4


async def test_an_update_through_this_frontend_is_found_by_the_next_wait(frontend: Frontend) -> None:
    frontend.bus.stored = [command(1, 11, COMMAND)]
    for _ in range(3):
        await wait(frontend, 11)
        await settled()
    done = gets(frontend)
    frontend.bus.stored = [command(2, 11, COMMAND, updated=2000)]
    await frontend.services.messages.update_command(DEVICES["mine"], 11, CommandChanges(True, "done"))
    await settled()
    assert await wait(frontend, 11) is not None
    assert gets(frontend) == done + 1


async def test_a_lost_lease_ends_what_is_known_of_commands(frontend: Frontend) -> None:
    for _ in range(3):
        await wait(frontend, 11)
        await settled()
    done = gets(frontend)
    frontend.registry.lose()
    await wait(frontend, 11)
    assert gets(frontend) == done + 1

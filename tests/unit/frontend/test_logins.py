from __future__ import annotations

import asyncio

import pytest

from frontend.core import logins
from frontend.core.logins import Logins
from skep import errors
from tests.unit.frontend.fakes import Frontend, settled


class Writer:
    def __init__(self) -> None:
        self.written: list[list[int]] = []
        self.hold: asyncio.Event | None = None
        self.away = False

    async def __call__(self, ids: list[int]) -> None:
        self.written.append(ids)
        if self.hold is not None:
            await self.hold.wait()
        if self.away:
            raise errors.Unavailable


async def test_a_user_is_noted_once_a_minute() -> None:
    now, write = [0.0], Writer()
    notes = Logins(write, lambda: now[0])
    for now[0] in (0, 1, 59.9, 60, 61):
        await notes.note(1)
    assert write.written == [[1], [1]]
    await notes.note(2)
    assert write.written[2:] == [[2]]


async def test_all_that_wait_are_one_statement() -> None:
    write = Writer()
    write.hold = asyncio.Event()
    notes = Logins(write)
    waiting = [asyncio.create_task(notes.note(user)) for user in range(5)]
    await settled()
    assert write.written == [[0, 1, 2, 3, 4]]
    more = [asyncio.create_task(notes.note(user)) for user in (3, 7, 8)]
    await settled()
    assert len(write.written) == 1
    assert not any(task.done() for task in waiting)
    write.hold.set()
    await asyncio.gather(*waiting, *more)
    assert write.written[1:] == [[7, 8]]


async def test_a_database_that_is_away_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "PATIENCE", 0.01)
    write = Writer()
    write.hold, write.away = asyncio.Event(), True
    notes = Logins(write)
    await notes.note(1)
    write.hold.set()
    await settled()
    await notes.note(1)  # not noted: tried again
    assert write.written == [[1], [1]]
    await notes.close()


async def test_authenticate_notes_its_user() -> None:
    async with Frontend() as frontend:
        session, _ = await frontend.client("client")
        assert frontend.users.noted == [2]
        await session.authenticate("client")
        await frontend.client("client")
        assert frontend.users.noted == [2]
        for token in ("late", "nonsense"):
            with pytest.raises(errors.Unauthorized):
                await frontend.client(token)
        assert frontend.users.noted == [2]

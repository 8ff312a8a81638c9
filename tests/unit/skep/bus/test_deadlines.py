import asyncio

from skep.bus.deadlines import TICK, Deadlines


async def test_keys_come_when_due_and_not_before() -> None:
    loop = asyncio.get_running_loop()
    told: asyncio.Queue[list[int]] = asyncio.Queue()
    wheel: Deadlines[int] = Deadlines(loop, told.put_nowait)
    start = loop.time()
    wheel.add(start + 2 * TICK, 2)
    wheel.add(start, 1)
    wheel.add(start + 2 * TICK, 3)
    assert await told.get() == [1]
    assert await told.get() == [2, 3]
    assert loop.time() >= start + 2 * TICK
    wheel.add(loop.time(), 4)
    assert await told.get() == [4]
    wheel.close()

"""A connection that has ended without our having heard of it yet: the process was paused, say."""

import asyncio
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError

from skep.bus.link import Link
from skep.bus.options import Options


class Ended:
    """A socket whose peer is gone."""

    async def ping(self) -> Any:
        raise ConnectionClosedError(None, None)


@pytest.mark.parametrize("socket", [None, Ended()])
async def test_a_probe_of_an_ended_connection_lets_others_have_their_turn(socket: Any) -> None:
    link = Link("ws://x", lambda: "", 1, Options(), None)  # type: ignore[arg-type]
    link._socket = socket
    link.up = True
    heard = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(heard.set_result, None)
    for _ in range(3):
        await link.probe()
    assert heard.done()

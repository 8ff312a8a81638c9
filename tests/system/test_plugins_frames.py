"""Random frames at the plugin proxy as a process: it lives, its memory stays, the topics are what they were."""

from __future__ import annotations

import asyncio
import json
import os
import random
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.cases.plugin_frames import Frames
from tests.system.plugin_client import delete, register, shown, topics
from tests.system.suite import Suite
from tests.system.traffic import call

pytestmark = pytest.mark.system
FRAMES = int(os.environ.get("PLUGIN_FRAMES", "3000"))
BATCH = 50
GROWTH = 3 << 10
"""KiB by which the process may grow from a quarter of the way on."""


@pytest.mark.parametrize("suite", ["light"], indirect=True)
async def test_random_frames_do_no_harm(suite):
    plugin = await asyncio.to_thread(register, suite, "returnNotifications=true")
    await suite.restart("proxy-plugins", PLUGIN_RATE="0", PLUGIN_BYTE_RATE="0")
    try:
        before, pid = await topics(suite), suite.pid("proxy-plugins")
        memory = []
        for seed in range(FRAMES // BATCH):
            frames = Frames(random.Random(seed), plugin.topic, f"{plugin.topic}.1", plugin.access)
            await send(plugin.endpoint, [frames.frame() for _ in range(BATCH)], plugin.access)
            memory.append(resident(pid))
        assert suite.pid("proxy-plugins") == pid
        assert await topics(suite) == before
        async with connect(plugin.endpoint, proxy=None) as socket:
            await socket.send(json.dumps({"t": "health"}))
            assert json.loads(await socket.recv())["p"]["comm"] == "Available"
        await alone(suite)
        quarter = memory[len(memory) // 4]
        print(f"{FRAMES} frames: {quarter} KiB resident after a quarter, {memory[-1]} KiB at the end")
        assert memory[-1] - quarter < GROWTH, memory[:: len(memory) // 20]
        found = await unattended(suite, plugin.topic)
        # Nothing was written to its stream.
        assert all(part["end"] == 0 for group in found["positions"] for part in group["partitions"])
        assert "failed" not in suite.logs("proxy-plugins")
    finally:
        await suite.restart("proxy-plugins")
        delete(suite, plugin.topic)


async def send(url: str, frames: list[str | bytes], token: str) -> None:
    """On a socket of its own, which may be closed for what is in them."""
    async with connect(url, proxy=None, max_queue=None) as socket:
        with suppress(ConnectionClosed):
            await socket.send(json.dumps({"t": "plugin", "a": "authenticate", "p": {"token": token}}))
            for frame in frames:
                await socket.send(frame)
            await socket.send(json.dumps({"id": "the last", "t": "what"}))
            async with asyncio.timeout(30):
                while '"the last"' not in await socket.recv():
                    pass
    assert socket.close_code in (1000, 1007, 1008, 1009), (socket.close_code, socket.close_reason)


async def alone(suite: Suite) -> None:
    """Until the proxy knows of no socket any more."""
    async with asyncio.timeout(30):
        while True:
            report = await asyncio.to_thread(health, suite)
            if not report["sockets"]:
                assert report["authenticated"] == 0
                return
            await asyncio.sleep(0.1)


async def unattended(suite: Suite, topic: str) -> dict:
    """Until plugin_manager, too, knows of no socket of that plugin."""
    async with asyncio.timeout(10):
        while True:
            found = await asyncio.to_thread(shown, suite, topic)
            if not found["sockets"]:
                return found
            await asyncio.sleep(0.1)


def health(suite: Suite) -> dict:
    return call("GET", suite.plugins.replace("ws://", "http://") + "/health")


def resident(pid: int) -> int:
    """KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])

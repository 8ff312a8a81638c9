"""A plugin misses nothing: away, killed, and with the services under it killed; traffic through the real API."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.system.plugin_client import PluginClient, Registered, come, delete, register, shown
from tests.system.suite import Suite
from tests.system.traffic import NAME, Traffic

pytestmark = pytest.mark.system
ABSENCE = float(os.environ.get("PLUGIN_ABSENCE", "4"))
"""Seconds a plugin is away, or services under it are killed again and again."""
RATE = 200
RUNS = itertools.count()


@asynccontextmanager
async def registered(suite: Suite, query: str = f"returnNotifications=true&names={NAME}") -> AsyncIterator[Registered]:
    plugin = register(suite, query)
    try:
        yield plugin
    finally:
        delete(suite, plugin.topic)


@asynccontextmanager
async def running(*readers: list[PluginClient]) -> AsyncIterator[list[PluginClient]]:
    clients = [client for reader in readers for client in reader]
    try:
        for client in clients:
            await client.start()
        yield clients
    finally:
        for client in clients:
            await client.kill()


def flow(suite: Suite) -> Traffic:
    """Nobody but plugins listens."""
    prefix = f"plugins-{suite.engines}-{next(RUNS)}"
    return Traffic(suite.rest, suite.ws, suite.token(), prefix=prefix, rate=RATE, newcomers=0, subscribers=())


async def judged(traffic: Traffic, *readers: list[PluginClient]) -> None:
    """Everything was read by each reader, in order, and nothing again after its confirmation."""
    await traffic.stop()
    readings = await come(traffic.ledger.sent, list(readers), 60 + ABSENCE)
    for reader, reading in zip(readers, readings, strict=True):
        confirmed = sum(push.confirmed is not None for client in reader for push in client.pushes)
        print(f"group {reader[0].group}: {traffic.acks} sent, {reading.summary()}, confirmed {confirmed}")
    for reading in readings:
        assert reading.findings() == {}, reading.summary()


async def waits(suite: Suite, plugin: Registered, count: int) -> None:
    """Until so many messages wait for it: a notification is acknowledged when it is stored, a little before."""
    deadline = time.monotonic() + 10
    while (lag := (await asyncio.to_thread(shown, suite, plugin.topic))["lag"]) < count:
        assert time.monotonic() < deadline, lag
        await asyncio.sleep(0.05)


async def test_a_plugin_that_was_away_gets_everything(suite):
    """One that answers pings, one that acknowledges, and one with two sockets that share."""
    async with AsyncExitStack() as stack:
        plugins = [await stack.enter_async_context(registered(suite)) for _ in range(3)]
        pinged, acknowledging, shared = plugins
        traffic = await stack.enter_async_context(flow(suite))
        await traffic.acknowledged(100)  # before anybody has ever connected
        readers = [
            [PluginClient(pinged, [suite.plugins])],
            [PluginClient(acknowledging, [suite.plugins], "main", ack=True)],
            [PluginClient(shared, [suite.plugins], "main", ack=True) for _ in range(2)],
        ]
        clients = await stack.enter_async_context(running(*readers))
        await traffic.acknowledged(RATE * 2)
        for client in clients:
            await client.kill()
        await traffic.acknowledged(round(RATE * ABSENCE))
        for plugin in plugins:
            await waits(suite, plugin, round(RATE * ABSENCE))
        for client in clients:
            await client.start()
        await traffic.acknowledged(RATE)
        await judged(traffic, *readers)
        for client in clients:
            assert len(client.sockets) == 2


@pytest.mark.parametrize("service", ["proxy-plugins", "proxy", "plugin-manager", "backend"])
async def test_a_killed_service_loses_nothing_of_a_plugin(suite, service):
    """Two sockets share and acknowledge, one is alone and answers pings."""
    async with registered(suite) as plugin:
        alone = [PluginClient(plugin, [suite.plugins])]
        sharing = [PluginClient(plugin, [suite.plugins], "main", ack=True) for _ in range(2)]
        async with running(alone, sharing), flow(suite) as traffic:
            until = time.monotonic() + ABSENCE
            while time.monotonic() < until:
                await traffic.acknowledged(RATE)
                await suite.kill(service)
            await traffic.acknowledged(RATE)
            await judged(traffic, alone, sharing)


@pytest.mark.parametrize("ack", [False, True], ids=["pong", "ack"])
async def test_sockets_that_share_come_and_go(suite, ack):
    async with registered(suite) as plugin:
        sharing = [PluginClient(plugin, [suite.plugins], "main", ack, every=1) for _ in range(3)]
        async with running(sharing[:2]), flow(suite) as traffic:
            await traffic.acknowledged(RATE)
            for client in (sharing[0], sharing[1]):
                await client.kill()
                await traffic.acknowledged(RATE)
                await client.start()
                await share(client)
            async with running(sharing[2:]):
                await share(sharing[2])
            await traffic.acknowledged(RATE)
            await judged(traffic, sharing)


async def share(client: PluginClient) -> None:
    """Until it gets something on its newest socket."""
    await asyncio.wait_for(client.sockets[-1].pushed.wait(), 30)

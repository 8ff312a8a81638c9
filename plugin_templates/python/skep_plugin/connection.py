"""The plugin's connection: kept up with fresh tokens, and ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Awaitable
from typing import NoReturn, TypeVar

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from skep_plugin.messages import Handler
from skep_plugin.server import Credentials, Server, Token, Unavailable
from skep_plugin.session import ANSWER, Closed, Refused, Session
from skep_plugin.settings import Settings, Unusable
from skep_plugin.work import HandlerFailed, Lanes

log = logging.getLogger("plugin")

STOP = 10.0
"""Longest wait at the end for callbacks that are under way, seconds."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Between attempts to connect, seconds; doubled each time, and begun anew after a connection of LONGEST_PAUSE."""
MAX_MESSAGE = 4 << 20
T = TypeVar("T")


class Stopped(Exception):
    """`stop` was called."""


class Plugin:
    """Connects, and connects again, until `stop`. Made inside a running loop."""

    def __init__(self, handler: Handler, settings: Settings) -> None:
        self._handler = handler
        self._settings = settings
        self._stop: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def stop(self) -> None:
        """`run` finishes what is under way, confirms it, closes the connection and returns."""
        if not self._stop.done():
            self._stop.set_result(None)

    async def run(self) -> None:
        """Raises Unusable."""
        with contextlib.suppress(Stopped):
            async with httpx.AsyncClient(timeout=ANSWER) as http:
                await self._run(Server(self._settings, http))

    async def _run(self, server: Server) -> None:
        pause, credentials = FIRST_PAUSE, None
        while True:
            began = time.monotonic()
            try:
                credentials = credentials or await self._unless_stopped(server.credentials())
                await self._connect(server, credentials)
            except (Unavailable, Refused, Closed, HandlerFailed, OSError, TimeoutError, WebSocketException) as error:
                reason = str(error) or type(error).__name__
            if time.monotonic() - began > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            seconds = random.uniform(pause / 2, pause)  # noqa: S311 - so that not all come back at once
            pause = min(2 * pause, LONGEST_PAUSE)
            log.warning("%s; next attempt in %.1f s", reason, seconds)
            await self._unless_stopped(asyncio.sleep(seconds))

    async def _connect(self, server: Server, credentials: Credentials) -> NoReturn:
        """One connection, from the token to its end. Raises why it ended."""
        token = await self._unless_stopped(server.access_token(credentials))
        opening = connect(credentials.endpoint, max_size=MAX_MESSAGE, open_timeout=ANSWER)
        socket = await self._unless_stopped(opening)
        session = Session(socket, self._handler, Lanes(self._settings.parallel))
        reading = asyncio.create_task(session.read())
        try:
            await self._serve(session, reading, server, credentials, token)
        finally:
            # The next connection brings what is unconfirmed again: only after what is under way, or order is lost.
            await self._finish(session)
            await session.close()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _serve(
        self, session: Session, reading: asyncio.Task[None], server: Server, credentials: Credentials, token: Token
    ) -> NoReturn:
        await self._unless_stopped(session.open(token.text, credentials.topic, self._settings.group))
        log.info("connected to %s as %s", credentials.endpoint, credentials.topic)
        tasks = [
            asyncio.create_task(session.confirm()),
            asyncio.create_task(_keep_token(session, server, credentials, token)),
        ]
        try:
            ends = [*tasks, reading, session.lanes.failed, self._stop]
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._stop in done:
                await self._leave(session)
                raise Stopped
            for ended in done:
                ended.result()
            raise AssertionError("what ends a session ends with an exception")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _leave(self, session: Session) -> None:
        if session.acknowledges:
            await self._finish(session)
            await session.unsubscribe()
        else:
            await session.unsubscribe()
            await self._finish(session)

    async def _finish(self, session: Session) -> None:
        """Wait for the callbacks that are under way; when stopping, not longer than STOP."""
        if session.acknowledges:
            session.lanes.close()  # What has not begun comes again; elsewhere it does not, so it is done as well.
        idle = asyncio.create_task(session.lanes.idle())
        await asyncio.wait([idle, self._stop], return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait([idle], timeout=STOP)
        await session.lanes.cancel()

    async def _unless_stopped(self, work: Awaitable[T]) -> T:
        """Raises Stopped."""
        task = asyncio.ensure_future(work)
        await asyncio.wait([task, self._stop], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise Stopped
        return task.result()


async def _keep_token(session: Session, server: Server, credentials: Credentials, token: Token) -> NoReturn:
    """For ever: a fresh token at four fifths of the old one's life. Raises Unusable, Refused, Closed."""
    while True:
        await asyncio.sleep(max(2.0, 0.8 * (token.expires - time.time())))
        try:
            token = await server.access_token(credentials)
        except Unavailable as error:
            log.warning("no fresh token yet: %s", error)
            continue
        await session.authenticate(token.text)


async def _main(handler: Handler, settings: Settings) -> None:
    plugin = Plugin(handler, settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, plugin.stop)
    await handler.start()
    try:
        await plugin.run()
    finally:
        await handler.stop()


def run(handler: Handler, name: str) -> int:
    """Until SIGTERM or SIGINT. The exit code: 0 stopped, 2 it can't run with these settings."""
    logging.basicConfig(
        stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        level=os.environ.get("LOG_LEVEL", "INFO"),
    )  # fmt: skip
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        asyncio.run(_main(handler, Settings.from_environment(name)))
    except Unusable as error:
        log.error("%s", error)
        return 2
    return 0

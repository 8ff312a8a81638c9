"""One connection to one proxy: connects, greets, pings, connects again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from skep.bus.options import Options
from skep.wire import proxy

log = logging.getLogger("skep.bus")


class Owner(Protocol):
    def link_up(self, link: Link) -> None: ...

    def link_down(self, link: Link) -> None: ...

    def link_rejected(self, link: Link, reason: str) -> None:
        """The proxy doesn't take our token; tried again all the same."""

    def link_frame(self, link: Link, frame: proxy.ProxyFrame) -> None: ...


class Link:
    """Frames go out in the order of `send`, and are dropped with the connection: who needs them sends them again
    after `link_up`. `token` is asked for a fresh service token at each connect."""

    def __init__(self, url: str, token: Callable[[], str], publisher: int, options: Options, owner: Owner) -> None:
        self.url = url
        self.up = False
        self.closing = False
        self.down_since = 0.0
        self._token = token
        self._hello = proxy.encode(proxy.Hello(proxy.VERSION, publisher))
        self._options = options
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._welcome: proxy.Welcome | None = None
        self._outbox: deque[proxy.ClientFrame] = deque()
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._socket: ClientConnection | None = None
        self._heard = False
        self._proven = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<{self.url} {'up' if self.up else 'down'}>"

    @property
    def welcome(self) -> proxy.Welcome:
        """The proxy's greeting of the present connection, else of the last one."""
        assert self._welcome is not None
        return self._welcome

    def start(self) -> None:
        self.down_since = self._loop.time()
        self._task = self._loop.create_task(self._run(), name=f"bus {self.url}")

    async def stop(self) -> None:
        """Send what is queued, within `close_timeout`, and close."""
        self.closing = True
        if self.up:
            try:
                async with asyncio.timeout(self._options.close_timeout):
                    await self._empty.wait()
            except TimeoutError:
                log.warning("%s: closed with %d frames unsent", self.url, len(self._outbox))
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def send(self, frame: proxy.ClientFrame) -> None:
        if self.up:
            self._outbox.append(frame)
            self._empty.clear()
            self._wake.set()

    async def flushed(self) -> None:
        """Until what was given to `send` is the operating system's business, or the connection has ended."""
        await self._empty.wait()

    def fresh(self, seconds: float) -> bool:
        """Whether the proxy is known to have been there, with this connection, within so many seconds."""
        return self.up and self._loop.time() - self._proven <= seconds

    async def probe(self) -> None:
        """Ping and wait for the pong; every frame that came before it has been handled then. Returns also when the
        connection ends."""
        if self._socket is not None:
            with contextlib.suppress(ConnectionClosed):
                await (await self._ping(self._socket))
        # Also where the connection has ended: who asks in a loop would otherwise never let us hear of the end.
        await asyncio.sleep(0)

    async def _run(self) -> None:
        options = self._options
        delay = first = options.backoff_first
        while True:
            began = self._loop.time()
            try:
                await self._connection()
            except asyncio.CancelledError:
                raise
            except InvalidStatus as error:
                status = error.response.status_code
                log.warning("%s: refused the connection with status %d", self.url, status)
                if status in (401, 403):
                    self._owner.link_rejected(self, f"{self.url} answered {status} to our service token")
            except (OSError, WebSocketException, msgspec.MsgspecError, EOFError) as error:
                log.info("%s: %s: %s", self.url, type(error).__name__, error)
            except Exception:
                log.exception("%s: the connection failed", self.url)
            if self._loop.time() - began > options.connect_timeout + options.backoff_last:
                delay = first
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311
            delay = min(delay * 2, options.backoff_last)

    async def _connection(self) -> None:
        options = self._options
        began = self._loop.time()
        socket = await connect(
            self.url,
            subprotocols=[Subprotocol(proxy.SUBPROTOCOL)],
            additional_headers={"Authorization": f"Bearer {self._token()}"},
            compression=None,
            proxy=None,
            open_timeout=options.connect_timeout,
            close_timeout=options.close_timeout,
            ping_interval=None,
            max_size=2 * proxy.MAX_FRAME,
        )
        try:
            async with asyncio.timeout(options.connect_timeout):
                await socket.send(self._hello)
                welcome = proxy.decode_proxy(await socket.recv(decode=False))
            if not isinstance(welcome, proxy.Welcome):
                raise msgspec.ValidationError(f"a Welcome was due, not {type(welcome).__name__}")
            self._proven = began
            await self._talk(socket, welcome)
        finally:
            await socket.close()

    async def _talk(self, socket: ClientConnection, welcome: proxy.Welcome) -> None:
        self._socket, self._welcome, self.up = socket, welcome, True
        self._outbox.clear()
        self._empty.set()
        helpers = [self._loop.create_task(self._write(socket)), self._loop.create_task(self._watch(socket))]
        try:
            self._owner.link_up(self)
            while True:
                frame = proxy.decode_proxy(await socket.recv(decode=False))
                self._heard = True
                self._owner.link_frame(self, frame)
        finally:
            self._socket, self.up = None, False
            self.down_since = self._loop.time()
            self._outbox.clear()
            self._empty.set()
            for task in helpers:
                task.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            self._owner.link_down(self)

    async def _write(self, socket: ClientConnection) -> None:
        outbox = self._outbox
        while True:
            while outbox:
                await socket.send(proxy.encode(outbox.popleft()))
            self._empty.set()
            self._wake.clear()
            await self._wake.wait()

    async def _watch(self, socket: ClientConnection) -> None:
        """Cut the connection when the proxy was silent for `ping_misses` intervals. Intervals are counted, not
        time: a process that was itself paused gives the proxy another chance."""
        options, missed = self._options, 0
        while missed < options.ping_misses:
            self._heard = False
            try:
                async with asyncio.timeout(options.ping_interval):
                    await self._ping(socket)
            except TimeoutError:
                pass  # the socket is full; what matters is what comes in
            await asyncio.sleep(options.ping_interval)
            missed = 0 if self._heard else missed + 1
        log.warning("%s: silent for %d pings, connecting again", self.url, missed)
        socket.transport.abort()

    async def _ping(self, socket: ClientConnection) -> asyncio.Future[float]:
        began = self._loop.time()

        def pong(waiter: asyncio.Future[float]) -> None:
            if not waiter.cancelled() and waiter.exception() is None and self._socket is socket:
                self._heard = True
                self._proven = max(self._proven, began)

        waiter = asyncio.ensure_future(await socket.ping())
        waiter.add_done_callback(pong)
        return waiter

"""Answers `auth.requests`: the frontend's logins, refreshes and new tokens, of REST and WebSocket."""

from __future__ import annotations

import asyncio
import time

import msgspec

from auth.core.authority import Authority
from auth.core.requests import CreateRequest
from skep import bus, logs, web
from skep.errors import BadRequest, Internal, MalformedJson, SkepError
from skep.wire import messages, topics
from skep.wire.messages import AuthRequest, CreateToken, Login, Refresh, Tokens

MAX_AT_A_TIME = 500
RECORDS = 1_000
"""Calls that may wait here; the rest stays with the proxy, which spreads them over other auth processes."""

log = logs.get("auth")

_CREATE = web.Decoder(CreateRequest)


class Calls:
    """Runs from `start` to `stop`. What comes after its deadline is dropped: nobody waits for it."""

    def __init__(self, client: bus.Bus, authority: Authority, authenticate: web.Authenticator) -> None:
        self._bus, self._authority, self._authenticate = client, authority, authenticate
        self._places = asyncio.Semaphore(MAX_AT_A_TIME)
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None
        self._subscription: bus.Subscription | None = None

    @property
    def running(self) -> bool:
        return self._loop is not None and not self._loop.done()

    async def start(self) -> None:
        self._subscription = await self._bus.subscribe(topics.AUTH_REQUESTS, records=RECORDS)
        self._loop = asyncio.get_running_loop().create_task(self._take(self._subscription))

    async def stop(self) -> None:
        """No new calls; those that were taken are answered, for a second."""
        if self._subscription is not None:
            await self._subscription.close()
        if self._loop is not None:
            self._loop.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=1)
        for task in list(self._tasks):
            task.cancel()

    async def _take(self, subscription: bus.Subscription) -> None:
        while True:
            try:
                events = await subscription.next()
            except bus.Closed:
                return
            for event in events:
                if isinstance(event, bus.Records):
                    for record in event.records:
                        await self._places.acquire()
                        self._spawn(record.payload or b"")

    def _spawn(self, payload: bytes) -> None:
        task = asyncio.get_running_loop().create_task(self._handle(payload))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._places.release()

    async def _handle(self, payload: bytes) -> None:
        try:
            call = messages.decode_call(payload)
        except msgspec.MsgspecError:
            log.error("a malformed call on %s", topics.AUTH_REQUESTS)
            return
        remaining = call.deadline / 1000 - time.time()
        if remaining <= 0:
            return
        try:
            async with asyncio.timeout(remaining):
                made = await self._answer(messages.decode_auth(call.body))
        except TimeoutError:
            return
        except SkepError as error:
            self._bus.reply(call, error.status, error.text)
        except msgspec.MsgspecError:
            self._bus.reply(call, BadRequest.status, BadRequest().text)
        except Exception:
            log.exception("a call failed")
            self._bus.reply(call, Internal.status, Internal().text)
        else:
            self._bus.reply(call, body=made)

    async def _answer(self, request: AuthRequest) -> Tokens:
        if isinstance(request, Login):
            pair = await self._authority.login(request.login, request.password, request.address)
        elif isinstance(request, Refresh):
            return Tokens(await self._authority.refresh(request.refresh_token), "")
        elif isinstance(request, CreateToken):
            caller = await self._authenticate(request.access_token)
            pair = await self._authority.create(caller, _decoded(request.request))
        else:
            raise BadRequest
        return Tokens(pair.access_token, pair.refresh_token)


def _decoded(body: bytes) -> CreateRequest:
    try:
        return _CREATE.decode(body)
    except MalformedJson:
        raise BadRequest from None

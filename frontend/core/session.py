"""The WebSocket API session (reference: rest-and-websocket-api.md 5): JSON text in, replies and pushes out.

Requests are taken in the order they come. One that only asks a backend is answered later, and the next is taken
at once. One that changes what the next may mean (`authenticate`, `device/save`, …), or an insert whose device has to
be looked up first, holds up those behind it. Every request is answered.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import msgspec
from msgspec import Raw

from frontend.core.actions import table
from frontend.core.actions.table import Entry, Later, Outcome, Request, Settled, Then
from frontend.core.identities import Identity
from frontend.core.pushes import Subscription
from frontend.core.scope import of
from frontend.core.services import Services, now
from skep import errors, logs
from skep.access import Principal
from skep.tokens import EXPIRED
from skep.web import json

log = logging.getLogger("frontend.session")

POLICY, TRY_AGAIN = 1008, 1013
PLACES = ("deviceId", "networkIds", "deviceTypeIds")
MAX_ECHO = 1024
"""Longest `requestId` or unknown `action`, bytes."""
MAX_LOGGED = 200
"""Characters of an error's text that are logged: it may name what a client sent."""
MALFORMED = b'{"code":400,"status":"error","error":"Malformed Json received."}'


class Outlet(Protocol):
    """The socket, as the session sees it."""

    def send(self, payload: bytes) -> None:
        """A text message; never waits. Past its bounds the outlet closes with 1013."""

    def close(self, code: int, reason: str) -> None: ...

    def pause(self, paused: bool) -> None:
        """Stop or go on reading requests."""

    async def drained(self) -> None:
        """Returns when what was sent has left for the peer; cancelled with the session."""


class _Envelope(msgspec.Struct, rename="camel"):
    action: Raw = json.NULL
    request_id: Raw = json.NULL


_envelope = msgspec.json.Decoder(_Envelope)
_text: msgspec.json.Decoder[str] = msgspec.json.Decoder(str)
_plain = re.compile(rb'"?([A-Za-z0-9._-]{1,64})"?').fullmatch
_numbers = itertools.count(1)


class Session:
    """address: the client's. rest_url: for `server/info`. Made anonymous; `authenticate` binds a principal."""

    def __init__(self, services: Services, outlet: Outlet, address: str, rest_url: str) -> None:
        self.services = services
        self.outlet = outlet
        self.address = address
        self.rest_url = rest_url
        self.subscriptions: dict[int, Subscription] = {}
        self.subscribing: dict[asyncio.Future[int | None], str] = {}
        """Requests that are not answered yet, with the entity."""
        self.anonymous_since: float | None = asyncio.get_running_loop().time()
        self._identity: Identity | None = None
        self._expires = 0
        self._waiting: deque[bytes] = deque()
        self._held_up = False
        self._pending = 0
        self._paused = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._second = (0, 0)
        self._name = f"ws{next(_numbers):x}"
        self._requests = itertools.count(1)

    # -- who ------------------------------------------------------------------------------------------------------

    @property
    def principal(self) -> Principal | None:
        """As of now; of an expired token too."""
        return self._identity.principal if self._identity is not None else None

    @property
    def caller(self) -> Principal:
        """Raises Unauthorized, with the text for an expired token where it is one."""
        principal = self.principal
        if principal is None or principal.expires < now():
            self._count_anonymous()
            raise errors.Unauthorized(EXPIRED if 0 < self._expires < now() else None)
        return principal

    @property
    def token(self) -> str:
        return self._identity.token if self._identity is not None else ""

    async def authenticate(self, token: str) -> None:
        """Subscriptions stay. Raises Unauthorized, Unavailable."""
        identity = await self.services.identities.enter(token, self, self._ended, self._follow)
        if self._identity is not None and self._identity is not identity:
            self.services.identities.leave(self._identity, self)
        if self._closed:
            self.services.identities.leave(identity, self)
            return
        self._identity = identity
        self._expires = identity.principal.expires if identity.principal is not None else 0
        self.anonymous_since = None
        self._follow()
        await self.services.logins.note(identity.user_id)

    def _follow(self) -> None:
        """The rights are others: subscriptions that name no place are for all that is seen now."""
        principal = self.principal
        if principal is None:
            return
        for subscription in list(self.subscriptions.values()):
            asked, scope = subscription.request, subscription.scope
            if any(asked[key] is not None for key in PLACES):
                continue
            seen = of(principal, scope.kind, None, None, None, sorted(scope.names or ()))
            if seen is not None and seen != scope:  # what is not seen any more is not sent anyway
                subscription.move(seen)

    def _ended(self, revoked: bool) -> None:
        self._count_anonymous()
        if not revoked:  # nobody can tell what this caller may see any more
            self.outlet.close(TRY_AGAIN, "rights can't be read")

    def _count_anonymous(self) -> None:
        if self.anonymous_since is None:
            self.anonymous_since = asyncio.get_running_loop().time()

    def check(self) -> None:
        """Called now and then: a socket without a principal is closed after a while."""
        principal = self.principal
        if principal is not None and principal.expires < now():
            self._count_anonymous()
        since, limits = self.anonymous_since, self.services.limits
        longest = limits.anonymous if self._identity is None else limits.lapsed
        if since is not None and asyncio.get_running_loop().time() - since > longest:
            self.outlet.close(POLICY, "not authenticated")

    # -- in -------------------------------------------------------------------------------------------------------

    def receive(self, text: bytes) -> None:
        """One message: UTF-8, checked."""
        if self.anonymous_since is not None and self._floods():
            self.outlet.close(POLICY, "too many messages before authentication")
        elif self._held_up or self._pending >= self.services.limits.requests:
            self._waiting.append(text)
            self._pause(len(self._waiting) + self._pending >= self.services.limits.requests)
        else:
            self._take(text)

    def closed(self) -> None:
        """The socket is gone."""
        self._closed = True
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()
        for subscription in list(self.subscriptions.values()):
            self.drop(subscription)
        if self._identity is not None:
            self.services.identities.leave(self._identity, self)

    def _floods(self) -> bool:
        second, count = self._second
        current = int(asyncio.get_running_loop().time())
        self._second = (current, count + 1 if current == second else 1)
        return self._second[1] > self.services.limits.anonymous_messages

    def _take(self, text: bytes) -> None:
        """Never raises."""
        try:
            json.guard(text)
            request = table.decode(text)
        except errors.MalformedJson:
            self._fail_malformed()
        except msgspec.ValidationError:
            self._take_odd(text)
        except (msgspec.DecodeError, RecursionError, ValueError):
            self._fail_malformed()
        else:
            if json.has_nul(text, request):
                self._take_odd(text)
                return
            entry = table.entry_of(request)
            self._run(entry.text, bytes(request.request_id), entry, request)

    def _take_odd(self, text: bytes) -> None:
        """Something is not as the action wants it: find out what, in the order of the API's checks."""
        try:
            envelope = _envelope.decode(text)
        except (msgspec.DecodeError, RecursionError):
            self._fail_malformed()
            return
        action, request_id = bytes(envelope.action), bytes(envelope.request_id)
        name = _name(action)
        entry = table.find(name)
        self._name_in_logs(request_id)
        if entry is None:
            short = action if len(action) <= MAX_ECHO else b"null"
            self._fail(short, request_id, errors.BadRequest(f"Illegal argument: {name[:MAX_ECHO]}"))
            return
        try:
            table.permit(entry, self)
            request = entry.lenient.decode(text)
        except errors.SkepError as error:
            self._fail(action, request_id, error)
        else:
            self._run(action, request_id, entry, request)

    def _run(self, action: bytes, request_id: bytes, entry: Entry, request: Request) -> None:
        self._name_in_logs(request_id)
        try:
            if len(request_id) > MAX_ECHO:
                raise errors.BadRequest
            table.permit(entry, self)
            outcome = entry.handler(self, request)
        except errors.SkepError as error:
            self._refuse(action, request_id, error)
        except Exception:
            log.exception("%s failed", entry.name)
            self._fail(action, request_id, errors.Internal())
        else:
            self._settle(action, request_id, outcome, entry.ordered)

    def _name_in_logs(self, request_id: bytes) -> None:
        """Socket and request, by the client's id where it is a plain one: what is logged from here on belongs to it."""
        plain = _plain(request_id)
        given = plain[1].decode() if plain is not None and request_id != b"null" else f"{next(self._requests)}"
        logs.request_id.set(f"{self._name}.{given}")

    # -- out ------------------------------------------------------------------------------------------------------

    def _settle(self, action: bytes, request_id: bytes, outcome: Outcome, ordered: bool) -> None:
        if isinstance(outcome, Later):
            self._pending += 1
            outcome.future.add_done_callback(lambda done: self._answered(action, request_id, done, outcome.render))
        elif isinstance(outcome, Then):
            self._succeed(action, request_id, outcome.fields)
            self.spawn(outcome.work)
        elif isinstance(outcome, Coroutine):
            self._pending += 1
            self._held_up = self._held_up or ordered
            self.spawn(self._slow(action, request_id, outcome, ordered))
        else:
            self._succeed(action, request_id, outcome)

    async def _slow(self, action: bytes, request_id: bytes, work: Coroutine[Any, Any, Settled], ordered: bool) -> None:
        try:
            outcome = await work
        except errors.SkepError as error:
            self._refuse(action, request_id, error)
        except Exception:
            log.exception("%s failed", action.decode())
            self._fail(action, request_id, errors.Internal())
        else:
            self._settle(action, request_id, outcome, False)
        finally:
            self._pending -= 1
            if ordered:
                self._held_up = False
            self._go_on()

    def _answered(
        self, action: bytes, request_id: bytes, done: asyncio.Future[bytes], render: Callable[[bytes], Any]
    ) -> None:
        self._pending -= 1
        try:
            self._succeed(action, request_id, render(done.result()))
        except errors.SkepError as error:
            self._refuse(action, request_id, error)
        except asyncio.CancelledError:
            self._fail(action, request_id, errors.Unavailable())
        except Exception:
            log.exception("%s failed", action.decode())
            self._fail(action, request_id, errors.Internal())
        if self._waiting or self._paused:
            self._go_on()

    def _go_on(self) -> None:
        while self._waiting and not self._held_up and self._pending < self.services.limits.requests:
            self._take(self._waiting.popleft())
        if self._paused and len(self._waiting) + self._pending < self.services.limits.requests // 2:
            self._pause(False)

    def _pause(self, paused: bool) -> None:
        if paused != self._paused:
            self._paused = paused
            self.outlet.pause(paused)

    def _succeed(self, action: bytes, request_id: bytes, fields: dict[str, Any] | None) -> None:
        if self._closed:
            return
        head = b'{"action":' + action + b',"requestId":' + request_id + b',"status":"success"'
        self.outlet.send(head + b"," + json.encode(fields)[1:] if fields else head + b"}")

    def _refuse(self, action: bytes, request_id: bytes, error: errors.SkepError) -> None:
        if error.status == errors.Internal.status:
            log.error("%s failed: %s", action.decode(), error, exc_info=error.__cause__)
        self._fail(action, request_id, error)

    def _fail(self, action: bytes, request_id: bytes, error: errors.SkepError) -> None:
        if self._closed:
            return
        if len(request_id) > MAX_ECHO:
            request_id = b"null"
        # Where REST answers without a body there are five keys all the same, and clients take the text for the failure.
        said = error.text or errors.BY_STATUS.get(error.status, errors.Internal).__doc__ or ""
        if error.status != errors.Internal.status:  # a failure of our own is logged where its cause is
            log.info("%s: %d %s", action.decode()[:MAX_LOGGED], error.status, said[:MAX_LOGGED])
        text = json.encode({"code": error.status, "status": "error", "error": said})
        self.outlet.send(b'{"action":' + action + b',"requestId":' + request_id + b"," + text[1:])

    def _fail_malformed(self) -> None:
        """What can't be read has no action and no request id."""
        self._name_in_logs(b"")
        log.info("400 Malformed Json received.")
        self.outlet.send(MALFORMED)

    # -- for actions ----------------------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs until it ends or the session does."""
        if self._closed:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def drop(self, subscription: Subscription) -> None:
        """End a subscription."""
        del self.subscriptions[subscription.id]
        subscription.end()


def _name(action: bytes) -> str:
    try:
        return _text.decode(action)
    except msgspec.DecodeError:
        return action.decode()

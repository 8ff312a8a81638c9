"""Long polls: what is stored, or else the first message that comes, with no gap between the two."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator

from frontend.core import replay
from frontend.core.identities import Identities
from frontend.core.interests import Interests
from frontend.core.messages import Messages
from frontend.core.quiet import QuietScopes
from frontend.core.scope import Scope
from frontend.core.subscriptions import Holder, Registry, Watch
from skep import errors
from skep.access import Principal
from skep.tokens import EXPIRED
from skep.wire.messages import COMMAND, UPDATE, Command, Found, Item, List, Notification

MAX_PER_USER = 100
MAX_ITEMS = 1_000
"""Most items of one answer, but for those of the last one's millisecond. The caller asks again from there."""


class Fixed:
    """A holder whose rights are those of the beginning: an answer that does not wait."""

    __slots__ = ("principal",)

    def __init__(self, principal: Principal) -> None:
        self.principal: Principal | None = principal


class _Noting:
    """Reads. found: something of the scope was there, whoever may see it. loose: as in `messages.Found`."""

    def __init__(self, reads: replay.Reads, scope: Scope) -> None:
        self._reads, self._scope = reads, scope
        self.found = self.loose = False

    async def list(self, query: List) -> Found:
        found = await self._reads.list(query)
        self.loose = self.loose or found.loose
        messages = (item.notification or item.command for item in found.items)
        self.found = self.found or found.more or any(m is not None and self._scope.holds(m) for m in messages)
        return found


class _Poll(Watch):
    __slots__ = ("_id", "arrived", "items")

    def __init__(self, holder: Holder, scope: Scope, id: int | None = None) -> None:
        super().__init__(holder, scope)
        self.arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.items: list[Item] = []
        self._id = id

    def take(self, item: Item, message: Notification | Command) -> None:
        if self._id is not None and message.id != self._id:
            return
        if len(self.items) < MAX_ITEMS:
            self.items.append(item)
        if not self.arrived.done():
            self.arrived.set_result(None)

    def lost(self) -> None:
        if not self.arrived.done():
            self.arrived.set_exception(errors.Unavailable())
            self.arrived.exception()  # whoever waits gets it; one who does not wait yet reads the store first

    def ended(self, error: errors.SkepError | None) -> None:
        """None: the caller's rights have changed, and he has to ask again."""
        if self.arrived.done():
            return
        if error is None:
            self.arrived.set_result(None)
        else:
            self.arrived.set_exception(error)
            self.arrived.exception()


class Polls:
    """now: ms since the epoch."""

    def __init__(
        self,
        registry: Registry,
        interests: Interests,
        messages: Messages,
        identities: Identities,
        quiet: QuietScopes,
        now: Callable[[], int],
        per_user: int = MAX_PER_USER,
    ) -> None:
        self._registry, self._interests, self._messages, self._identities = registry, interests, messages, identities
        self._quiet, self._now = quiet, now
        self._per_user = per_user
        self._open: Counter[int] = Counter()

    def __len__(self) -> int:
        return self._open.total()

    async def poll(
        self,
        caller: Principal,
        token: str,
        scope: Scope,
        since: int | None,
        limit: int,
        wait: float,
        gone: asyncio.Event,
    ) -> list[Item]:
        """Items later than `since` (ms; None: only what comes from now on), in ascending order; [] after `wait`
        seconds, when the caller's rights change or the client has `gone`. limit: of what is stored, 0 for all.

        Raises TooManyRequests, Unauthorized when the token is revoked meanwhile, Unavailable."""
        with self._slot(caller.user_id):
            if not wait:
                return [] if since is None else await self._at_once(caller, scope, since, limit)
            async with self._watching(caller, token, scope) as watch:
                reads = _Noting(self._messages, scope)
                stored = [] if since is None else await self._stored(reads, watch.holder, scope, since, limit)
                if stored:
                    return stored
                await _first(watch.arrived, wait, gone)
                return sorted(watch.items, key=replay.time_of)

    async def wait_for_update(
        self, caller: Principal, token: str, device_id: str, command_id: int, wait: float, gone: asyncio.Event
    ) -> Command | None:
        """The command once it is updated, at once if it is already. None: it does not exist, or `wait` seconds are
        over. Raises as `poll`."""
        with self._slot(caller.user_id):
            if not wait:
                return await self._updated(device_id, command_id)
            async with self._watching(caller, token, Scope(UPDATE, device_id), command_id) as watch:
                command = await self._command(device_id, command_id)
                if command is None or command.is_updated:
                    return command
                await _first(watch.arrived, wait, gone)
                return watch.items[-1].command if watch.items else None

    async def _updated(self, device_id: str, command_id: int) -> Command | None:
        quiet = self._quiet.polled(Scope(UPDATE, device_id))
        if quiet.is_unchanged(command_id):
            return None
        reading = quiet.begin()
        command = await self._command(device_id, command_id)
        if command is not None and command.is_updated:
            return command
        if reading is not None:
            quiet.found_unchanged(command_id, reading)
        return None

    async def _command(self, device_id: str, command_id: int) -> Command | None:
        item = await self._messages.get(COMMAND, device_id, command_id)
        return None if item is None else item.command

    async def _at_once(self, caller: Principal, scope: Scope, since: int, limit: int) -> list[Item]:
        quiet = self._quiet.polled(scope)
        if quiet.covers(since):
            return []
        reads, reading = _Noting(self._messages, scope), quiet.begin()
        items = await self._stored(reads, Fixed(caller), scope, since, limit)
        if reading is not None and not reads.found:
            quiet.found_nothing(since, reading)
        return items

    async def _stored(self, reads: _Noting, holder: Holder, scope: Scope, since: int, limit: int) -> list[Item]:
        """Nothing later than what may be stored just now: who asks next for what is later than the last item would
        never get that."""
        settled = self._registry.positions()
        items = await self._read(reads, holder, scope, since, limit)
        if not reads.loose or all(_is_settled(item, settled) for item in items):
            return items
        settled |= await self._interests.passed()
        items = await self._read(reads, holder, scope, since, limit)
        end = min((replay.time_of(item) for item in items if not _is_settled(item, settled)), default=None)
        return items if end is None else [item for item in items if replay.time_of(item) < end]

    async def _read(self, reads: replay.Reads, holder: Holder, scope: Scope, since: int, limit: int) -> list[Item]:
        items: list[Item] = []
        async with contextlib.aclosing(replay.pages(reads, holder, scope, since, limit, self._now())) as pages:
            async for page in pages:
                items += page
                if len(items) > MAX_ITEMS:
                    return _cut(items)
        return items

    @contextlib.contextmanager
    def _slot(self, user_id: int) -> Iterator[None]:
        if self._open[user_id] >= self._per_user:
            raise errors.TooManyRequests
        self._open[user_id] += 1
        try:
            yield
        finally:
            self._open[user_id] -= 1
            if not self._open[user_id]:
                del self._open[user_id]

    @contextlib.asynccontextmanager
    async def _watching(
        self, caller: Principal, token: str, scope: Scope, id: int | None = None
    ) -> AsyncIterator[_Poll]:
        """A watch whose interest is in effect."""
        holder = object()

        def end(revoked: bool) -> None:
            expired = caller.expires < self._now()
            watch.ended(errors.Unauthorized(EXPIRED if expired else None) if revoked else errors.Unavailable())

        identity = await self._identities.enter(token, holder, end, lambda: watch.ended(None))
        watch = _Poll(identity, scope, id)
        self._registry.add(watch)
        try:
            claim = self._interests.acquire(scope.filters())
            try:
                if claim.effect is not None:
                    await claim.effect
                yield watch
            finally:
                self._interests.release(claim)
        finally:
            self._registry.remove(watch)
            self._identities.leave(identity, holder)


def _is_settled(item: Item, settled: dict[int, int]) -> bool:
    """Whether all that came before it on the bus is stored. settled: offsets up to which it is, by partition."""
    if item.kind == COMMAND and item.command is not None and item.command.is_updated:
        return True  # its offset is the update's: whoever updated it had read it, so its own batch was stored
    return item.offset <= settled.get(item.partition, -1)


def _cut(items: list[Item]) -> list[Item]:
    """The first MAX_ITEMS and those of the same millisecond as the last: one who asks for what is later than that
    must not miss any."""
    last = replay.time_of(items[MAX_ITEMS - 1])
    return [item for item in items if replay.time_of(item) <= last]


async def _gone(gone: asyncio.Event) -> None:
    await gone.wait()


async def _first(arrived: asyncio.Future[None], wait: float, gone: asyncio.Event) -> None:
    """Returns when a message has arrived, after `wait` seconds, or when nobody is there any more."""
    leaving = asyncio.get_running_loop().create_task(_gone(gone))
    try:
        await asyncio.wait({arrived, leaving}, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
    if arrived.done():
        arrived.result()

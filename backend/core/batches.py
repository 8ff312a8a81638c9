"""What a batch of `requests` comes to: entries to store, answers, and messages for those interested.

    works -> (wanted: keys to read) -> plan(works, what is held) -> Plan

Nothing here waits. A plan is carried out store first; where that fails, the works are planned again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import MsgspecError, Struct

from backend.core.interests import Interests
from backend.core.store import LARGEST, Entry, Held, Key, encode_item, message, retagged
from backend.core.timestamps import Timestamps
from skep import errors
from skep.wire.messages import (
    COMMAND,
    EXPIRED,
    NOTIFICATION,
    UPDATE,
    Call,
    Command,
    InsertCommand,
    InsertNotification,
    Item,
    Marker,
    Notification,
    Request,
    Stored,
    UpdateCommand,
    decode_call,
    decode_request,
)
from skep.wire.proxy import Delivered, Source

TRIES = 3
_UNAVAILABLE = errors.Unavailable().text
_FAILED = errors.Internal().text
_Slot = tuple[int, Key]
M = TypeVar("M", Notification, Command)


class Partition:
    """What is known of a partition of `requests` while it is ours.

    repeated_below: records before this offset may have been handled by somebody else. Carried from owner to owner
    in the acknowledged state: the highest timestamp given.
    """

    def __init__(self, number: int, incarnation: str, repeated_below: int, state: bytes = b"") -> None:
        self.number = number
        self.incarnation = incarnation
        self.repeated_below = repeated_below
        self.timestamps = Timestamps(int.from_bytes(state, "big"))

    def state(self) -> bytes:
        """For `Ack.state`."""
        return self.timestamps.highest.to_bytes(8, "big")


class Work(Struct):
    """A decoded record. maybe: it may have been handled before."""

    partition: Partition
    record: Delivered
    call: Call
    request: Request
    maybe: bool


class Failed(NamedTuple):
    """A record that can't be handled. call: None where not even that could be read."""

    partition: Partition
    record: Delivered
    call: Call | None
    reason: str
    tries: int


class Answer(NamedTuple):
    call: Call
    code: int = 0
    message: str = ""
    body: object = None


class Delivery(NamedTuple):
    """A message for somebody, encoded as an item."""

    kind: int
    body: bytes
    message: Notification | Command
    source: Source


class Plan:
    """entries: to store, of each key the last. answers: may go at once; late_answers: only when the deliveries are
    confirmed. deliveries: destination -> messages in order."""

    def __init__(self) -> None:
        self.entries: dict[_Slot, Entry] = {}
        self.answers: list[Answer] = []
        self.late_answers: list[Answer] = []
        self.deliveries: dict[str, list[Delivery]] = {}
        self.failed: list[Failed] = []
        self.expired = 0

    def add(self, later: Plan) -> None:
        """Take in the plan of records that come after these; both are stored."""
        self.answers += later.answers
        self.late_answers += later.late_answers
        self.failed += later.failed
        self.expired += later.expired
        for destination, found in later.deliveries.items():
            self.deliveries.setdefault(destination, []).extend(found)


def decode(partition: Partition, record: Delivered) -> Work | Failed:
    """Read one record of `requests`. What can't be read today can't be read at a second try."""
    call = None
    try:
        call = decode_call(record.payload or b"")
        request = decode_request(call.body)
    except MsgspecError as e:
        return Failed(partition, record, call, f"{type(e).__name__}: {e}", TRIES)
    return Work(partition, record, call, request, record.offset < partition.repeated_below)


def wanted(works: list[Work]) -> dict[int, list[Key]]:
    """Keys to read before planning, by kind: what is updated, and what may be stored already."""
    keys: dict[int, set[Key]] = {NOTIFICATION: set(), COMMAND: set()}
    fresh: set[Key] = set()
    for work in works:
        request = work.request
        if isinstance(request, InsertNotification):
            if work.maybe or request.repeatable:
                keys[NOTIFICATION].add((request.notification.device_id, request.notification.id))
        elif isinstance(request, InsertCommand):
            key = (request.command.device_id, request.command.id)
            (keys[COMMAND] if work.maybe or request.repeatable else fresh).add(key)
        elif isinstance(request, UpdateCommand) and (request.device_id, request.command_id) not in fresh:
            keys[COMMAND].add((request.device_id, request.command_id))
    return {kind: list(found) for kind, found in keys.items() if found}


class Planner:
    """interests: as far as applied. fault: called with each notification's name, to fail on purpose in tests."""

    def __init__(self, interests: Interests, fault: Callable[[str], None] | None = None) -> None:
        self._interests = interests
        self._fault = fault

    def plan(self, works: list[Work], held: dict[int, dict[Key, Held]], now: int) -> Plan:
        """held: what the store has of `wanted(works)`. now: ms, for the deadlines."""
        planning = _Planning(self._interests, self._fault, held, now)
        for work in works:
            for tries in range(TRIES, 0, -1):
                try:
                    planning.handle(work)
                    break
                except Exception as e:  # whatever it is, the partition goes on without this record
                    if tries == 1:
                        reason = f"{type(e).__name__}: {e}"
                        planning.plan.failed.append(Failed(work.partition, work.record, work.call, reason, TRIES))
        return planning.plan


class _Planning:
    """One batch. `_held`: what is stored, with what this batch adds; `_shown`: commands as a repeated record left
    them, where the store is further already."""

    def __init__(
        self,
        interests: Interests,
        fault: Callable[[str], None] | None,
        held: dict[int, dict[Key, Held]],
        now: int,
    ) -> None:
        self.plan = Plan()
        self._interests = interests
        self._fault = fault
        self._held: dict[_Slot, Held] = {(k, key): h for k, found in held.items() for key, h in found.items()}
        self._shown: dict[Key, Command] = {}
        self._now = now

    def handle(self, work: Work) -> None:
        try:
            self._handle(work)
        except errors.TooLarge as e:
            self.plan.answers.append(Answer(work.call, e.status, e.text))

    def _handle(self, work: Work) -> None:
        request = work.request
        if isinstance(request, InsertNotification):
            self._insert_notification(work, request)
        elif isinstance(request, InsertCommand):
            self._insert_command(work, request)
        elif isinstance(request, UpdateCommand):
            self._update(work, request)
        elif isinstance(request, Marker):
            if request.offset > self._interests.position:
                raise ValueError(f"subscriptions has no offset {request.offset}")
            self.plan.answers.append(Answer(work.call, body=(work.partition.number, work.record.offset)))

    # -- inserts ---------------------------------------------------------------------------------------------------

    def _insert_notification(self, work: Work, request: InsertNotification) -> None:
        made = request.notification
        if self._fault is not None:
            self._fault(made.name)
        slot = (NOTIFICATION, (made.device_id, made.id))
        stored = self._held.get(slot) if work.maybe or request.repeatable else None
        own = stored is not None and _wrote_first(work, stored)
        if stored is not None and request.repeatable and not own:
            self._answer(work, stored)
            return
        made = self._timed(work, made, stored if own else None)
        item = Item(work.partition.number, work.record.offset, NOTIFICATION, notification=made)
        held, body = self._kept(work, slot, item, stored if own else None)
        self._deliver(work, NOTIFICATION, body, made)
        self._answer(work, held)

    def _insert_command(self, work: Work, request: InsertCommand) -> None:
        slot = (COMMAND, (request.command.device_id, request.command.id))
        stored = self._held.get(slot) if work.maybe or request.repeatable else None
        own = stored is not None and _wrote_first(work, stored)
        if stored is not None and request.repeatable and not own:
            self._answer(work, stored)
            return
        made = self._timed(work, request.command, stored if own else None)
        made = msgspec.structs.replace(made, last_updated=made.timestamp, is_updated=False)
        late = 0 < work.call.deadline < self._now
        if late:
            made.status = EXPIRED
        item = Item(work.partition.number, work.record.offset, COMMAND, command=made)
        held, body = self._kept(work, slot, item, stored if own else None)
        if own:
            self._shown[slot[1]] = made
        if late:
            self.plan.expired += 1
            self.plan.answers.append(Answer(work.call, errors.Unavailable.status, _UNAVAILABLE))
            return
        # Who is told "done" can rely on its delivery: so, should this record be repeated past its deadline, not
        # delivering it then is right either way. Past its lifetime it is stored for those who ask for it.
        told = made.is_for_execution(self._now) and self._deliver(work, COMMAND, body, made)
        self._answer(work, held, late=told)

    def _timed(self, work: Work, made: M, stored: Held | None) -> M:
        """The message with its timestamp: what is stored, else the sender's, else a new one."""
        timestamps = work.partition.timestamps
        key = (NOTIFICATION if isinstance(made, Notification) else COMMAND, made.device_id)
        if stored is not None:
            timestamp = message(stored.item).timestamp
            if not made.timestamp:
                timestamps.seen(key, timestamp)
        elif made.timestamp:
            return made
        else:
            timestamp = timestamps.give(key, work.record.time)
        # A copy: the work may be planned again.
        return msgspec.structs.replace(made, timestamp=timestamp)

    def _kept(self, work: Work, slot: _Slot, item: Item, stored: Held | None) -> tuple[Held, bytes]:
        """Remember the item for the rest of the batch and have it stored, unless it is."""
        body = _encoded(item)
        if stored is not None:
            return stored, body
        held = Held(item, work.partition.incarnation, work.record.offset)
        self._keep(work, slot, held, body)
        return held, body

    # -- updates ---------------------------------------------------------------------------------------------------

    def _update(self, work: Work, request: UpdateCommand) -> None:
        key = (request.device_id, request.command_id)
        slot = (COMMAND, key)
        held = self._held.get(slot)
        if held is None or held.item.command is None:
            text = f"Command with id = {request.command_id} not found"
            self.plan.answers.append(Answer(work.call, errors.NotFound.status, text))
            return
        offset = work.record.offset
        behind = _same_log(work, held) and held.item.offset >= offset
        if behind and held.item.offset == offset:
            updated = held.item.command
            work.partition.timestamps.seen((UPDATE, request.device_id), updated.last_updated)
        else:
            updated = self._updated(
                work, request, self._shown.get(key, held.item.command) if behind else held.item.command
            )
        item = Item(work.partition.number, offset, COMMAND, command=updated)
        body = _encoded(item)
        if behind:
            self._shown[key] = updated
        else:
            self._keep(work, slot, Held(item, work.partition.incarnation, held.born), body)
        self._deliver(work, UPDATE, retagged(body, UPDATE), updated)
        self.plan.answers.append(Answer(work.call))

    def _updated(self, work: Work, request: UpdateCommand, old: Command) -> Command:
        above = old.last_updated if old.is_updated else 0
        return msgspec.structs.replace(
            old,
            status=request.status if request.set_status else old.status,
            result=request.result if request.set_result else old.result,
            last_updated=work.partition.timestamps.give((UPDATE, old.device_id), work.record.time, above),
            is_updated=True,
        )

    # -- outcomes ----------------------------------------------------------------------------------------------------

    def _keep(self, work: Work, slot: _Slot, held: Held, body: bytes) -> None:
        before = self.plan.entries.get(slot)
        maybe = work.maybe or (before is not None and before.maybe)
        self._held[slot] = held
        self.plan.entries[slot] = Entry(held.item, held.incarnation, held.born, body, maybe)

    def _answer(self, work: Work, held: Held, late: bool = False) -> None:
        found = message(held.item)
        updated = found.last_updated if isinstance(found, Command) else found.timestamp
        body = Stored(found.id, found.timestamp, updated, held.item.partition, held.born)
        (self.plan.late_answers if late else self.plan.answers).append(Answer(work.call, body=body))

    def _deliver(self, work: Work, kind: int, body: bytes, made: Notification | Command) -> bool:
        """Whether anybody is interested."""
        destinations = self._interests.match(kind, made.network_id, made.device_type_id, made.device_id, made.name)
        if not destinations:
            return False
        source = Source(work.partition.incarnation, work.partition.number, work.record.offset)
        delivery = Delivery(kind, body, made, source)
        deliveries = self.plan.deliveries
        for destination in destinations:
            if destination in deliveries:
                deliveries[destination].append(delivery)
            else:
                deliveries[destination] = [delivery]
        return True


def failure(failed: Failed) -> Answer | None:
    """What the caller of a record that can't be handled is told, if there is one."""
    if failed.call is None or not failed.call.reply_to:
        return None
    return Answer(failed.call, errors.Internal.status, _FAILED)


def refusal(work: Work) -> Answer:
    """What a caller is told while the store is full."""
    return Answer(work.call, errors.Unavailable.status, "Message store is full, try again")


def _encoded(item: Item) -> bytes:
    """Raises TooLarge for what no record could carry to its readers: better not taken than never delivered."""
    body = encode_item(item)
    if len(body) > LARGEST:
        raise errors.TooLarge
    return body


def _same_log(work: Work, held: Held) -> bool:
    return held.incarnation == work.partition.incarnation and held.item.partition == work.partition.number


def _wrote_first(work: Work, held: Held) -> bool:
    """Whether what is stored began with this very record."""
    return _same_log(work, held) and held.born == work.record.offset

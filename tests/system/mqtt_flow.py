"""Traffic through an MQTT broker that goes on while things are killed, and what became of it.

Three flows at a time: 50 devices insert with `dh/insert/notification/…`, 200 QoS 1 messages/s, owed from their PUBACK
on; one subscriber with a persistent session gets them, and may get one again, under the same id; and clients ask by
`dh/request`, one thing at a time and again until it is answered, owed from the answer on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as paho

from tests.system import checker
from tests.system.checker import Key, Ledger, Push, Reading, Sent, Verdict
from tests.system.mqtt import World
from tests.system.mqtt_client import Client, NotConnected

DEVICES, SENDERS, ROUND = 50, 5, 0.25
WAITING = 500
"""So many messages may not have come yet: on a slow machine it is less than 200/s, and not ever more that waits."""
FURTHER = 3
"""Rounds: more than an asker needs from one request to the next."""
ASKERS, PAUSE, PATIENCE = 5, 0.25, 3.0
"""Clients that ask; seconds between an answer and the next request, and after which it is asked again."""
NAME, ASKED = "flow", "asked"
INSERT = "notification/insert"


@dataclass
class Outcome:
    """What a run came to. verdict, reading: of the inserts; answers: of the requests."""

    verdict: Verdict
    reading: Reading
    answers: Verdict
    kills: int = 0
    again: int = 0
    rate: float = 0
    """Messages of the devices per second."""
    lost: set[Key] = field(default_factory=set)
    """Acknowledged by the broker, and not stored."""
    unseen: set[Key] = field(default_factory=set)
    """Stored, and never with the subscriber."""
    undue: set[Key] = field(default_factory=set)
    """Of both, those that no kill of the broker excuses: they had come before, or were sent to the one after; for the
    subscriber, when it was back."""

    def summary(self) -> str:
        return (
            f"{self.rate:.0f}/s: {self.verdict.summary()}; {self.reading.summary()}; answers, {self.again} asked for "
            f"again: {self.answers.summary()}; {self.kills} kills of the broker: {len(self.lost)} lost to the "
            f"platform, {len(self.unseen)} to the subscriber"
        )


class Flow:
    """Of one test. `await start()`, kill something, `await caught_up()`, …, `await judged()`, `await stop()`."""

    def __init__(self, world: World) -> None:
        self.world, self.mark = world, f"f-{uuid.uuid4().hex[:8]}"
        self.network = world.admin.new("network", name=self.mark, description="")
        self.devices = [f"{self.mark}-{n}" for n in range(DEVICES)]
        self.ledger = Ledger()
        self.pushes: list[Push] = []
        self.kills: list[tuple[float, float, float]] = []
        """Of the broker: since when something may not have come before it; itself; and when the subscriber was back."""
        self._came = 0.0
        self.sessions_lost = 0
        """Times the broker did not know the subscriber any more."""
        self._askers = [_Asker(world, f"flow-a{n}", f"{self.mark}-a{n}") for n in range(ASKERS)]
        self._under_way: list[tuple[Client, paho.MQTTMessageInfo, Sent]] = []
        self._clients: dict[int, Client] = {}
        self._numbers = dict.fromkeys(self.devices, 0)
        self._seen = dict.fromkeys(self.devices, -1)
        self._reader: Client | None = None
        self._reader_is_back = asyncio.Event()
        self._is_sending, self._began, self._excused = True, 0.0, 0
        self._sending: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._connections = 0

    async def start(self) -> None:
        body = {"name": "d", "networkId": self.network, "deviceTypeId": 1}
        places = asyncio.Semaphore(8)

        async def save(device: str) -> None:
            async with places:
                status, _ = await asyncio.to_thread(self.world.admin, "PUT", f"device/{device}", body)
                assert status == 204

        for id in (f"{self.mark}-r", *(f"flow-s{n}" for n in range(SENDERS)), *(asker.id for asker in self._askers)):
            await asyncio.to_thread(self.world.boss_account, id)
        await asyncio.gather(*map(save, [*self.devices, *(asker.device for asker in self._askers)]))
        await asyncio.to_thread(self._connect_reader)
        works = self._keep_reader(), self._watch(), *(asker.run() for asker in self._askers)
        self._sending = asyncio.create_task(self._send())
        self._tasks = [self._sending, *(asyncio.create_task(work) for work in works)]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in [*self._clients.values(), self._reader]:
            if client is not None:
                client.close()
        with contextlib.suppress(NotConnected, OSError):  # its session ends
            await asyncio.to_thread(lambda: self.world.boss(f"{self.mark}-r").close())

    async def caught_up(self) -> None:
        """Until some rounds of what is sent from now on have come, and with them all before; and each asker has an
        answer to something newer."""
        began, deadline = time.monotonic(), time.monotonic() + 60
        marks = {device: number + FURTHER for device, number in self._numbers.items()}
        answers = [asker.number for asker in self._askers]
        while behind := self._behind(marks, answers):
            assert time.monotonic() < deadline, f"{behind}\n{self.world.suite.logs('mqtt-bridge')[-4000:]}"
            self._passed_on()
            await asyncio.sleep(0.05)
        self._came = began

    async def struck(self, kill: Coroutine[Any, Any, None]) -> None:
        """While of every device and asker something is with the bridge and no further; returns when what is killed, at
        the first step, is back."""
        async with self.world.suite.paused("backend"):
            aim, deadline = self.world.packets() + FURTHER * DEVICES, time.monotonic() + 60
            while self.world.packets() < aim and self._waiting() < WAITING:
                assert time.monotonic() < deadline, "nothing comes to the bridge"
                await asyncio.sleep(0.05)
            killing = asyncio.create_task(kill)
            await asyncio.sleep(0)  # it is killed
        await killing

    async def kill_broker(self) -> None:
        """kill -9; returns when the broker and the subscriber are back."""
        killed = time.monotonic()
        self._reader_is_back.clear()
        await self.world.site.broker.kill()
        async with asyncio.timeout(60):
            await self._reader_is_back.wait()
        self.kills.append((self._came, killed, time.monotonic()))
        self._excused += self._waiting()

    async def judged(self) -> Outcome:
        """After `caught_up`, no more is sent."""
        self._is_sending, lasted = False, time.monotonic() - self._began
        await self._closing()
        await asyncio.gather(*map(self._fetch, self.devices))
        verdict = checker.judge(self.ledger)
        stored = {key for rows in self.ledger.stored.values() for key, _ in rows}
        for rows in self.ledger.stored.values():
            for key, id in rows:
                self.ledger.sent[key].id = id
        pushes = list(self.pushes)
        seen = {push.key for push in pushes}
        acked = {key for key, sent in self.ledger.sent.items() if sent.acked is not None}
        answers = Ledger()
        for asker in self._askers:
            answers.sent |= asker.sent
            answers.stored[asker.device] = await self._rows(asker.device, ASKED)
        return Outcome(
            verdict=verdict,
            reading=checker.read(self.ledger.sent, pushes),
            answers=checker.judge(answers),
            kills=len(self.kills),
            rate=len(self.ledger.sent) / lasted,
            again=sum(asker.again for asker in self._askers),
            lost=acked - stored,
            unseen=stored - seen,
            undue=(acked - stored - self._sent_around(1)) | (stored - seen - self._sent_around(2)),
        )

    async def _closing(self) -> None:
        """What is sent last comes last; so when it has come, nothing else will."""
        assert self._sending is not None
        await asyncio.gather(self._sending, *(asker.close() for asker in self._askers))
        deadline = time.monotonic() + 60
        while self._under_way:
            assert time.monotonic() < deadline, f"{len(self._under_way)} packets are not acknowledged"
            await asyncio.sleep(0.05)
        last = dict(self._numbers)
        await self._publish_for(self.devices)
        while behind := [device for device in self.devices if self._seen[device] < last[device]]:
            assert time.monotonic() < deadline, f"the last of {behind} did not come"
            await asyncio.sleep(0.05)

    async def _fetch(self, device: str) -> None:
        self.ledger.stored[device] = await self._rows(device, NAME)

    async def _rows(self, device: str, name: str) -> list[tuple[Key, int]]:
        path = f"device/{device}/notification?notification={name}&sortField=timestamp&sortOrder=ASC&take=1000"
        status, rows = await asyncio.to_thread(self.world.admin, "GET", path)
        assert status == 200
        return [(_key(row), row["id"]) for row in rows]  # type: ignore[attr-defined]

    def _behind(self, marks: dict[str, int], answers: list[int]) -> str:
        """Who has nothing newer; "" when all have."""
        slow = [device for device in self.devices if self._seen[device] < marks[device]]
        waiting = [asker.id for asker, number in zip(self._askers, answers, strict=True) if asker.number <= number]
        return f"nothing new came of {slow}, no answer to {waiting}" if slow or waiting else ""

    def _passed_on(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()

    def _sent_around(self, until: int) -> set[Key]:
        """Before kills of the broker and not come by then; until 1: the kill, 2: when the subscriber was back."""
        sent = self.ledger.sent.values()
        return {one.key for one in sent if any(kill[0] <= one.at < kill[until] for kill in self.kills)}

    # -- the devices -------------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        """Evenly, so that something is on its way whenever something is killed."""
        self._began = time.monotonic()
        while self._is_sending:
            for first in range(0, DEVICES, SENDERS):
                began = time.monotonic()
                if self._waiting() < WAITING:
                    await self._publish_for(self.devices[first : first + SENDERS])
                await asyncio.sleep(max(0.0, began + ROUND * SENDERS / DEVICES - time.monotonic()))

    def _waiting(self) -> int:
        """Messages that have not come, but for what a killed broker may have lost."""
        return sum(self._numbers.values()) - sum(self._seen.values()) - DEVICES - self._excused

    async def _publish_for(self, devices: list[str]) -> None:
        """One message of each."""
        for number, device in enumerate(devices):
            client = await self._sender(number % SENDERS)
            if client is not None:
                self._publish(client, device)

    async def _sender(self, number: int) -> Client | None:
        client = self._clients.get(number)
        if client is None or client.is_closed.is_set():
            if client is not None:
                self._clients.pop(number).close()
            with contextlib.suppress(NotConnected, OSError):
                client = await asyncio.to_thread(self.world.boss, f"flow-s{number}")
                self._clients[number] = client
                return client
            return None
        return client

    def _publish(self, client: Client, device: str) -> None:
        key = (device, self._numbers[device])
        self._numbers[device] += 1
        payload = json.dumps({"sender": device, "sequence": key[1]})
        sent = self.ledger.sent[key] = Sent(key, device, at=time.monotonic())
        info = client.publish(f"dh/insert/notification/{device}/{NAME}", payload)
        if info.rc == paho.MQTT_ERR_SUCCESS:
            self._under_way.append((client, info, sent))

    async def _watch(self) -> None:
        """What is acknowledged by now; what was under way when its connection ended will never be."""
        while True:
            waiting = []
            for client, info, sent in self._under_way:
                is_over = client.is_closed.is_set()
                if info.is_published():
                    sent.acked = time.monotonic()
                elif not is_over:
                    waiting.append((client, info, sent))
            self._under_way = waiting
            await asyncio.sleep(0.05)

    # -- the subscriber ----------------------------------------------------------------------------------------------

    def _connect_reader(self) -> None:
        """Subscribes where the broker has no session of it."""
        self._connections += 1
        number = self._connections
        client = self.world.boss(f"{self.mark}-r", clean=False, on_message=lambda m: self._pushed(number, m))
        self._reader = client
        if not client.had_session:
            self.sessions_lost += number > 1
            assert client.subscribe(f"dh/notification/{self.network}/+/+/{NAME}") == 1

    def _pushed(self, connection: int, payload: bytes) -> None:
        notification = json.loads(payload)["notification"]
        device, sequence = key = _key(notification)
        self.pushes.append(Push(key, notification["id"], time.monotonic(), connection))
        self._seen[device] = max(self._seen[device], sequence)

    async def _keep_reader(self) -> None:
        while True:
            assert self._reader is not None
            if self._reader.is_closed.is_set():
                self._reader.close()
                with contextlib.suppress(NotConnected, OSError):
                    await asyncio.to_thread(self._connect_reader)
                    self._reader_is_back.set()
            await asyncio.sleep(0.05)


class _Asker:
    """Inserts by `dh/request`. number: of the request that is under way; `sent`: of all, acknowledged by answers."""

    def __init__(self, world: World, client_id: str, device: str) -> None:
        self.world, self.id, self.device = world, client_id, device
        self.number = 0
        self.again = 0
        self.sent: dict[Key, Sent] = {}
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._client: Client | None = None
        self._is_open = True
        self._is_done = asyncio.Event()

    async def run(self) -> None:
        try:
            while self._is_open:
                await self._ask()
                self.number += 1
                await asyncio.sleep(PAUSE)
        finally:
            if self._client is not None:
                self._client.close()
            self._is_done.set()

    async def close(self) -> None:
        """When what is under way is answered."""
        self._is_open = False
        async with asyncio.timeout(60):
            await self._is_done.wait()

    async def _ask(self) -> None:
        """Again, with the same key, until it is answered with success."""
        key = self.device, self.number
        sent = self.sent[key] = Sent(key, self.device, at=time.monotonic())
        parameters = {"sender": self.device, "sequence": self.number}
        request = {
            "action": INSERT,
            "requestId": self.number,
            "deviceId": self.device,
            "idempotencyKey": f"{self.device}-{self.number}",
            "notification": {"notification": ASKED, "parameters": parameters},
        }
        tries = 0
        while sent.acked is None:
            client = await self._connected()
            if client is not None:
                tries += 1
                client.publish(f"dh/request/{self.id}", request)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PATIENCE):
                        await self._answered(client, sent)
            else:
                await asyncio.sleep(PAUSE)
        self.again += tries - 1

    async def _answered(self, client: Client, sent: Sent) -> None:
        """Returns also when the connection ends, or the answer is an error."""
        while not client.is_closed.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PAUSE):
                    answer = await self._answers.get()
                if answer["requestId"] == self.number:
                    if answer["status"] == "success":
                        sent.acked, sent.id = time.monotonic(), answer["notification"]["id"]
                    return

    async def _connected(self) -> Client | None:
        if self._client is None or self._client.is_closed.is_set():
            if self._client is not None:
                self._client.close()
                self._client = None
            with contextlib.suppress(NotConnected, OSError):
                self._client = await asyncio.to_thread(self._connect, asyncio.get_running_loop())
        return self._client

    def _connect(self, loop: asyncio.AbstractEventLoop) -> Client:
        client = self.world.boss(
            self.id, on_message=lambda m: loop.call_soon_threadsafe(self._answers.put_nowait, json.loads(m))
        )
        if client.subscribe(f"dh/response/{INSERT}@{self.id}") != 1:
            client.close()
            raise NotConnected
        return client


def _key(notification: Any) -> Key:
    return notification["parameters"]["sender"], notification["parameters"]["sequence"]


@contextlib.asynccontextmanager
async def flowing(world: World) -> AsyncIterator[Flow]:
    flow = Flow(world)
    try:
        await flow.start()
        yield flow
    finally:
        await flow.stop()


def rounds(seconds: float) -> Iterator[int]:
    """Once, and again while the seconds last."""
    ends, number = time.monotonic() + seconds, 0
    while not number or time.monotonic() < ends:
        yield number
        number += 1

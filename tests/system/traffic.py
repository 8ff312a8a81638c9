"""Numbered notifications and subscribers that come, stay and resume; fills the ledger of `checker.py`.

One process, real WebSocket and REST clients. Nothing here sleeps for a result: `settle` waits until all that is
owed has come, up to a deadline, and the checker judges what is there then.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
import urllib.request
from collections.abc import Callable

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from tests.system.checker import Ledger, Sent, Socket, Verdict, judge

NAME = "flow"
LOST = (OSError, WebSocketException, TimeoutError)


def call(method: str, url: str, body: object = None, token: str | None = None, timeout: float = 15) -> object:
    """One REST request; the decoded body. Raises urllib.error.HTTPError for 4xx and 5xx."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        text = answer.read()
    return json.loads(text) if text else None


class Refused(Exception):
    """The server answered a request with an error."""


class Session:
    """An authenticated WebSocket; replies by requestId, everything else to `on_push`."""

    def __init__(self, socket: ClientConnection, on_push: Callable[[dict], None]) -> None:
        self.socket, self.on_push = socket, on_push
        self.waiting: dict[str, Callable[[dict | None], None]] = {}
        self.numbers = itertools.count()
        self.idle = asyncio.Event()
        self.reader = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, url: str, token: str, on_push: Callable[[dict], None] = lambda _: None) -> Session:
        session = cls(await connect(url, compression=None, max_size=None, open_timeout=5), on_push)
        try:
            await session.ask({"action": "authenticate", "token": token})
        except BaseException:
            await session.close()
            raise
        return session

    async def _read(self) -> None:
        try:
            async for text in self.socket:
                message = json.loads(text)
                answer = self.waiting.pop(message.get("requestId"), None) if "requestId" in message else None
                if answer:
                    answer(message)
                    if not self.waiting:
                        self.idle.set()
                elif "subscriptionId" in message and "status" not in message:
                    self.on_push(message)
        except WebSocketException:
            pass
        finally:
            for answer in self.waiting.values():
                answer(None)
            self.waiting.clear()
            self.idle.set()

    def send(self, message: dict, answer: Callable[[dict | None], None]) -> asyncio.Task:
        """Send in order of calls; `answer` gets the reply, or None when the socket goes away first."""
        number = f"r{next(self.numbers)}"
        self.waiting[number] = answer
        self.idle.clear()
        return asyncio.ensure_future(self._send(json.dumps({**message, "requestId": number})))

    async def _send(self, text: str) -> None:
        with contextlib.suppress(WebSocketException):
            await self.socket.send(text)

    async def ask(self, message: dict, timeout: float = 10) -> dict:
        reply: asyncio.Future[dict | None] = asyncio.get_running_loop().create_future()
        self.send(message, lambda r: reply.done() or reply.set_result(r))
        async with asyncio.timeout(timeout):
            got = await reply
        if got is None:
            raise ConnectionError("socket closed")
        if got.get("status") != "success":
            raise Refused(f"{message['action']}: {got.get('code')} {got.get('error')}")
        return got

    async def close(self) -> None:
        await self.socket.close()
        await self.reader


class Traffic:
    """`rate` notifications/s over `devices`, each with resuming subscribers; `newcomers` new ones come each second.

    async with Traffic(...) as traffic:      # flows when entered
        ...faults...
        verdict = await traffic.finish()
    """

    def __init__(
        self,
        rest: str,
        ws: str,
        token: str,
        *,
        prefix: str,
        devices: int = 8,
        rate: float = 200,
        newcomers: float = 4,
        subscribers: tuple[str, ...] = ("first", "second"),
    ) -> None:
        self.rest, self.ws, self.token = rest, ws, token
        self.devices = [f"{prefix}-{n}" for n in range(devices)]
        self.rate, self.newcomers, self.subscribers = rate, newcomers, subscribers
        self.ledger = Ledger()
        self.sending = True
        self.running = True
        self.tasks: list[asyncio.Task] = []
        self.acks = 0
        self.milestones: list[tuple[int, asyncio.Event]] = []
        self.names = itertools.count()

    async def __aenter__(self) -> Traffic:
        session = await Session.open(self.ws, self.token)
        for device in self.devices:
            await session.ask({"action": "device/save", "deviceId": device, "device": {"name": device}})
        self.start = (await session.ask({"action": "server/info"}))["info"]["serverTimestamp"]
        await session.close()
        ready = []
        for device in self.devices:
            for name in self.subscribers:
                subscribed = asyncio.Event()
                ready.append(subscribed)
                self._spawn(self._subscriber(f"{name} of {device}", device, subscribed, resume=True))
        await asyncio.gather(*(asyncio.wait_for(each.wait(), 30) for each in ready))
        for number, device in enumerate(self.devices):
            self._spawn(self._sender(f"s{number}", device))
        if self.newcomers:
            self._spawn(self._newcomers())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.sending = self.running = False
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def _spawn(self, work) -> None:
        self.tasks.append(asyncio.create_task(work))

    # -- senders ---------------------------------------------------------------------------------------------------

    async def _sender(self, name: str, device: str) -> None:
        step, due = len(self.devices) / self.rate, time.monotonic()
        sequence = itertools.count()
        while self.sending:
            try:
                session = await Session.open(self.ws, self.token)
            except (*LOST, Refused):
                await asyncio.sleep(0.1)
                continue
            try:
                due = max(due, time.monotonic())
                while self.sending and not session.reader.done():
                    await self._insert(session, name, device, next(sequence))
                    due += step
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                if session.waiting:
                    await session.idle.wait()
            finally:
                await session.close()

    async def _insert(self, session: Session, name: str, device: str, sequence: int) -> None:
        key = (name, sequence)
        sent = self.ledger.sent[key] = Sent(key, device, at=time.monotonic())

        def answer(reply: dict | None) -> None:
            if reply is None:
                sent.failed = "closed"
            elif reply.get("status") == "success":
                sent.acked, sent.id = time.monotonic(), reply["notification"]["id"]
                self._count()
            else:
                sent.failed = f"{reply.get('code')} {reply.get('error')}"

        parameters = {"sender": name, "sequence": sequence}
        body = {"notification": NAME, "parameters": parameters}
        await session.send({"action": "notification/insert", "deviceId": device, "notification": body}, answer)

    def _count(self) -> None:
        self.acks += 1
        for target, reached in self.milestones:
            if self.acks >= target:
                reached.set()

    async def acknowledged(self, more: int) -> None:
        """Wait until `more` further notifications are acknowledged: the flow is back."""
        timeout = 60 + 2 * more / self.rate
        reached = asyncio.Event()
        self.milestones.append((self.acks + more, reached))
        await asyncio.wait_for(reached.wait(), timeout)

    # -- subscribers -----------------------------------------------------------------------------------------------

    async def _subscriber(self, name: str, device: str, subscribed: asyncio.Event, resume: bool) -> None:
        since = self.start if resume else None
        while self.running:
            socket = Socket(name, device, subscribed=0.0)
            last = [since]

            def push(message: dict, socket=socket, last=last) -> None:
                note = message["notification"]
                parameters = note["parameters"]
                socket.deliveries.append(((parameters["sender"], parameters["sequence"]), note["id"]))
                last[0] = max(last[0] or "", note["timestamp"])

            request = {"action": "notification/subscribe", "deviceId": device, "names": [NAME]}
            if since:
                request["timestamp"] = since
            session = None
            try:
                session = await Session.open(self.ws, self.token, push)
                await session.ask(request)
            except (*LOST, Refused):
                if session:
                    await session.close()
                if not resume:
                    return
                await asyncio.sleep(0.1)
                continue
            socket.subscribed = time.monotonic()
            self.ledger.sockets.append(socket)
            subscribed.set()
            try:
                await asyncio.wait({session.reader})
            finally:
                socket.closed = time.monotonic() if session.reader.done() else None
                await session.close()
            if not resume:
                return
            since = last[0]

    async def _newcomers(self) -> None:
        """Sockets without a timestamp: owed what is sent after their subscribe until they close."""
        for device in itertools.cycle(self.devices):
            if not self.sending:
                return
            self._spawn(self._subscriber(f"newcomer {next(self.names)}", device, asyncio.Event(), resume=False))
            await asyncio.sleep(1 / self.newcomers)

    # -- the end ---------------------------------------------------------------------------------------------------

    async def finish(self, deadline: float = 30) -> Verdict:
        """Stop sending, wait until nothing is owed any more or the deadline passed, read the store, judge."""
        await self.stop(deadline)
        for device in self.devices:
            self.ledger.stored[device] = await asyncio.to_thread(self._stored, device)
        return judge(self.ledger)

    async def stop(self, deadline: float = 30) -> None:
        """`finish` without the store, which keeps less than a long run sends."""
        self.sending = False
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            open_inserts = any(s.acked is None and s.failed is None for s in self.ledger.sent.values())
            if not open_inserts and not judge(self.ledger).not_delivered:
                break
            await asyncio.sleep(0.25)

    def _stored(self, device: str) -> list[tuple[tuple[str, int], int]]:
        rows: list[tuple[tuple[str, int], int]] = []
        start = self.start
        while True:
            query = f"notification={NAME}&sortField=timestamp&sortOrder=ASC&take=1000&start={start}"
            page = call("GET", f"{self.rest}/device/{device}/notification?{query}", token=self.token)
            if not page:
                return rows
            rows += [((n["parameters"]["sender"], n["parameters"]["sequence"]), n["id"]) for n in page]
            start = page[-1]["timestamp"]

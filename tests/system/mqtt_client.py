"""A client of an MQTT broker for tests: paho-mqtt with a thread of its own."""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

WAIT = 15.0
REFUSED = 0x80


class NotConnected(Exception):
    """CONNECT was refused, or not answered."""


class Client:
    """Connected when made. username, password: None for anonymous. will: (topic, payload).
    on_message: called with payloads in a thread of its own, instead of keeping them. ca: file with who is trusted to
    sign the broker's certificate; "": without TLS."""

    def __init__(
        self,
        port: int,
        client_id: str,
        username: str | None = None,
        password: str | None = None,
        clean: bool = True,
        will: tuple[str, str] | None = None,
        on_message: Callable[[bytes], None] | None = None,
        ca: str = "",
        websocket: bool = False,
    ) -> None:
        self.id = client_id
        self.messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.is_closed = threading.Event()
        self.had_session = False
        """Whether the broker still knew it."""
        self._granted: queue.Queue[int] = queue.Queue()
        self._connected: queue.Queue[bool] = queue.Queue()
        self.paho = client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=clean,
            transport="websockets" if websocket else "tcp",
            reconnect_on_failure=False,
        )
        if ca:
            client.tls_set(ca_certs=ca)
        if username is not None:
            client.username_pw_set(username, password)
        if will is not None:
            client.will_set(*will, qos=1)
        client.max_queued_messages_set(0)
        client.max_inflight_messages_set(1_000)
        client.on_connect = self._opened
        client.on_disconnect = self._closed
        client.on_subscribe = lambda c, u, mid, reasons, p: self._granted.put(reasons[0].value)
        client.on_message = lambda c, u, message: (
            on_message(bytes(message.payload))
            if on_message is not None
            else self.messages.put((message.topic, bytes(message.payload)))
        )
        try:
            client.connect("127.0.0.1", port)
        except OSError:
            client._reset_sockets()
            raise
        client.loop_start()
        try:
            accepted = self._connected.get(timeout=WAIT)
        except queue.Empty:
            accepted = False
        if not accepted:
            self.close()
            raise NotConnected

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.paho.disconnect()
        self.paho.loop_stop()
        self.paho._reset_sockets()  # it leaves its own to the garbage collector

    def vanish(self) -> None:
        """Without DISCONNECT, so that the will is sent."""
        sock: Any = self.paho.socket()
        sock.shutdown(socket.SHUT_RDWR)
        self.paho.loop_stop()
        self.paho._reset_sockets()

    def _opened(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        self.had_session = bool(flags.session_present)
        self._connected.put(not reason.is_failure)

    def _closed(self, *_: object) -> None:
        self.is_closed.set()
        self._connected.put(False)  # where it was not answered yet
        self._granted.put(REFUSED)

    def subscribe(self, filter_: str) -> int:
        """The code of the SUBACK: granted QoS, or REFUSED; so is a connection that the broker has closed."""
        if self.is_closed.is_set():
            return REFUSED
        self.paho.subscribe(filter_, qos=1)
        return self._granted.get(timeout=WAIT)

    def publish(self, topic: str, payload: object, retain: bool = False) -> paho.MQTTMessageInfo:
        """QoS 1; objects as JSON."""
        text = payload if isinstance(payload, str | bytes) else json.dumps(payload)
        return self.paho.publish(topic, text, qos=1, retain=retain)

    def publish_unseen(self, topic: str, payload: object, retain: bool) -> None:
        """Returns when the broker has handled it: said PUBACK, or closed the connection."""
        info = self.publish(topic, payload, retain)
        until(lambda: self.is_closed.is_set() or info.is_published(), f"no answer to a publish to {topic}")

    def message(self, timeout: float = WAIT) -> tuple[str, Any]:
        """The next one: topic, decoded payload. Raises queue.Empty."""
        topic, payload = self.messages.get(timeout=timeout)
        return topic, json.loads(payload)

    def ask(self, client_id: str, **request: object) -> dict[str, Any]:
        """A request of the API and its answer, the only message that comes."""
        self.publish(f"dh/request/{client_id}", request).wait_for_publish(WAIT)
        topic, answer = self.message()
        assert topic == f"dh/response/{request['action']}@{client_id}"
        return answer  # type: ignore[no-any-return]

    def so_far(self) -> list[tuple[str, bytes]]:
        """What has come and was not taken."""
        found = []
        while not self.messages.empty():
            found.append(self.messages.get_nowait())
        return found


def until(condition: Any, what: str, timeout: float = WAIT) -> None:
    """Wait for another thread's doing."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)

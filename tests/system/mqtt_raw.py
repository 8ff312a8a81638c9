"""MQTT 3.1.1 byte by byte, for what no decent client does. Packets are built, and read or left unread."""

from __future__ import annotations

import socket
import struct

from tests.system.mqtt_client import WAIT

CONNACK, PUBLISH, PUBACK, SUBACK = 2, 3, 4, 9


def text(value: str | bytes) -> bytes:
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("!H", len(data)) + data


def packet(first: int, body: bytes) -> bytes:
    length, left = b"", len(body)
    while True:
        left, digit = left >> 7, left & 127
        length += bytes([digit | (128 if left else 0)])
        if not left:
            return bytes([first]) + length + body


def connect(client_id: str, login: str, password: str, keepalive: int = 60, clean: bool = True) -> bytes:
    flags = 0xC0 | (2 if clean else 0)
    head = text("MQTT") + bytes([4, flags]) + struct.pack("!H", keepalive)
    return packet(0x10, head + text(client_id) + text(login) + text(password))


def subscribe(filter_: str | bytes, qos: int) -> bytes:
    return packet(0x82, b"\0\1" + text(filter_) + bytes([qos]))


def publish(topic: str | bytes, payload: bytes = b"{}", flags: int = 2) -> bytes:
    """flags: DUP 8, QoS 2 or 4, retain 1; the packet's identifier is 2."""
    return packet(0x30 | flags, text(topic) + (b"\0\2" if flags & 6 else b"") + payload)


class Raw:
    """A connection. room: bytes of its receive buffer."""

    def __init__(self, port: int, room: int = 0) -> None:
        self.socket = socket.socket()
        if room:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        self.socket.settimeout(WAIT)
        self.socket.connect(("127.0.0.1", port))

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self, size: int) -> bytes:
        """Shorter at the end."""
        found = b""
        while len(found) < size:
            try:
                part = self.socket.recv(size - len(found))
            except ConnectionResetError:
                break
            if not part:
                break
            found += part
        return found

    def answer(self) -> tuple[int, bytes]:
        """Kind and body of the next packet; (0, b"") at the end."""
        first = self.read(1)
        if not first:
            return 0, b""
        length, shift = 0, 0
        while digit := self.read(1):
            length |= (digit[0] & 127) << shift
            shift += 7
            if digit[0] < 128:
                break
        return first[0] >> 4, self.read(length)

    def ended(self) -> bool:
        """Whether the broker closes the connection, whatever comes before. Raises TimeoutError where it does not."""
        while self.answer()[0]:
            pass
        return True

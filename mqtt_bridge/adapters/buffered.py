"""paho-mqtt with buffers: by itself it asks the socket three times for each packet, and hands it each packet alone."""

from __future__ import annotations

from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode

BYTES = 1 << 16
"""Asked of the socket at a time."""


class BufferedClient(mqtt.Client):
    """For one connection. It overrides what paho 2.1 names for itself only; the lock pins it."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.__received, self.__position = b"", 0
        self.__unsent = bytearray()
        super().__init__(*arguments, **named)

    @property
    def has_unread(self) -> bool:
        """Whether there is more to read than the socket tells of."""
        return self.socket() is not None and self.__position < len(self.__received)

    def want_write(self) -> bool:
        return super().want_write() or bool(self.__unsent)

    def _sock_recv(self, bufsize: int) -> bytes:
        if self.__position == len(self.__received):
            self.__received, self.__position = super()._sock_recv(BYTES), 0
        start = self.__position
        found = self.__received[start : start + bufsize]
        self.__position += len(found)
        return found

    def _sock_send(self, buf: bytes | bytearray) -> int:
        """Always whole packets. After a DISCONNECT paho closes the socket."""
        if buf[0] == mqtt.DISCONNECT:
            self._flush()
            if self.__unsent:
                raise BlockingIOError
            return super()._sock_send(buf)
        self.__unsent += buf
        return len(buf)

    def _packet_write(self) -> MQTTErrorCode:
        result = super()._packet_write()
        try:
            self._flush()
        except OSError:
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        return result

    def _flush(self) -> None:
        """As far as the socket takes it now."""
        while self.__unsent:
            try:
                sent = super()._sock_send(self.__unsent)
            except BlockingIOError:
                return
            del self.__unsent[:sent]

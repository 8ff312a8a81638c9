"""Frames that nobody in his right mind sends to the plugin proxy.

Made from a `random.Random`, whose seed hypothesis draws: to draw 20,000 of them member by member would take minutes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

LOOK_ALIKES = str.maketrans({"p": "р", "o": "о", "e": "е", "c": "с", "a": "а", "i": "і", "t": "ｔ"})
"""Letters of other scripts."""
DEEP = 2_000
HUGE = [2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**400, 1e308, -0.0, float("inf"), float("nan")]
CHARACTERS = [
    "a",
    "\0",
    "\n",
    '"',
    "\\",
    "/",
    "{",
    "[",
    "ü",
    "\u2028",
    "\ud800",
    "\udfff",
    "\U0001f4a9",
    "\x7f",
    "\ufeff",
]
KINDS = ["topic", "notif", "health", "plugin", "ack"]
ACTIONS = ["create", "list", "subscribe", "unsubscribe", "authenticate", "delete"]
SHAPELESS = ["[" * DEEP, '{"t":' * DEEP, "[]", "{}", '""', "0", "nul", '{"t":"health","t":"topic"}', "\ufeff{}", ""]


class Frames:
    """own: the plugin's topic, stream: the bus's behind it, token: a good one of the plugin."""

    def __init__(self, dice: random.Random, own: str, stream: str, token: str) -> None:
        self._dice = dice
        self._own = own
        self._token = token
        self._topics = [
            "requests", "subscriptions", "metadata-changes", "dead-letters", "mqtt.out", "queries", "auth.requests",
            "plugin.requests", "__consumer_offsets", "replies.frontend-1.x", "events.frontend-1.x", "*", "",
            "plugin_topic_", "plugin_topic_00000000-0000-0000-0000-000000000000", stream, f"{own}.2", f"{own}\n",
            f" {own}", f"{own}\0", own.upper(), own[:-1], own.translate(LOOK_ALIKES), f"{own}/../requests",
            f"plugin-{own}.-0",
        ]  # fmt: skip
        self._groups = ["main", "backend", "-0", "x" * 65, "a/b", "../x", f"plugin-{own}.main", "ｍain", None]

    def frame(self) -> str | bytes:
        pick = self._dice.randrange(12)
        if pick < 6:
            return json.dumps(self._message())
        if pick < 8:
            return json.dumps([self._one_of(self._message, self._value) for _ in range(self._dice.randrange(12))])
        if pick < 10:
            return self._spoiled(json.dumps(self._message()))
        if pick == 10:
            return self._dice.randbytes(self._dice.randrange(40))
        many = "[" + ",".join(["1"] * self._dice.randrange(990, 1_100)) + "]"
        return self._dice.choice([*SHAPELESS, _sendable(self._text()), many])

    def _one_of(self, *makers: Callable[[], Any]) -> Any:
        return self._dice.choice(makers)()

    def _text(self) -> str:
        return "".join(self._dice.choices(CHARACTERS, k=self._dice.randrange(12)))

    def _value(self, depth: int = 3) -> Any:
        """JSON of any shape."""
        pick = self._dice.randrange(8 if depth else 6)
        if pick == 6:
            return [self._value(depth - 1) for _ in range(self._dice.randrange(4))]
        if pick == 7:
            return {self._text(): self._value(depth - 1) for _ in range(self._dice.randrange(4))}
        return [None, True, self._dice.randrange(-5, 100), self._dice.choice(HUGE), self._dice.random(), self._text()][
            pick
        ]

    def _message(self) -> dict[str, Any]:
        """A request that has sense, or one of which this or that is spoiled."""
        kind, action, payload = self._sensible()
        for key in list(payload):
            payload[key] = self._perhaps(payload[key])
        message = {"id": 1, "t": kind, "a": action, "p": payload}
        if self._dice.random() < 0.3:
            spoiled = self._dice.choice(["id", "t", "a", "p", "extra"])
            name = str(message.get(spoiled))
            message[spoiled] = self._dice.choice(
                [self._value(), name.upper(), name.translate(LOOK_ALIKES), "x" * 1_025]
            )
        return message if self._dice.random() < 0.9 else {k: v for k, v in message.items() if self._dice.random() < 0.8}

    def _sensible(self) -> tuple[str, str | None, dict[str, Any]]:
        """What a tool may say, with topics of all kinds."""
        one = self._dice.choice([self._own, self._topic()])
        topics = self._dice.choice([[self._own], [self._own], [one], [self._own, one], []])
        group = {"sg": self._dice.choice(self._groups), "ack": self._dice.choice([True, False])}
        place = {"t": one, "part": self._dice.choice([0, 1, -1, *HUGE]), "off": self._dice.choice([0, 9, -1, *HUGE])}
        return self._dice.choice(
            [
                ("topic", "subscribe", {"t": topics} | group),
                ("topic", "subscribe", {"t": topics}),
                ("topic", self._dice.choice(ACTIONS), {"t": topics}),
                ("notif", self._dice.choice(ACTIONS), {"t": one, "m": "{}"}),
                ("notif", "create", {"t": one, "m": self._text(), "part": 0}),
                ("ack", None, place),
                ("health", None, {}),
                ("plugin", "authenticate", {"token": self._dice.choice([self._token, self._token[:-2], ""])}),
            ]
        )

    def _perhaps(self, right: Any) -> Any:
        return self._value() if self._dice.random() < 0.1 else right

    def _topic(self) -> str:
        return self._dice.choice(self._topics)

    def _spoiled(self, text: str) -> str:
        """A piece is cut out, doubled or replaced."""
        start = self._dice.randrange(len(text))
        end = min(len(text), start + self._dice.randrange(20))
        piece = self._dice.choice(["", text[start:end] * 2, self._text(), "\\ud800", "\\u00"])
        return _sendable(text[:start] + piece + text[end:])


def _sendable(text: str) -> str:
    """A text frame is UTF-8; what has no place there can come as an escape only."""
    return text.encode("utf-8", "replace").decode()

"""Wire cases of tokens: payloads, headers, and what becomes of them. Shared by unit, system and fuzz tests.

Times are for `NOW`; a system test puts its own clock in with `at`.
"""

import base64
import hmac
import json
from typing import Any

NOW = 1_750_000_000_000
LATER = NOW + 60_000
KEY = b"0123456789abcdef0123456789abcdef"

ACTIONS = [
    "*", "None", "GetNetwork", "GetDevice", "GetDeviceNotification", "GetDeviceCommand", "RegisterDevice",
    "CreateDeviceCommand", "UpdateDeviceCommand", "CreateDeviceNotification", "GetCurrentUser",
    "UpdateCurrentUser", "ManageUser", "ManageConfiguration", "ManageNetwork", "ManageToken", "ManagePlugin",
    "GetDeviceType", "ManageDeviceType",
]  # fmt: skip
"""Names by id (reference 2.4)."""

USER: dict[str, Any] = {"u": 1, "a": [2, 3], "n": ["1"], "dt": ["*"], "e": LATER, "t": 1}
PLUGIN: dict[str, Any] = {"tpc": "plugin_topic_x", "a": [16], "e": LATER, "t": 1}


def without(name: str) -> dict[str, Any]:
    return {k: v for k, v in USER.items() if k != name}


def at(payload: dict[str, Any], later: int) -> dict[str, Any]:
    return {**payload, "e": later} if payload.get("e") == LATER else payload


GOOD: dict[str, dict[str, Any]] = {
    "user": USER,
    "plugin": PLUGIN,
    "refresh": {**USER, "t": 0},
    "no networks": {**USER, "n": None},
    "networks absent": without("n"),
    "no device types": {**USER, "dt": None},
    "no actions": {**USER, "a": None},
    "all actions": {**USER, "a": [0]},
    "empty lists": {**USER, "a": [], "n": [], "dt": []},
    "unknown fields": {**USER, "d": ["x"], "exp": 1},
    "just now": {**USER, "e": NOW},
}

BAD: dict[str, Any] = {
    "no payload": None,
    "payload a list": [USER],
    "payload text": "x",
    "neither user nor topic": without("u"),
    "both user and topic": {**USER, "tpc": "plugin_topic_x"},
    "user null": {**USER, "u": None},
    "user text": {**USER, "u": "1"},
    "user bool": {**USER, "u": True},
    "user float": {**USER, "u": 1.0},
    "user 0": {**USER, "u": 0},
    "user negative": {**USER, "u": -1},
    "user huge": {**USER, "u": 2**63},
    "topic empty": {**PLUGIN, "tpc": ""},
    "topic number": {**PLUGIN, "tpc": 5},
    "no expiry": without("e"),
    "expiry only as exp": {**without("e"), "exp": LATER},
    "expiry null": {**USER, "e": None},
    "expiry text": {**USER, "e": str(LATER)},
    "expiry bool": {**USER, "e": True},
    "expiry float": {**USER, "e": float(LATER)},
    "expiry 1e300": {**USER, "e": 1e300},
    "expiry infinite": {**USER, "e": float("inf")},
    "expiry NaN": {**USER, "e": float("nan")},
    "expiry huge": {**USER, "e": 10**40},
    "expiry negative": {**USER, "e": -LATER},
    "expiry 0": {**USER, "e": 0},
    "expiry a list": {**USER, "e": [LATER]},
    "no type": without("t"),
    "type null": {**USER, "t": None},
    "type bool": {**USER, "t": True},
    "type text": {**USER, "t": "1"},
    "type 2": {**USER, "t": 2},
    "type float": {**USER, "t": 1.0},
    "actions text": {**USER, "a": "*"},
    "actions object": {**USER, "a": {"0": 0}},
    "action text": {**USER, "a": ["0"]},
    "action bool": {**USER, "a": [False]},
    "action float": {**USER, "a": [2.0]},
    "action -1": {**USER, "a": [-1]},
    "action 19": {**USER, "a": [19]},
    "action null": {**USER, "a": [None]},
    "networks text": {**USER, "n": "*"},
    "network number": {**USER, "n": [1]},
    "network **": {**USER, "n": ["**"]},
    "network * among ids": {**USER, "n": ["1", "*"]},
    "network -1": {**USER, "n": ["-1"]},
    "network empty": {**USER, "n": [""]},
    "network space": {**USER, "n": [" 1"]},
    "network newline": {**USER, "n": ["1\n"]},
    "network Arabic digit": {**USER, "n": ["\u0661"]},
    "network huge": {**USER, "n": ["9" * 19]},
    "device types text": {**USER, "dt": "*"},
    "device type float": {**USER, "dt": [1.5]},
    "device type null": {**USER, "dt": [None]},
    "device types twice *": {**USER, "dt": ["*", "*"]},
}

EXPIRED: dict[str, Any] = {
    "a millisecond ago": {**USER, "e": NOW - 1},
    "in seconds": {**USER, "e": LATER // 1000},
    "1": {**USER, "e": 1},
}

HEADERS: dict[str, dict[str, Any]] = {
    "none": {"alg": "none"},
    "None": {"alg": "None"},
    "NONE": {"alg": "NONE"},
    "nOnE": {"alg": "nOnE"},
    "HS384": {"alg": "HS384"},
    "HS512": {"alg": "HS512"},
    "hs256": {"alg": "hs256"},
    "RS256": {"alg": "RS256"},
    "ES256": {"alg": "ES256"},
    "EdDSA": {"alg": "EdDSA"},
    "no alg": {"typ": "JWT"},
    "alg null": {"alg": None},
    "alg a list": {"alg": ["HS256"]},
    "alg a number": {"alg": 256},
    "unencoded payload": {"alg": "HS256", "b64": False, "crit": ["b64"]},
}
"""Headers that are refused whatever the signature."""

IGNORED: dict[str, dict[str, Any]] = {
    "typ": {"alg": "HS256", "typ": "JWT"},
    "kid path": {"alg": "HS256", "kid": "../../dev/null"},
    "kid sql": {"alg": "HS256", "kid": "x' UNION SELECT ''--"},
    "jku": {"alg": "HS256", "jku": "file:///dev/null"},
    "x5u": {"alg": "HS256", "x5u": "file:///dev/null"},
    "jwk": {"alg": "HS256", "jwk": {"kty": "oct", "k": "AAAA"}},
}
"""Header fields that mean nothing: neither followed nor refused."""


def text(value: Any) -> str:
    return _part(json.dumps(value).encode())


def forged(header: Any, payload: Any, key: bytes = KEY, digest: str = "sha256") -> str:
    """A token signed by hand, so that a case does not depend on what a library is willing to write."""
    signed = f"{text(header)}.{text({'payload': payload})}"
    return f"{signed}.{_part(hmac.new(key, signed.encode(), digest).digest())}"


def unsigned(header: Any, payload: Any) -> str:
    return f"{text(header)}.{text({'payload': payload})}."


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

"""JSON Web Tokens, RFC 7519, HS256 only: the users' and plugins' (claim `payload`) and the services' own.

The payload is DeviceHive's (u, a, n, dt, e, t, tpc), checked strictly: a field of another type than it must have, or
one that is there twice, makes the token invalid, it is never read leniently. Header fields other than `alg` and `typ`
mean nothing. A signature has one spelling: no padding, nothing between its characters.
Verifying a token costs some 20 µs; who sees the same token often keeps a bounded cache of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import jwt
import msgspec
from jwt.algorithms import HMACAlgorithm

from skep.errors import Unauthorized

ALGORITHM = "HS256"
REFRESH, ACCESS = 0, 1
ANY = "*"
MAX_TOKEN = 8192
"""Longest token looked at, characters: a client with 1,000 networks stays below."""
EXPIRED = "Token expired"
INVALID_TYPE = "Invalid token type"

_MAX_ACTION = 18
_MAX_MS = 2**53
# The last of a digest's 43 characters carries 4 bits, so only these 16 end one.
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]", re.ASCII)
_ID = re.compile(r"[0-9]{1,18}", re.ASCII)
_BASE64 = {c: i for i, c in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")}


class _Hmac(HMACAlgorithm):
    """SHA-256. Silent about short keys: `settings` refuses them in production, once and not with each token."""

    def __init__(self) -> None:
        super().__init__(HMACAlgorithm.SHA256)

    def check_key_length(self, key: bytes) -> str | None:
        return None


def _jws() -> jwt.PyJWS:
    jws = jwt.PyJWS(algorithms=[])
    jws.register_algorithm(ALGORITHM, _Hmac())
    return jws


_JWS = _jws()


class Claims(msgspec.Struct, frozen=True):
    """What a token says. `expires` in ms since the epoch; `type` ACCESS or REFRESH. networks, device_types:
    ["*"], decimal ids, or None (nothing). A user's token has `user_id`, a plugin's `topic`, never both."""

    user_id: int | None
    actions: list[int] | None
    networks: list[str] | None
    device_types: list[str] | None
    expires: int
    type: int = ACCESS
    topic: str | None = None


class Keys(msgspec.Struct, frozen=True):
    """HMAC keys: the first signs, all verify, so that a secret can be replaced while its tokens live."""

    keys: tuple[bytes, ...]

    @classmethod
    def parse(cls, secret: str, base64: bool = False) -> Keys:
        """Keys of a comma list of secrets: their UTF-8 bytes, or DeviceHive's Base64 reading. ValueError if none."""
        read: Callable[[str], bytes] = jjwt_key if base64 else str.encode
        keys = tuple(read(part.strip()) for part in secret.split(",") if part.strip())
        if not keys or not all(keys):
            raise ValueError("an empty secret")
        return cls(keys)


def jjwt_key(secret: str) -> bytes:
    """The key DeviceHive 3.5 (jjwt 0.7) makes of a secret: Base64-decoded, characters outside the alphabet skipped,
    an incomplete last group dropped."""
    key = bytearray()
    group: list[int | None] = []
    for character in secret:
        if character not in _BASE64 and character != "=":
            continue
        group.append(_BASE64.get(character))
        if len(group) == 4:
            bits, known = 0, sum(part is not None for part in group)
            for part in group:
                bits = bits << 6 | (part or 0)
            key += bits.to_bytes(3, "big")[: max(known - 1, 0)]
            group.clear()
    return bytes(key)


def encode(claims: Claims, keys: Keys) -> str:
    """The token. Its header is {"alg":"HS256"} only, as DeviceHive's."""
    payload: dict[str, Any] = {"a": claims.actions, "e": claims.expires, "t": claims.type}
    if claims.topic is not None:
        payload["tpc"] = claims.topic
    else:
        payload = {"u": claims.user_id, "n": claims.networks, "dt": claims.device_types, **payload}
    return _sign({"payload": payload}, keys.keys[0])


def decode(token: str, keys: Keys, now_ms: int) -> Claims:
    """The claims of a token of either type that is valid at `now_ms`. Raises `Unauthorized`."""
    claims = verify(token, keys)
    if claims.expires < now_ms:
        raise Unauthorized(EXPIRED)
    return claims


def verify(token: str, keys: Keys) -> Claims:
    """As `decode`, but expired or not: of a refresh token the type is judged before the expiry."""
    payload = _verified(token, keys.keys).get("payload")
    if not isinstance(payload, dict):
        raise Unauthorized
    return _claims(payload)


def encode_service(service: str, instance: str, secret: str, expires_ms: int) -> str:
    """A service's token for the bus: which service, which instance of it."""
    claims = {"service": service, "instance": instance, "expires": expires_ms}
    return _sign(claims, Keys.parse(secret).keys[0])


def decode_service(token: str, secret: str, now_ms: int) -> tuple[str, str]:
    """(service, instance) of a service token. Raises `Unauthorized`."""
    claims = _verified(token, Keys.parse(secret).keys)
    service, instance = claims.get("service"), claims.get("instance")
    if not isinstance(service, str) or not isinstance(instance, str):
        raise Unauthorized
    if _time(claims.get("expires")) < now_ms:
        raise Unauthorized(EXPIRED)
    return service, instance


def _sign(claims: dict[str, Any], key: bytes) -> str:
    return _JWS.encode(msgspec.json.encode(claims), key, ALGORITHM, headers={"typ": None})


def _verified(token: str, keys: tuple[bytes, ...]) -> dict[str, Any]:
    if not isinstance(token, str) or len(token) > MAX_TOKEN or _TOKEN.fullmatch(token) is None:
        raise Unauthorized
    for key in keys:
        try:
            text = _JWS.decode(token, key, algorithms=[ALGORITHM])
            claims = msgspec.json.decode(text)
            json.loads(text, object_pairs_hook=_check_names)
        except jwt.InvalidSignatureError:
            continue
        except (jwt.InvalidTokenError, jwt.InvalidKeyError, ValueError, RecursionError):
            raise Unauthorized from None
        if isinstance(claims, dict):
            return claims
        break
    raise Unauthorized


def _check_names(pairs: list[tuple[str, Any]]) -> None:
    """Raises ValueError for a name that is there twice: another reader may take the other value."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name is there twice")


def _claims(payload: dict[str, Any]) -> Claims:
    user, topic = payload.get("u"), payload.get("tpc")
    if (user is None) == (topic is None):
        raise Unauthorized
    if user is not None and not (_is_int(user) and 0 < user < 2**63):
        raise Unauthorized
    if topic is not None and not (isinstance(topic, str) and topic):
        raise Unauthorized
    kind = payload.get("t")
    if not _is_int(kind) or kind not in (REFRESH, ACCESS):
        raise Unauthorized
    return Claims(
        user_id=user,
        actions=_actions(payload.get("a")),
        networks=_ids(payload.get("n")),
        device_types=_ids(payload.get("dt")),
        expires=_time(payload.get("e")),
        type=kind,
        topic=topic,
    )


def _is_int(value: object) -> bool:
    return type(value) is int  # bool is an int to isinstance


def _time(value: object) -> int:
    if type(value) is int and 0 < value < _MAX_MS:
        return value
    raise Unauthorized


def _actions(value: object) -> list[int] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(_is_int(a) and 0 <= a <= _MAX_ACTION for a in value):
        raise Unauthorized
    return value


def _ids(value: object) -> list[str] | None:
    """["*"] alone or ids alone: a wildcard among ids is no list this platform writes."""
    if value is None or value == [ANY]:
        return value
    if not isinstance(value, list) or not all(isinstance(i, str) and _ID.fullmatch(i) for i in value):
        raise Unauthorized
    return value

"""Tokens that must be refused, each made of a payload that would be accepted (threats 1 to 12). Data for all entries:
REST, WebSocket, the plugins' proxy and, with the claims of a service, the bus."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

from tests.cases import tokens
from tests.cases.tokens import HEADERS, USER, forged, unsigned

HS256 = {"alg": "HS256"}
DIGESTS = {"HS384": "sha384", "HS512": "sha512"}
SECRETS = ["", "secret", "devicehive", "dhadmin", "changeme", "skep", "\0" * 32, "0" * 32, "k" * 32]
"""What somebody would guess."""
INJECTED: dict[str, tuple[dict[str, Any], bytes]] = {
    "kid of an empty file": ({"kid": "../../../../../../dev/null"}, b""),
    "kid of a known file": ({"kid": "/etc/hostname"}, b"localhost\n"),
    "kid with SQL": ({"kid": "x' UNION SELECT 'guess' -- "}, b"guess"),
    "kid with a command": ({"kid": "| echo guess"}, b"guess"),
    "jwk": ({"jwk": {"kty": "oct", "k": "Z3Vlc3M"}}, b"guess"),
    "jku": ({"jku": "http://127.0.0.1:9/keys"}, b"guess"),
    "jku of a file": ({"jku": "file:///etc/hostname"}, b"guess"),
    "x5u": ({"x5u": "http://127.0.0.1:9/certificate"}, b"guess"),
    "x5c": ({"x5c": ["Z3Vlc3M="]}, b"guess"),
    "typ": ({"typ": "JWT"}, b"guess"),
    "nested": ({"cty": "JWT"}, b"guess"),
    "compressed": ({"zip": "DEF"}, b"guess"),
}
"""Header fields that name a key, and the key they name."""


def forgeries(base: dict[str, Any], key: bytes, now: int) -> dict[str, str]:
    """base: a payload as signed with `key` it would be accepted. now: ms since the epoch."""
    good = forged(HS256, base, key)
    made = {f"payload: {n}": forged(HS256, p, key) for n, p in _payloads(base).items()}
    for name, header in HEADERS.items():
        digest = DIGESTS.get(str(header.get("alg")), "sha256")
        made[f"alg {name}, signed"] = forged(header, base, key, digest)
        made[f"alg {name}, unsigned"] = unsigned(header, base)
    made |= {f"header: {n}": forged({**HS256, **h}, base, k) for n, (h, k) in INJECTED.items()}
    made |= {f"secret {secret!r}": forged(HS256, base, secret.encode()) for secret in SECRETS}
    made |= {
        "secret read as Base64": forged(HS256, base, base64.urlsafe_b64decode(key + b"=" * (-len(key) % 4))),
        "secret and a line's end": forged(HS256, base, key + b"\n"),
        "secret hashed": forged(HS256, base, hashlib.sha256(key).digest()),
        "expired by a second": forged(HS256, {**base, "e": now - 1_000}, key),
        "expiry in seconds": forged(HS256, {**base, "e": (now + 600_000) // 1000}, key),
        "expired, exp to come": forged(HS256, {**base, "e": now - 1_000, "exp": now // 1000 + 600}, key),
    }
    return made | _texts(good, base, key)


def service_forgeries(base: dict[str, Any], key: bytes, now: int) -> dict[str, str]:
    """base: the claims of a service; they are not in a `payload`."""

    def signed(claims: Any, header: Any = None, key: bytes = key, digest: str = "sha256") -> str:
        head = f"{tokens.text(header or HS256)}.{tokens.text(claims)}"
        return f"{head}.{_part(hmac.new(key, head.encode(), digest).digest())}"

    changed: dict[str, dict[str, Any]] = {
        "no service": {"service": None},
        "unknown service": {"service": "stranger"},
        "service a list": {"service": [base["service"]]},
        "service in capitals": {"service": str(base["service"]).upper()},
        "no instance": {"instance": None},
        "instance a number": {"instance": 1},
        "instance with a path": {"instance": "../other"},
        "instance empty": {"instance": ""},
        "instance with a wildcard": {"instance": "*"},
        "no expiry": {"expires": None},
        "expiry text": {"expires": str(base["expires"])},
        "expiry float": {"expires": float(base["expires"])},
        "expiry NaN": {"expires": float("nan")},
        "expiry negative": {"expires": -base["expires"]},
        "expiry in seconds": {"expires": base["expires"] // 1000},
        "expired": {"expires": now - 1_000},
    }
    made = {f"claims: {name}": signed({**base, **change}) for name, change in changed.items()}
    for name, header in HEADERS.items():
        made[f"alg {name}"] = signed(base, header, digest=DIGESTS.get(str(header.get("alg")), "sha256"))
    made |= {f"header: {n}": signed(base, {**HS256, **h}, k) for n, (h, k) in INJECTED.items()}
    made |= {f"secret {secret!r}": signed(base, key=secret.encode()) for secret in SECRETS}
    made["within a payload"] = forged(HS256, base, key)
    made["a user's"] = forged(HS256, {**USER, "e": now + 600_000}, key)
    return made | _texts(signed(base), base, key)


def _payloads(base: dict[str, Any]) -> dict[str, Any]:
    """Those that are wrong for users, made of another base."""
    found = {}
    for name, bad in tokens.BAD.items():
        if not isinstance(bad, dict) or "tpc" in bad:
            found[name] = bad
            continue
        changed = {field: value for field, value in bad.items() if value is not USER.get(field)}
        removed = USER.keys() - bad.keys()
        if "tpc" in base and {"u", "n", "dt"} & (changed.keys() | removed):
            continue  # what a plugin's token does not have
        found[name] = {field: value for field, value in {**base, **changed}.items() if field not in removed}
    return found


def _texts(good: str, base: dict[str, Any], key: bytes) -> dict[str, str]:
    """Of a good token: what is left of it when it is cut, stretched, or spelled otherwise."""
    header, payload, signature = good.split(".")
    flipped = ("B" if signature[0] == "A" else "A") + signature[1:]
    other = _part(json.dumps({"payload": {**base, "x": 1}}).encode())
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    loose = signature[:-1] + last[last.index(signature[-1]) | 1]

    def raw(header: bytes, payload: bytes) -> str:
        head = f"{_part(header)}.{_part(payload)}"
        return f"{head}.{_part(hmac.new(key, head.encode(), 'sha256').digest())}"

    twice = json.dumps({"payload": base})[:-2] + ', "t": 1}}'
    whole = json.dumps({"payload": base}).encode()
    return {
        "empty": "",
        "dots": "..",
        "a word": "nonsense",
        "null": "null",
        "no signature": f"{header}.{payload}",
        "empty signature": f"{header}.{payload}.",
        "no payload": f"{header}..{signature}",
        "no header": f".{payload}.{signature}",
        "header and signature alone": f"{header}.{signature}",
        "four parts": f"{good}.{signature}",
        "five parts": f"{header}..{payload}..{signature}",
        "payload changed": f"{header}.{other}.{signature}",
        "signature flipped": f"{header}.{payload}.{flipped}",
        "signature short": f"{header}.{payload}.{signature[:-4]}",
        "signature long": f"{header}.{payload}.{signature}AAAA",
        "signature of nothing": f"{header}.{payload}.{_part(hmac.new(key, b'', 'sha256').digest())}",
        "signature in hexadecimal": f"{header}.{payload}.{hmac.new(key, b'x', 'sha256').hexdigest()}",
        "signature padded": f"{good}=",
        "signature with loose bits": f"{header}.{payload}.{loose}",
        "signature with a blank": f"{header}.{payload}.{signature[:20]} {signature[20:]}",
        "signature with a mark": f"{header}.{payload}.{signature[:20]}!{signature[20:]}",
        "parts turned around": f"{payload}.{header}.{signature}",
        "upper case": good.upper(),
        "a blank within": good.replace(".", " .", 1),
        "quoted": f'"{good}"',
        "twice": f"{good},{good}",
        "huge": f"{header}.{'A' * 60_000}.{signature}",
        "dots only": "." * 5_000,
        "not UTF-8": good[:5] + "\xff\xfe" + good[5:],
        "payload not UTF-8": raw(b'{"alg":"HS256"}', b"\xff\xfe" + whole),
        "payload UTF-16": raw(b'{"alg":"HS256"}', json.dumps({"payload": base}).encode("utf-16")),
        "payload with a mark": raw(b'{"alg":"HS256"}', b"\xef\xbb\xbf" + whole),
        "payload no JSON": raw(b'{"alg":"HS256"}', b"payload"),
        "payload deep": raw(b'{"alg":"HS256"}', b"[" * 2_000),
        "payload and more": raw(b'{"alg":"HS256"}', whole + b"{}"),
        "a name twice": raw(b'{"alg":"HS256"}', twice.encode()),
        "payload twice": raw(b'{"alg":"HS256"}', whole[:-1] + b"," + whole[1:]),
        "digits of another script": raw(b'{"alg":"HS256"}', json.dumps({"payload": base}, ensure_ascii=False).translate(
            {ord("1"): "\u0661", ord("0"): "\u0660"}).encode()),
        "header no JSON": raw(b"HS256", whole),
        "header a list": raw(b'["HS256"]', whole),
        "header empty": raw(b"", whole),
    }  # fmt: skip


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

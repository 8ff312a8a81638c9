"""MQTT passwords: made of a secret of the platform and of what is stored for a user, so that no password is stored.

A broker that keeps its clients itself (Mosquitto's dynamic security) takes passwords in clear only, and may have lost
its state; then they are made anew. Whoever reads the database alone has none of them, and a secret that leaves
`JWT_SECRET` takes the passwords made with it along, as it does its tokens.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64encode

from skep.tokens import Keys

SALT_BYTES = 16
_BYTES = 24
# No JWT begins like this: what is signed there is Base64 and a dot.
_PURPOSE = b"skep mqtt password\0"
_KEY_PURPOSE = b"skep mqtt key\0"


def salt() -> bytes:
    return secrets.token_bytes(SALT_BYTES)


def key_name(keys: Keys) -> str:
    """Of the key that makes passwords now, the first one; says nothing of the key itself."""
    return _name(keys.keys[0])


def password(keys: Keys, name: str, user_id: int, salt: bytes) -> str | None:
    """32 characters, made with the key of that name; None where it is not among the keys any more."""
    for key in keys.keys:
        if _name(key) == name:
            digest = hmac.digest(key, _PURPOSE + user_id.to_bytes(8, "big") + salt, "sha256")
            return urlsafe_b64encode(digest[:_BYTES]).decode()
    return None


def _name(key: bytes) -> str:
    return hmac.digest(key, _KEY_PURPOSE, "sha256")[:8].hex()

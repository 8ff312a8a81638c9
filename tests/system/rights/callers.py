"""Who calls: users and tokens of a world."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from tests.cases.tokens import ACTIONS
from tests.system.rights.world import User, World

CLIENT = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15, 16, 17]
"""What a client's login grants (reference 2.4)."""
LIFE = 600_000


@dataclass(frozen=True)
class Caller:
    """claims: the token's payload; None: no token."""

    name: str
    user: User | None
    claims: dict[str, Any] | None
    token: str

    @property
    def is_brief(self) -> bool:
        """One of many alike: asks for less."""
        return self.name.partition(", ")[2] in ACTIONS or self.name in REFUSED


# Name: user, and what of the token is not {"a": [0], "n": ["*"], "dt": ["*"]}. own, foreign, missing: ids of the world.
CALLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "client": ("client", {"a": CLIENT, "n": ["own"]}),
    "manager": ("client", {}),
    "typed": ("typed", {}),
    "other": ("other", {}),
    "root": ("root", {}),
    "root for a network": ("root", {"n": ["own"]}),
    "root for a type": ("root", {"dt": ["own"]}),
    "root for both": ("root", {"n": ["own"], "dt": ["own"]}),
    "client for a type": ("client", {"dt": ["own"]}),
    "client for a foreign network": ("client", {"n": ["foreign"]}),
    "typed for a foreign type": ("typed", {"dt": ["foreign"]}),
    "root without networks": ("root", {"n": None}),
    "typed without types": ("typed", {"dt": None}),
    "client, empty lists": ("client", {"n": [], "dt": []}),
    "root, empty actions": ("root", {"a": []}),
    "root, no actions": ("root", {"a": None}),
    "root, action None": ("root", {"a": [1]}),
    # -- of which there are many: each action in a client's token, in an administrator's those no client's login grants
    **{f"root, {name}": ("root", {"a": [id]}) for id, name in enumerate(ACTIONS) if id > 1 and id not in CLIENT},
    **{f"client, {name}": ("client", {"a": [id], "n": ["own"]}) for id, name in enumerate(ACTIONS) if id > 1},
    "plugin": ("client", {"a": [16], "tpc": "own"}),
    "disabled": ("disabled", {}),
    "locked": ("locked", {}),
    "deleted": ("missing", {}),
    "expired": ("root", {"e": -1_000}),
    "refresh": ("root", {"t": 0}),
    "plugin of nobody": ("root", {"tpc": "missing"}),
    "anonymous": ("", {}),
}
REFUSED = ("disabled", "locked", "deleted", "expired", "refresh", "plugin of nobody", "anonymous")
NO_USERS = (*REFUSED, "plugin")


def made(name: str, world: World) -> Caller:
    label, special = CALLERS[name]
    if not label:
        return Caller(name, None, None, "")
    id = world.person[label]
    claims = {"u": id, "a": [0], "n": ["*"], "dt": ["*"], "t": 1, **special}
    claims["n"], claims["dt"] = _ids(claims["n"], world.network), _ids(claims["dt"], world.type)
    claims["e"] = int(time.time() * 1000) + special.get("e", LIFE)
    user = world.users.get(id)
    if "tpc" in claims:  # stands for its owner
        claims = {key: claims[key] for key in ("a", "e", "t")} | {"tpc": world.topic[claims["tpc"]]}
        user = user if claims["tpc"] in world.plugins else None
    return Caller(name, user, claims, world.sign(claims))


def _ids(labels: list[str] | None, ids: dict[str, int]) -> list[str] | None:
    return None if labels is None else [label if label == "*" else str(ids[label]) for label in labels]

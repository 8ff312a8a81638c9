"""What the runs share: networks, device types, devices, users, tokens. A run changes them and puts them back."""

from __future__ import annotations

import contextlib
import http.client
import json
import urllib.parse
from typing import Any

from tests.system.model.rights import GET_DEVICE, GET_NOTIFICATION, Place, Token, User
from tests.system.suite import Suite

PASSWORD = "a password"
DISABLED = 2


class World:
    """before: the one that this one follows. networks, types: two ids each. devices: four, home in each pair of them.
    anna is a member of the first network and has all device types; ben is a member of the second and has the first
    type."""

    def __init__(self, suite: Suite, before: World | None = None) -> None:
        self.suite = suite
        self.serial = 1 if before is None else before.serial + 1
        self.runs = 0 if before is None else before.runs
        self.number = 0 if before is None else before.number
        """Of the last message."""
        self.highest = 0 if before is None else before.highest
        """Of all timestamps seen, ms."""
        self.bearer = self._token_pair(suite.login, suite.password)["accessToken"]
        self.prefix = f"model-{suite.engines}-{self.serial}"
        self.networks = [self.rest("POST", "network", {"name": f"{self.prefix}-{i}"})["id"] for i in (1, 2)]
        self.types = [self.rest("POST", "devicetype", {"name": f"{self.prefix}-{i}"})["id"] for i in (1, 2)]
        self.homes = {
            f"{self.prefix}-{i}": (network, device_type)
            for i, (network, device_type) in enumerate((n, t) for n in self.networks for t in self.types)
        }
        for device, place in self.homes.items():
            self.place(device, place, None)
        self.places = dict(self.homes)
        self.admin = User(1, suite.login, suite.password, admin=True, networks=set())
        self.anna = self._user("anna", [self.networks[0]], None)
        self.ben = self._user("ben", [self.networks[1]], [self.types[0]])
        self._members = {user: set(user.networks) for user in (self.anna, self.ben)}
        self.tokens = self._tokens()
        self.refreshed = {user: self.login(user) for user in (self.anna, self.ben)}
        self.logged_in = {user: Token("", user, *_assigned(user)) for user in (self.anna, self.ben)}

    @property
    def devices(self) -> list[str]:
        return list(self.homes)

    # -- REST --------------------------------------------------------------------------------------------------------

    def request(self, method: str, path: str, body: object = None, token: str = "", **more: str) -> tuple[int, Any]:
        """(status, decoded body). more: headers."""
        headers = {"Content-Type": "application/json", **more}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(self.suite.rest).netloc, timeout=15)
        with contextlib.closing(connection):
            connection.request(method, f"/api/rest/{path}", None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        return answer.status, json.loads(text) if text else None

    def rest(self, method: str, path: str, body: object = None) -> Any:
        """What the administrator gets; the request must succeed."""
        status, found = self.request(method, path, body, self.bearer)
        assert status < 300, f"{method} {path}: {status} {found}"
        return found

    def place(self, device: str, place: Place, data: object) -> None:
        body = {"name": device, "networkId": place[0], "deviceTypeId": place[1], "data": data}
        self.rest("PUT", f"device/{device}", body)

    def member(self, user: User, network: int, on: bool) -> None:
        self.rest("PUT" if on else "DELETE", f"user/{user.id}/network/{network}")

    def typed(self, user: User, device_type: int, on: bool) -> None:
        self.rest("PUT" if on else "DELETE", f"user/{user.id}/devicetype/{device_type}")

    def disable(self, user: User, on: bool) -> None:
        self.rest("PUT", f"user/{user.id}", {"status": DISABLED if on else 0})

    def login(self, user: User) -> str:
        """A refresh token."""
        return self._token_pair(user.login, user.password)["refreshToken"]

    def _token_pair(self, login: str, password: str) -> dict[str, str]:
        status, found = self.request("POST", "token", {"login": login, "password": password})
        assert status == 201, found
        return found

    # -- between runs ------------------------------------------------------------------------------------------------

    def restore(self) -> None:
        """Everything is at home again."""
        for device, home in self.homes.items():
            if self.places[device] != home:
                self.place(device, home, None)
                self.places[device] = home
        for user, home_networks in self._members.items():
            if user.disabled:
                self.disable(user, False)
                user.disabled = False
            for network in user.networks ^ home_networks:
                self.member(user, network, network in home_networks)
            user.networks = set(home_networks)
        for device_type in (self.ben.types or set()) ^ {self.types[0]}:
            self.typed(self.ben, device_type, device_type == self.types[0])
        self.ben.types = {self.types[0]}

    # -- the beginning -----------------------------------------------------------------------------------------------

    def _user(self, name: str, networks: list[int], types: list[int] | None) -> User:
        login = f"{self.prefix}-{name}"
        body = {"login": login, "password": PASSWORD, "role": 1, "allDeviceTypesAvailable": types is None}
        made = User(self.rest("POST", "user", body)["id"], login, PASSWORD, False, set(networks))
        for network in networks:
            self.member(made, network, True)
        for device_type in types or ():
            self.typed(made, device_type, True)
        made.types = None if types is None else set(types)
        return made

    def _tokens(self) -> list[Token]:
        first, kind = frozenset(self.networks[:1]), frozenset(self.types[:1])
        reader = frozenset({GET_DEVICE, GET_NOTIFICATION})
        return [
            Token(self.bearer, self.admin),
            self._token(self.admin, networks=first),
            self._token(self.admin, actions=reader),
            self._token(self.anna),
            self._token(self.anna, networks=first, types=kind),
            self._token(self.ben),
            self._token(self.ben, types=kind, actions=reader),
        ]

    def _token(
        self,
        user: User,
        networks: frozenset[int] | None = None,
        types: frozenset[int] | None = None,
        actions: frozenset[int] | None = None,
    ) -> Token:
        """Made by the admin; `*` follows the user's rights."""
        body = {
            "userId": user.id,
            "networkIds": ["*"] if networks is None else sorted(networks),
            "deviceTypeIds": ["*"] if types is None else sorted(types),
        }
        wanted = Token("", user, networks, types) if actions is None else Token("", user, networks, types, actions)
        wanted.text = self.rest("POST", "token/create", {**body, "actions": sorted(wanted.actions)})["accessToken"]
        return wanted


def _assigned(user: User) -> tuple[frozenset[int], frozenset[int] | None]:
    """What a login puts into a token: the networks and device types as of now."""
    return frozenset(user.networks), None if user.types is None else frozenset(user.types)

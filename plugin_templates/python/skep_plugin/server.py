"""The server's REST API, as far as a plugin needs it: register once, then get access tokens.

What registering gave (topic, refresh token, endpoint) is kept in a file that only its owner may read, so that the
next start finds the same plugin and what waits for it.
"""

from __future__ import annotations

import base64
import json
import logging
import os
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from skep_plugin.settings import Settings, Unusable

log = logging.getLogger("plugin")


class Unavailable(Exception):
    """Try again later."""


@dataclass(frozen=True)
class Credentials:
    topic: str
    refresh_token: str
    endpoint: str
    query: list[list[str]]
    """The filter it was registered with; empty where others registered it."""


@dataclass(frozen=True)
class Token:
    """expires: seconds since the epoch."""

    text: str
    expires: float


class Server:
    def __init__(self, settings: Settings, http: httpx.AsyncClient) -> None:
        self._settings = settings
        self._http = http

    async def credentials(self) -> Credentials:
        """From the environment, from the state file, or by registering. Raises Unusable, Unavailable."""
        settings = self._settings
        if settings.topic:
            if not settings.refresh_token or not settings.endpoint:
                raise Unusable("PLUGIN_TOPIC needs PLUGIN_REFRESH_TOKEN and PLUGIN_ENDPOINT beside it")
            return Credentials(settings.topic, settings.refresh_token, settings.endpoint, [])
        query = [list(pair) for pair in settings.query]
        if settings.state.exists():
            found = self._load()
            if found.query != query:
                raise Unusable(
                    f"the filter in the environment is not the one that {settings.state} was registered with; "
                    "delete the file (and the plugin on the server) to register anew"
                )
            return found
        self._save(None)  # Better to learn now that the file can't be written than with a plugin registered.
        registered = await self._register()
        found = Credentials(registered["topicName"], registered["refreshToken"], registered["proxyEndpoint"], query)
        self._save(found)
        log.info("registered as %s; its refresh token is in %s", found.topic, settings.state)
        return found

    async def access_token(self, credentials: Credentials) -> Token:
        """A fresh one. Raises Unusable, Unavailable."""
        try:
            answer = await self._post("/token/refresh", {"refreshToken": credentials.refresh_token})
        except Unusable as error:
            raise Unusable(f"{error} (without {self._settings.state} the plugin would register anew)") from error
        text = answer["accessToken"]
        claims = text.split(".")[1]
        payload = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["payload"]
        return Token(text, payload["e"] / 1000)

    async def _register(self) -> dict[str, Any]:
        settings = self._settings
        if not settings.login or not settings.password:
            raise Unusable("SKEP_LOGIN and SKEP_PASSWORD of the plugin's owner are needed to register it")
        user = await self._post("/token", {"login": settings.login, "password": settings.password})
        query = httpx.QueryParams(settings.query)
        return await self._post(f"/plugin?{query}", {"name": settings.name}, user["accessToken"])

    async def _post(self, path: str, body: dict[str, Any], token: str = "") -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            answer = await self._http.post(self._settings.url + path, json=body, headers=headers)
        except httpx.TransportError as error:
            raise Unavailable(f"{self._settings.url}: {error or type(error).__name__}") from error
        what = path.partition("?")[0]
        if answer.status_code in (408, 429) or answer.status_code >= 500:
            raise Unavailable(f"{what} is answered with {answer.status_code}")
        if not answer.is_success:
            raise Unusable(f"{what} is refused with {answer.status_code}: {_reason(answer)}")
        return answer.json()

    def _load(self) -> Credentials:
        try:
            return Credentials(**json.loads(self._settings.state.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise Unusable(f"{self._settings.state} can't be read: {error}") from error

    def _save(self, credentials: Credentials | None) -> None:
        """All or nothing. None: only try whether it would work."""
        path = self._settings.state
        new = path.with_name(path.name + ".new")
        try:
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                if credentials is not None:
                    json.dump(asdict(credentials), file)
                    file.flush()
                    os.fsync(file.fileno())
            if credentials is None:
                new.unlink()
            else:
                new.replace(path)
        except OSError as error:
            raise Unusable(f"{path} can't be written: {error}") from error


def _reason(answer: httpx.Response) -> str:
    try:
        return answer.json()["message"]
    except (ValueError, KeyError, TypeError):
        return answer.text[:200] or "no reason given"

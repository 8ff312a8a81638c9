"""Settings, from the environment. Each may also lie in a file that NAME_FILE names (secrets of Docker and others)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

RECEIVE = {
    "notifications": "returnNotifications",
    "commands": "returnCommands",
    "updates": "returnUpdatedCommands",
}
"""What PLUGIN_RECEIVE may name, and what it is called at registration."""
FILTER = {
    "PLUGIN_DEVICE_ID": "deviceId",
    "PLUGIN_NETWORK_IDS": "networkIds",
    "PLUGIN_DEVICE_TYPE_IDS": "deviceTypeIds",
    "PLUGIN_NAMES": "names",
    "PLUGIN_RETENTION": "retention",
}


class Unusable(Exception):
    """The plugin can't run like this. The text is for the person who set it up."""


def get(name: str, default: str = "") -> str:
    """The value of NAME, or what is in the file that NAME_FILE names. Raises Unusable."""
    path = os.environ.get(f"{name}_FILE", "")
    if not path:
        return os.environ.get(name, "") or default
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise Unusable(f"{name}_FILE can't be read: {error}") from error


def number(name: str, default: int, least: int = 1) -> int:
    text = get(name, str(default))
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise Unusable(f"{name} must be a whole number of at least {least}, not {text!r}")
    return int(text)


@dataclass(frozen=True)
class Settings:
    """query: the filter as it goes into the registration. topic, refresh_token, endpoint: of a plugin that is
    registered already, else empty. parallel: how many messages (of different devices) are handled at a time."""

    url: str
    login: str = ""
    password: str = ""
    name: str = "plugin"
    query: tuple[tuple[str, str], ...] = (("returnNotifications", "true"),)
    group: str = "main"
    state: Path = Path("plugin-state.json")
    topic: str = ""
    refresh_token: str = ""
    endpoint: str = ""
    parallel: int = 32

    @classmethod
    def from_environment(cls, name: str) -> Settings:
        """name: what the plugin is called where PLUGIN_NAME says nothing. Raises Unusable."""
        return cls(
            url=get("SKEP_URL", "http://127.0.0.1:8080/api/rest").rstrip("/"),
            login=get("SKEP_LOGIN"),
            password=get("SKEP_PASSWORD"),
            name=get("PLUGIN_NAME", name),
            query=_query(),
            # Set but empty: no group, every copy of the plugin gets everything.
            group=os.environ.get("PLUGIN_GROUP", "main"),
            state=Path(get("PLUGIN_STATE", "plugin-state.json")),
            topic=get("PLUGIN_TOPIC"),
            refresh_token=get("PLUGIN_REFRESH_TOKEN"),
            endpoint=get("PLUGIN_ENDPOINT"),
            parallel=number("PLUGIN_PARALLEL", 32),
        )


def _query() -> tuple[tuple[str, str], ...]:
    wanted = {kind.strip() for kind in get("PLUGIN_RECEIVE", "notifications").split(",")}
    if unknown := wanted - RECEIVE.keys():
        raise Unusable(f"PLUGIN_RECEIVE may name {', '.join(RECEIVE)}, not {', '.join(sorted(unknown))!r}")
    kinds = [(parameter, str(kind in wanted).lower()) for kind, parameter in RECEIVE.items()]
    return (*kinds, *((parameter, value) for name, parameter in FILTER.items() if (value := get(name))))

"""What a caller asks for, checked: a plugin's name, its filter within the caller's rights, its retention."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol, TypeVar

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from skep import access, errors
from skep.access import Principal
from skep.metadata.containers import NO_DEVICE_TYPES, NO_NETWORKS
from skep.metadata.rows import PLUGIN_ACTIVE, PLUGIN_INACTIVE, Device, Maybe, PluginChanges
from skep.tokens import ANY
from skep.web import json_object
from skep.wire.messages import COMMAND, NOTIFICATION, UPDATE
from skep.wire.plugin_api import (
    DESCRIPTION,
    MAX_RETENTION,
    MIN_RETENTION,
    NAME,
    NAMES,
    PARAMETERS,
    FilterQuery,
    Registration,
    UpdateQuery,
)
from skep.wire.plugins import Filter

BAD_NAME = "Field name should be from 3 to 128 letters, digits or symbols @ . _ -"
BAD_DESCRIPTION = "Field description should be from 3 to 128 letters, digits, spaces or symbols @ . _ -"
LONG_PARAMETERS = f"Field parameters can not be longer than {PARAMETERS} bytes"
NO_RETURN = "Requested subscription is not valid. Please, set at least one 'return*' parameter to true."
BAD_NAMES = f"There can be {NAMES} names of 1 to 128 symbols"
BAD_RETENTION = f"retention should be from {MIN_RETENTION} to {MAX_RETENTION} seconds"
BAD_STATUS = "Plugin status can be set to ACTIVE or INACTIVE"
T = TypeVar("T", int, str)

_NAME, _DESCRIPTION = re.compile(NAME), re.compile(DESCRIPTION)
_STATUS = {"ACTIVE": PLUGIN_ACTIVE, "INACTIVE": PLUGIN_INACTIVE}


class Containers(Protocol):
    """`skep.metadata`'s networks or device types."""

    async def get_many(self, ids: list[int]) -> Mapping[int, object]: ...


class Devices(Protocol):
    """`skep.metadata`'s devices."""

    async def get(self, id: str) -> Device | None: ...


class Existing(Struct, frozen=True):
    """What a filter may name."""

    networks: Containers
    device_types: Containers
    devices: Devices


def retention(query: FilterQuery) -> int | None:
    """ms, None where none is given. Raises BadRequest."""
    if query.retention is None:
        return None
    if not MIN_RETENTION <= query.retention <= MAX_RETENTION:
        raise errors.BadRequest(BAD_RETENTION)
    return query.retention * 1000


def names_filter(query: FilterQuery) -> bool:
    """Whether the query has any field of the filter."""
    return any(
        value is not None
        for value in (
            query.device_id,
            query.network_ids,
            query.device_type_ids,
            query.names,
            query.return_commands,
            query.return_updated_commands,
            query.return_notifications,
        )
    )


def registration(body: Registration) -> tuple[str, str | None, bytes | None]:
    """Name, description, parameters. Raises BadRequest."""
    return _name(body.name), _description(body.description), _parameters(bytes(body.parameters))


def changes(query: UpdateQuery) -> PluginChanges:
    """All but filter and retention. Raises BadRequest."""
    parameters: Maybe[bytes] = UNSET
    if query.parameters is not None:
        try:
            msgspec.json.decode(query.parameters)
        except (msgspec.DecodeError, RecursionError):
            raise errors.BadRequest from None
        parameters = _parameters(query.parameters.encode())
    status: Maybe[int] = UNSET
    if query.status is not None:
        status = _STATUS.get(query.status.upper(), UNSET)
        if status is UNSET:
            raise errors.BadRequest(BAD_STATUS)
    return PluginChanges(
        name=UNSET if query.name is None else _name(query.name),
        description=UNSET if query.description is None else _description(query.description),
        parameters=parameters,
        status=status,
        enabled=UNSET if status is UNSET else status == PLUGIN_ACTIVE,
    )


def names_whole_right(caller: Principal) -> bool:
    """Whether the token is as good as a login: what is registered with it follows its owner where the rights grow,
    while a narrowed token's filter stays within what the token shows."""
    covers = caller.covers_networks(caller.user) and caller.covers_device_types(caller.user)
    return covers and caller.actions >= access.CLIENT_ACTIONS


async def wanted(caller: Principal, query: FilterQuery, existing: Existing, present: Filter | None = None) -> Filter:
    """The filter asked for, within what the caller may see: ids beyond that are left out, and Forbidden is raised where
    none is left. present: what a plugin that changes its own filter stays within. Raises BadRequest, NotFound too."""
    asked = Filter(
        kinds=_kinds(query),
        networks=await _ids(caller, query.network_ids, caller.networks, existing.networks, NO_NETWORKS),
        device_types=await _ids(
            caller, query.device_type_ids, caller.device_types, existing.device_types, NO_DEVICE_TYPES
        ),
        device_id=query.device_id or None,
        names=_names(query.names),
    )
    if asked.device_id is not None:
        await _check_device(caller, asked.device_id, existing)
        # As everywhere in the API a device wins over networks and device types, which are checked all the same.
        asked = replace(asked, networks=None, device_types=None)
    asked = _within(asked, _ceiling(caller))
    return asked if present is None else _within(asked, present)


def _ceiling(caller: Principal) -> Filter:
    if caller.topic is not None or names_whole_right(caller):
        return Filter()
    return Filter(
        networks=_fixed(caller.networks, caller.claims.networks),
        device_types=_fixed(caller.device_types, caller.claims.device_types),
    )


def _fixed(seen: frozenset[int] | None, claimed: list[str] | None) -> list[int] | None:
    return None if seen is None or claimed == [ANY] else sorted(seen)


def _within(asked: Filter, ceiling: Filter) -> Filter:
    if ceiling.device_id is not None and asked.device_id not in (None, ceiling.device_id):
        raise errors.Forbidden
    return Filter(
        kinds=_both(asked.kinds, ceiling.kinds),
        networks=_both(asked.networks, ceiling.networks),
        device_types=_both(asked.device_types, ceiling.device_types),
        device_id=asked.device_id or ceiling.device_id,
        names=_both(asked.names, ceiling.names),
    )


def _both(asked: list[T] | None, ceiling: list[T] | None) -> list[T] | None:
    if asked is None or ceiling is None:
        return asked if ceiling is None else ceiling
    left = [value for value in asked if value in ceiling]
    if not left:
        raise errors.Forbidden
    return left


async def _ids(
    caller: Principal, asked: list[int] | None, seen: frozenset[int] | None, existing: Containers, missing_text: str
) -> list[int] | None:
    if not asked:
        return None
    there = await existing.get_many(asked)
    missing = [id for id in asked if id not in there]
    if missing and caller.sees_everything:
        raise errors.NotFound(missing_text.format(", ".join(map(str, missing))))
    left = [id for id in dict.fromkeys(asked) if id in there and (seen is None or id in seen)]
    if not left:
        raise errors.Forbidden
    return left


async def _check_device(caller: Principal, id: str, existing: Existing) -> None:
    device = await existing.devices.get(id)
    if device is None and caller.sees_everything:
        raise errors.NotFound(f"Device with such deviceId = {id} not found")
    if device is None or not caller.sees(device.network_id, device.device_type_id):
        raise errors.Forbidden


def _kinds(query: FilterQuery) -> list[int] | None:
    asked = {
        COMMAND: query.return_commands,
        UPDATE: query.return_updated_commands,
        NOTIFICATION: query.return_notifications,
    }
    if all(flag is None for flag in asked.values()):
        return None
    kinds = [kind for kind, flag in asked.items() if flag]
    if not kinds:
        raise errors.BadRequest(NO_RETURN)
    return kinds


def _names(names: list[str] | None) -> list[str] | None:
    if not names:
        return None
    if len(names) > NAMES or not all(1 <= len(name) <= 128 for name in names):
        raise errors.BadRequest(BAD_NAMES)
    return list(dict.fromkeys(names))


def _name(name: str | None) -> str:
    if name is None or not _NAME.fullmatch(name):
        raise errors.BadRequest(BAD_NAME)
    return name


def _description(description: str | None) -> str | None:
    if description is not None and not _DESCRIPTION.fullmatch(description):
        raise errors.BadRequest(BAD_DESCRIPTION)
    return description


def _parameters(text: bytes) -> bytes | None:
    parameters = json_object(text)
    if parameters is not None and len(parameters) > PARAMETERS:
        raise errors.BadRequest(LONG_PARAMETERS)
    return parameters

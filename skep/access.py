"""Who may do what. Pure: claims of a token and a user's rights as of now in, a principal out.

Effective rights are what token *and* user allow; nothing ever widens a token. Where DeviceHive was laxer:

| | DeviceHive 3.5 | here |
|---|---|---|
| empty list of actions | all client actions | nothing (`compat`: all client actions) |
| device types in the token of a user with all types | ignored | limit |
| `*` networks in a client's token | partly all | the client's networks |
| token/create | anything for anybody | never more than the caller has (`narrowed`; `compat`: `as_asked`) |
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from msgspec import Struct

from skep.errors import Forbidden, Unauthorized
from skep.tokens import ACCESS, ANY, EXPIRED, Claims

ADMIN, CLIENT = 0, 1
ACTIVE, LOCKED_OUT, DISABLED = 0, 1, 2


class Action(IntEnum):
    """Ids as in a token's `a`. ANY stands for all but NONE; NONE for nothing."""

    ANY = 0
    NONE = 1
    GET_NETWORK = 2
    GET_DEVICE = 3
    GET_DEVICE_NOTIFICATION = 4
    GET_DEVICE_COMMAND = 5
    REGISTER_DEVICE = 6
    CREATE_DEVICE_COMMAND = 7
    UPDATE_DEVICE_COMMAND = 8
    CREATE_DEVICE_NOTIFICATION = 9
    GET_CURRENT_USER = 10
    UPDATE_CURRENT_USER = 11
    MANAGE_USER = 12
    MANAGE_CONFIGURATION = 13
    MANAGE_NETWORK = 14
    MANAGE_TOKEN = 15
    MANAGE_PLUGIN = 16
    GET_DEVICE_TYPE = 17
    MANAGE_DEVICE_TYPE = 18

    @property
    def api_name(self) -> str | None:
        """Name in the API, e.g. "GetDevice"; "*" for ANY; NONE has none."""
        if self is Action.NONE:
            return None
        return ANY if self is Action.ANY else self.name.title().replace("_", "")


ADMIN_ACTIONS: Final = frozenset(
    {Action.MANAGE_USER, Action.MANAGE_CONFIGURATION, Action.MANAGE_NETWORK, Action.MANAGE_DEVICE_TYPE}
)
"""Those a client's login does not grant. An administrator may put them into a client's token all the same."""
ALL_ACTIONS: Final = frozenset(Action) - {Action.ANY, Action.NONE}
CLIENT_ACTIONS: Final = ALL_ACTIONS - ADMIN_ACTIONS
BY_NAME: Final = {action.api_name.lower(): action for action in Action if action.api_name}
"""Actions by their API name in lower case."""


class User(Struct, frozen=True):
    """A user's rights as of now."""

    id: int
    login: str
    role: int
    status: int
    networks: frozenset[int] = frozenset()
    device_types: frozenset[int] = frozenset()
    all_device_types: bool = True


class Principal(Struct, frozen=True):
    """Who calls. `networks`, `device_types`: ids, or None for all. `expires` in ms since the epoch. `user` is the
    owner where `topic` names a plugin's topic."""

    user: User
    actions: frozenset[int]
    networks: frozenset[int] | None
    device_types: frozenset[int] | None
    expires: int
    claims: Claims
    topic: str | None = None

    @property
    def user_id(self) -> int:
        return self.user.id

    @property
    def is_admin(self) -> bool:
        """By role. What an administrator's token does not allow is refused all the same."""
        return self.user.role == ADMIN

    @property
    def sees_everything(self) -> bool:
        """Neither network nor device type limits it: a missing entity may be told from a foreign one."""
        return self.networks is None and self.device_types is None

    @property
    def is_unlimited(self) -> bool:
        """An administrator whose token is narrowed in no way."""
        return self.is_admin and self.sees_everything and self.actions == ALL_ACTIONS

    def covers(self, user: User) -> bool:
        """Whether a login of that user opens no network and no device type that the caller does not see: whoever can
        set its password can be that user. An administrator's opens everything."""
        if self.is_unlimited or user.role == ADMIN:
            return self.is_unlimited
        return self.covers_networks(user) and self.covers_device_types(user)

    def covers_networks(self, user: User) -> bool:
        return _includes(self.networks, networks_of(user))

    def covers_device_types(self, user: User) -> bool:
        return _includes(self.device_types, device_types_of(user))

    def can(self, action: int) -> bool:
        return action in self.actions

    def require(self, action: int) -> None:
        """Raises `Forbidden` without the action."""
        if action not in self.actions:
            raise Forbidden

    def sees_network(self, network_id: int) -> bool:
        return self.networks is None or network_id in self.networks

    def sees_device_type(self, type_id: int) -> bool:
        return self.device_types is None or type_id in self.device_types

    def sees(self, network_id: int, type_id: int) -> bool:
        """Whether a device of that network and device type is visible."""
        return self.sees_network(network_id) and self.sees_device_type(type_id)


def principal(claims: Claims, user: User | None, now_ms: int, compat: bool = False) -> Principal:
    """The principal of an access token; `user` is the token's user, or the owner of the token's plugin.
    compat: an empty list of actions means all client actions. Raises `Unauthorized`."""
    if claims.type != ACCESS:
        raise Unauthorized
    if claims.expires < now_ms:
        raise Unauthorized(EXPIRED)
    if user is None or user.status != ACTIVE or (claims.topic is None and claims.user_id != user.id):
        raise Unauthorized
    is_plugin = claims.topic is not None
    return Principal(
        user=user,
        actions=_actions(claims.actions, compat),
        networks=networks_of(user) if is_plugin else _networks(claims.networks, user),
        device_types=device_types_of(user) if is_plugin else _device_types(claims.device_types, user),
        expires=claims.expires,
        claims=claims,
        topic=claims.topic,
    )


class Wanted(Struct, frozen=True):
    """What POST /token/create asks for. Lists as in `Claims`, except that "*" may stand among ids; None: not given."""

    actions: list[int] | None
    networks: list[str] | None
    device_types: list[str] | None
    expires: int


def narrowed(caller: Principal, target: User, wanted: Wanted) -> Claims:
    """Claims of an access token for `target` that give nothing `caller` does not have. "*" is cut to what the
    caller has. Raises `Forbidden` for anything else beyond that; only administrators act for other users."""
    if caller.topic is not None or (not caller.is_admin and target.id != caller.user_id):
        raise Forbidden
    own = target.id == caller.user_id
    return Claims(
        user_id=target.id,
        actions=narrowed_actions(caller, wanted.actions),
        networks=_narrowed_ids(wanted.networks, caller.networks, caller.claims.networks, own),
        device_types=_narrowed_types(caller, wanted.device_types, own),
        expires=wanted.expires,
        type=ACCESS,
    )


def as_asked(target: User, wanted: Wanted) -> Claims:
    """As DeviceHive answers POST /token/create: whatever was asked for, whoever asks. For `compat` alone."""
    actions = [int(Action.NONE)] if wanted.actions is None else wanted.actions
    return Claims(target.id, actions, wanted.networks, wanted.device_types, wanted.expires)


def login_claims(user: User, expires: int) -> Claims:
    """What a login grants: an administrator everything, a client the client actions within its assignments."""
    if user.role == ADMIN:
        return Claims(user.id, [int(Action.ANY)], [ANY], [ANY], expires)
    types = [ANY] if user.all_device_types else _texts(user.device_types)
    return Claims(user.id, sorted(CLIENT_ACTIONS), _texts(user.networks), types, expires)


def _actions(actions: list[int] | None, compat: bool) -> frozenset[int]:
    if actions is None:
        return frozenset()
    if Action.ANY in actions:
        return ALL_ACTIONS
    if not actions and compat:
        return CLIENT_ACTIONS
    return frozenset(actions) & ALL_ACTIONS


def networks_of(user: User) -> frozenset[int] | None:
    """Ids, or None for all."""
    return None if user.role == ADMIN else user.networks


def device_types_of(user: User) -> frozenset[int] | None:
    """Ids, or None for all."""
    return None if user.role == ADMIN or user.all_device_types else user.device_types


def _networks(ids: list[str] | None, user: User) -> frozenset[int] | None:
    return frozenset() if ids is None else _both(ids, networks_of(user))


def _device_types(ids: list[str] | None, user: User) -> frozenset[int] | None:
    if ids is not None:
        return _both(ids, device_types_of(user))
    # Tokens of clients that know no device types have none; the reference gives them all, if the user has all.
    return None if user.all_device_types else frozenset()


def _includes(ids: frozenset[int] | None, others: frozenset[int] | None) -> bool:
    return ids is None or (others is not None and others <= ids)


def _both(ids: list[str], allowed: frozenset[int] | None) -> frozenset[int] | None:
    if ANY in ids:
        return allowed
    listed = frozenset(map(int, ids))
    return listed if allowed is None else listed & allowed


def narrowed_actions(caller: Principal, wanted: list[int] | None) -> list[int]:
    """The actions of a token that the caller makes: ANY is cut to the caller's, none given is none. Raises `Forbidden`
    for others than the caller's."""
    if not wanted:
        return [int(Action.NONE)]
    if Action.ANY in wanted:
        return [int(Action.ANY)] if caller.actions == ALL_ACTIONS else sorted(caller.actions) or [int(Action.NONE)]
    if not caller.actions.issuperset(frozenset(wanted) - {Action.NONE}):
        raise Forbidden
    return wanted


def _narrowed_types(caller: Principal, wanted: list[str] | None, own: bool) -> list[str] | None:
    if wanted is None and caller.device_types is not None:
        wanted = [ANY]  # None would give all types of the target; as a wildcard it is cut to the caller's
    return _narrowed_ids(wanted, caller.device_types, caller.claims.device_types, own)


def _narrowed_ids(
    wanted: list[str] | None, held: frozenset[int] | None, claimed: list[str] | None, own: bool
) -> list[str] | None:
    if wanted is None:
        return None
    if ANY in wanted:
        # For oneself a wildcard stays what it is in the caller's token, so that it follows later assignments.
        return [ANY] if held is None or (own and claimed == [ANY]) else _texts(held)
    # An id of the caller's own token may have been withdrawn from the user since: it gives nothing, and clients that
    # copy the ids of their token (npm does at each connect) still get in.
    copied = frozenset(claimed) if own and claimed else frozenset()
    if held is not None and not all(text in copied or int(text) in held for text in wanted):
        raise Forbidden
    return wanted


def _texts(ids: frozenset[int]) -> list[str]:
    return [str(i) for i in sorted(ids)]

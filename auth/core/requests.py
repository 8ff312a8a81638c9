"""Bodies of the token API, lenient in form and strict in content."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from skep.access import BY_NAME, Action, Wanted
from skep.errors import BadRequest
from skep.tokens import ANY
from skep.wire.token_api import CreateBody

NO_USER = (
    "Error! Make sure, that the passed object is correct and properly structured. Validation failed: \n"
    "On property userId (value: null): User id is required ; "
)


class CreateRequest(CreateBody, rename="camel"):
    """Body of POST /token/create."""

    @property
    def target(self) -> int:
        if self.user_id is None:
            raise BadRequest(NO_USER)
        return self.user_id

    def wanted(self, expires: int) -> Wanted:
        """Raises `BadRequest`."""
        return Wanted(_actions(self.actions), _ids(self.network_ids), _ids(self.device_type_ids), expires)


class TokenPair(Struct, rename="camel"):
    access_token: str
    refresh_token: str


class AccessToken(Struct, rename="camel"):
    access_token: str


def _actions(given: list[Any] | None) -> list[int] | None:
    """Ids; what is unknown is dropped, as the reference does."""
    if given is None:
        return None
    found: list[int] = []
    for value in given:
        if type(value) is int or (type(value) is float and value.is_integer()):
            found += [int(value)] if value in Action.__members__.values() else []
        elif isinstance(value, str):
            action = BY_NAME.get(value.lower())
            found += [int(action)] if action is not None else []
        else:
            raise BadRequest
    return list(dict.fromkeys(found))


def _ids(given: list[str] | None) -> list[str] | None:
    if given is None or given == [ANY]:
        return given
    if not all(text.isascii() and text.isdigit() and len(text) <= 18 for text in given):
        raise BadRequest
    return list(dict.fromkeys(given))

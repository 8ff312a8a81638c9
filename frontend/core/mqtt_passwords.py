"""Passwords for brokers that keep their clients themselves, which devices then do not share with people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frontend.core.users import Users
from skep import errors, mqtt_passwords
from skep.access import Principal
from skep.tokens import Keys

if TYPE_CHECKING:
    from skep.metadata.mqtt_passwords import MqttAccount
    from skep.metadata.mqtt_passwords import MqttPasswords as Repository


class MqttPasswords:
    """Whoever may set a user's password may make and take these. keys: those of the tokens."""

    def __init__(self, repository: Repository, users: Users, keys: Keys) -> None:
        self._repository, self._users, self._keys = repository, users, keys

    async def make(self, caller: Principal, id: int) -> tuple[MqttAccount, str]:
        """A new one, which ends the one before; nobody can ask for it again. Raises NotFound, Forbidden."""
        await self._users.check_password_change(caller, id)
        name = mqtt_passwords.key_name(self._keys)
        made = await self._repository.make(id, mqtt_passwords.salt(), name)
        password = mqtt_passwords.password(self._keys, name, id, made.salt)
        if password is None:
            raise errors.Internal
        return made, password

    async def take(self, caller: Principal, id: int) -> None:
        """Also where there is none. Raises NotFound, Forbidden."""
        await self._users.check_password_change(caller, id)
        await self._repository.take(id)

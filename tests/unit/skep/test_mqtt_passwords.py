import pytest

from skep import mqtt_passwords
from skep.tokens import Keys

OLD, NEW = Keys((b"old",)), Keys((b"new", b"old"))
SALT = bytes(range(mqtt_passwords.SALT_BYTES))


def made(keys: Keys, user_id: int = 7, salt: bytes = SALT) -> str | None:
    return mqtt_passwords.password(keys, mqtt_passwords.key_name(keys), user_id, salt)


def test_the_same_again():
    password = made(OLD)
    assert password == made(OLD)
    assert password is not None
    assert len(password) == 32


@pytest.mark.parametrize("other", [made(OLD, 8), made(OLD, 7, mqtt_passwords.salt()), made(NEW)])
def test_another_user_salt_or_secret_gives_another_one(other):
    assert other != made(OLD)


def test_a_secret_that_is_replaced_makes_its_passwords_until_it_is_gone():
    name = mqtt_passwords.key_name(OLD)
    assert mqtt_passwords.password(NEW, name, 7, SALT) == made(OLD)
    assert mqtt_passwords.password(Keys((b"new",)), name, 7, SALT) is None


def test_a_salt_is_not_given_twice():
    assert len({mqtt_passwords.salt() for _ in range(100)}) == 100

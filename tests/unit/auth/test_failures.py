import pytest

from auth.core import failures
from auth.core.failures import Failures
from skep.errors import TooManyRequests


def wait(made: Failures, login: str, address: str, now: float) -> int:
    try:
        made.check(login, address, now)
    except TooManyRequests as error:
        return error.retry_after
    return 0


def test_a_login_from_one_address() -> None:
    made = Failures(10, 50)
    for second in range(10):
        assert wait(made, "a", "1.1.1.1", second) == 0
        made.failed("a", "1.1.1.1", second)
    assert wait(made, "a", "1.1.1.1", 10) == 51
    assert wait(made, "a", "2.2.2.2", 10) == 0  # its owner elsewhere is not locked out
    assert wait(made, "b", "1.1.1.1", 10) == 0
    assert wait(made, "a", "1.1.1.1", 60) == 0  # the first failure is a minute old


def test_an_address_with_many_logins() -> None:
    made = Failures(10, 50)
    for number in range(50):
        made.failed(f"user{number}", "1.1.1.1", number / 10)
    assert wait(made, "other", "1.1.1.1", 5) == 56
    assert wait(made, "other", "2.2.2.2", 5) == 0


def test_success_resets_the_login_but_not_the_address() -> None:
    made = Failures(2, 4)
    for _ in range(2):
        made.failed("a", "1.1.1.1", 0)
        made.failed("b", "1.1.1.1", 0)
        made.succeeded("a", "1.1.1.1")
    assert wait(made, "a", "1.1.1.1", 1) > 0
    assert wait(made, "a", "1.1.1.1", 61) == 0


def test_an_ipv6_network_is_one_place() -> None:
    made = Failures(1, 50)
    made.failed("a", "2001:db8::1", 0)
    assert wait(made, "a", "2001:db8::ffff", 0) > 0
    assert wait(made, "a", "2001:db8:0:1::1", 0) == 0
    made.failed("a", "fe80::1%eth0", 0)
    assert wait(made, "a", "fe80::2%eth1", 0) > 0
    made.failed("a", "no:address", 0)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "MAX_KEYS", 10)
    made = Failures(1, 50)
    for number in range(100):
        made.failed(f"user{number}", "1.1.1.1", 0)
    assert len(made._times) == 10

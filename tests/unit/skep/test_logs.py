import logging
import sys

import pytest

from skep import logs, tokens

TOKEN = tokens.encode(tokens.Claims(1, [0], ["*"], ["*"], 5), tokens.Keys.parse("x"))


def line(message: str, *args: object, error: bool = False) -> str:
    record = logging.LogRecord("auth", logging.INFO, "f", 1, message, args, sys.exc_info() if error else None)
    return logs.Formatter().format(record)


@pytest.mark.parametrize(
    "text",
    [
        '{"login": "a", "password": "HUSH"}',
        '{"login": "a", "password": "HU\\"HUSH"}',
        "{'password': 'HUSH'}",
        '"{\\"password\\":\\"HUSH\\"}"',
        "password=HUSH&login=a",
        "Credentials(login='a', password='HUSH')",
        "/token/plugin/authenticate?token=HUSH",
        "Authorization: Bearer HUSH",
        "postgresql://skep:HUSH@127.0.0.1/skep",
        '{"refreshToken": "HUSH"}',
        "BUS_SECRET=HUSH",
    ],
)
def test_masked(text: str) -> None:
    assert "HUSH" not in logs.mask(text)


def test_tokens_are_masked_wherever_they_stand() -> None:
    assert logs.mask(f"x {TOKEN} y") == "x *** y"
    assert "eyJ" not in logs.mask(TOKEN[:40])


def test_the_rest_is_left() -> None:
    text = "device e50d6085-2aba-48e9-b1c3-73c673e414be: 5 notifications at ws://127.0.0.1:3000"
    assert logs.mask(text) == text


def test_one_line() -> None:
    try:
        raise ValueError(f"two\nlines with {TOKEN}")
    except ValueError:
        made = line('said "%s"', "a\nb", error=True)
    assert "\n" not in made
    assert 'level=info logger=auth msg="said \\"a\\nb\\""' in made
    assert "ValueError: two\\nlines with ***" in made


def test_request_id() -> None:
    assert "request=" not in line("x")
    reset = logs.request_id.set("abc-1")
    try:
        assert " request=abc-1 msg=" in line("x")
    finally:
        logs.request_id.reset(reset)

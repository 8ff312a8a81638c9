from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.api import frames
from frontend.api.frames import Reader

LIMIT = 70_000
MASK = b"\x01\x02\x03\x04"


def client(opcode: int, payload: bytes, fin: bool = True, mask: bool = True, reserved: int = 0) -> bytes:
    made = bytearray(frames.header(opcode, len(payload)))
    made[0] = (made[0] & 0x7F) | (0x80 if fin else 0) | reserved
    if not mask:
        return bytes(made) + payload
    made[1] |= 0x80
    return bytes(made) + MASK + bytes(b ^ MASK[i % 4] for i, b in enumerate(payload))


TEXT = frames.TEXT
GOOD = [
    ("text", client(TEXT, b"hello"), [(TEXT, b"hello")]),
    ("empty", client(TEXT, b""), [(TEXT, b"")]),
    ("UTF-8", client(TEXT, "grün €".encode()), [(TEXT, "grün €".encode())]),
    ("16 bit length", client(TEXT, b"x" * 126), [(TEXT, b"x" * 126)]),
    ("64 bit length", client(TEXT, b"x" * LIMIT), [(TEXT, b"x" * LIMIT)]),
    ("two", client(TEXT, b"a") + client(TEXT, b"b"), [(TEXT, b"a"), (TEXT, b"b")]),
    (
        "fragments with a ping between them, a character split",
        client(TEXT, "€".encode()[:1], fin=False)
        + client(frames.PING, b"p")
        + client(frames.CONTINUATION, "€".encode()[1:2], fin=False)
        + client(frames.CONTINUATION, "€".encode()[2:]),
        [(frames.PING, b"p"), (TEXT, "€".encode())],
    ),
    ("close", client(frames.CLOSE, b"\x03\xe8bye"), [(frames.CLOSE, b"\x03\xe8bye")]),
]
BAD = [
    ("not masked", client(TEXT, b"a", mask=False), 1002),
    ("reserved bit", client(TEXT, b"a", reserved=0x40), 1002),
    ("reserved data opcode", client(3, b"a"), 1002),
    ("reserved control opcode", client(0xB, b"a"), 1002),
    ("continuation of nothing", client(frames.CONTINUATION, b"a"), 1002),
    ("text inside a fragmented text", client(TEXT, b"a", fin=False) + client(TEXT, b"b"), 1002),
    ("fragmented ping", client(frames.PING, b"a", fin=False), 1002),
    ("long ping", client(frames.PING, b"a" * 126), 1002),
    ("binary", client(frames.BINARY, b"a"), 1003),
    ("invalid UTF-8", client(TEXT, b"\xff"), 1007),
    ("half a character", client(TEXT, "€".encode()[:2]), 1007),
    ("a surrogate", client(TEXT, b"\xed\xa0\x80"), 1007),
    ("too large", client(TEXT, b"x" * (LIMIT + 1))[:20], 1009),
    ("2^63", b"\x81\xff" + b"\xff" * 8, 1009),
    ("fragments too large", client(TEXT, b"x" * LIMIT, fin=False) + client(frames.CONTINUATION, b"x"), 1009),
]


@pytest.mark.parametrize(("data", "messages"), [c[1:] for c in GOOD], ids=[c[0] for c in GOOD])
@pytest.mark.parametrize("step", [1, 2, 3, 7, 1 << 20])
def test_good(data: bytes, messages: list[frames.Message], step: int) -> None:
    reader, got = Reader(LIMIT), []
    for at in range(0, len(data), step):
        found, broken = reader.feed(data[at : at + step])
        assert broken is None
        got += found
    assert got == messages


@pytest.mark.parametrize(("data", "code"), [c[1:] for c in BAD], ids=[c[0] for c in BAD])
def test_bad(data: bytes, code: int) -> None:
    before, broken = Reader(LIMIT).feed(client(TEXT, b"first") + data)
    assert before[0] == (TEXT, b"first")
    assert broken is not None
    assert broken.code == code


@given(st.lists(st.text(max_size=300), max_size=5), st.integers(1, 50))
def test_any_cut_gives_the_same(texts: list[str], step: int) -> None:
    data = b"".join(client(TEXT, text.encode()) for text in texts)
    reader, got = Reader(LIMIT), []
    for at in range(0, len(data), step):
        got += reader.feed(data[at : at + step])[0]
    assert [payload.decode() for _, payload in got] == texts


@given(st.binary(max_size=200))
def test_garbage_never_raises(data: bytes) -> None:
    Reader(LIMIT).feed(data)


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", 1005),
        (b"\x03\xe8", 1000),
        (b"\x0b\xb8", 3000),
        (b"\x03", 1002),
        (b"\x03\xed", 1002),
        (b"\x00\x01", 1002),
        (b"\x03\xe8\xff", 1007),
    ],
)
def test_answer_to_a_close(payload: bytes, code: int) -> None:
    assert frames.close_answer(payload) == code

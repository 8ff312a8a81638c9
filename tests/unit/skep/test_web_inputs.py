"""Bodies and query strings into structs."""

import contextlib
import json as builtin_json
import time
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Raw, Struct

from skep import web
from skep.errors import BadRequest, MalformedJson, NotFound
from skep.web import json
from skep.web import query as queries


class When(int):
    @classmethod
    def parse(cls, value: Any) -> "When":
        if value == "bad":
            raise BadRequest("Unparseable timestamp")
        return cls(int(value))


class Part(Struct, rename="camel"):
    device_name: str | None = None


class Body(Struct, rename="camel"):
    login: str
    network_id: int | None = None
    on: bool = False
    names: list[str] | None = None
    parameters: Raw = json.NULL
    part: Part | None = None
    at: When | None = None


DECODER = web.Decoder(Body)
MEGABYTE = 1 << 20


def decode(text: str | bytes) -> Body:
    return DECODER.decode(text.encode() if isinstance(text, str) else text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"login": 1111}', Body("1111")),
        ('{"login": -1.5e3}', Body("-1.5e3")),
        ('{"login": true}', Body("true")),
        ('{"login": "a", "networkId": "5"}', Body("a", 5)),
        ('{"login": "a", "networkId": 5.0}', Body("a", 5)),
        ('{"login": "a", "on": "true"}', Body("a", on=True)),
        ('{"login": "\\\\u0000", "parameters": "\\u0000"}', Body("\\u0000", parameters=Raw(b'"\\u0000"'))),
        ('{"login": "a", "names": [1, "b"]}', Body("a", names=["1", "b"])),
        ('{"login": "a", "part": {"deviceName": 7, "x": 1}}', Body("a", part=Part("7"))),
        ('{"login": "a", "at": "15"}', Body("a", at=When(15))),
        ('{"login": "a", "unknown": [1, {"x": null}], "id": 5}', Body("a")),
        ('{"login": "a", "login": "b"}', Body("b")),
        ('{"login": "a", "unknown": ' + "1" * 299 + "}", Body("a")),
        (' {"login": "é\\u00e9\\ud83d\\ude00"} ', Body("éé😀")),
    ],
)
def test_lenient(text: str, expected: Body) -> None:
    got = decode(text)
    assert [getattr(got, f) for f in Body.__struct_fields__ if f != "parameters"] == [
        getattr(expected, f) for f in Body.__struct_fields__ if f != "parameters"
    ]


def test_a_number_stays_one_where_both_are_read() -> None:
    class Either(Struct):
        name: str
        at: str | int | float | None = None

    read = web.Decoder(Either).decode(b'{"name": true, "at": -1.5}')
    assert (read.name, read.at) == ("true", -1.5)


TRICKY = st.text(st.sampled_from('[]{}"\\\\ a1,:'), max_size=12)


@given(
    st.recursive(
        TRICKY | st.none(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TRICKY, inner, max_size=3)
    ),
    st.integers(55, 70),
    st.integers(0, 80),
)
def test_depth_counts_brackets_outside_of_strings(value: Any, layers: int, width: int) -> None:
    def depth(value: Any) -> int:
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if inside is None else 1 + max(map(depth, inside), default=0)

    value = [value, *([[]] * width)]
    for _ in range(layers):
        value = [value]
    text = builtin_json.dumps(value).encode()
    if depth(value) > json.MAX_DEPTH:
        with pytest.raises(MalformedJson):
            json.guard(text)
    else:
        json.guard(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "[]",
        "5",
        "null",
        '{"login": "a"',
        '{"login": "a",}',
        "{}",
        '{"login": null}',
        '{"login": {}}',
        '{"login": [1]}',
        '{"login": "a", "networkId": "x"}',
        '{"login": "a", "networkId": 1.5}',
        '{"login": "a", "networkId": true}',
        '{"login": "a", "networkId": 9223372036854775808}',
        '{"login": "a", "names": "b"}',
        '{"login": "a", "parameters": {"x": NaN}}',
        '{"login": "a", "parameters": {"x": Infinity}}',
        '{"login": "a", "parameters": {"x": "\\ud800"}}',
        '{"login": "a\\u0000"}',
        '{"login": "a", "names": ["b", "\\u0000"]}',
        '{"login": "a", "part": {"deviceName": "\\u0000"}}',
        '{"login": "a", "parameters": {"x": "\x00"}}',
        '{"login": "\\udc00"}',
        '{"login": "a", "parameters": ' + "1" * 4000 + "}",
        '{"login": "a", "parameters": {"x": -' + "1" * 300 + "}}",
        b'\xef\xbb\xbf{"login": "a"}',
        b'{"login": "\xff"}',
        b'{"login": "a", "parameters": {"x": "\xed\xa0\x80"}}',
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"login": "a", "parameters": ' + "[" * 64 + "]" * 64 + "}",
    ],
)
def test_refused(text: str | bytes) -> None:
    with pytest.raises(MalformedJson):
        decode(text)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * MEGABYTE,
        b'{"a":' * (MEGABYTE // 5),
        b'{"parameters": [' + b",".join([b"[" * 60 + b"]" * 60] * (MEGABYTE // 122)) + b"]}",
        b'{"login": "' + b"[" * 70 + b'", "parameters": [' + b'"",' * (MEGABYTE // 3 - 50) + b"1]}",
        b'{"login": "' + b"\\\\" * (MEGABYTE // 2 - 10) + b'"}',
        b'{"' + b'":1,"'.join(b"%d" % i for i in range(MEGABYTE // 11)) + b'":1}',
    ],
    ids=["open", "objects", "layers", "strings", "escapes", "keys"],
)
def test_no_body_stops_the_process_for_long(text: bytes) -> None:
    """CPU time, ten times what it takes where nothing else runs."""
    began = time.process_time()
    with contextlib.suppress(MalformedJson):
        decode(text)
    assert time.process_time() - began < 0.5


def test_depth_limit_is_exact() -> None:
    assert decode('{"login": "a", "parameters": ' + "[" * 63 + "]" * 63 + "}").login == "a"


def test_brackets_in_strings_are_no_depth() -> None:
    text = "[{" * 200 + '\\"'
    assert decode(f'{{"login": "{text}"}}').login == text.replace("\\", "")


def test_wide_is_not_deep() -> None:
    assert decode('{"login": "a", "parameters": [' + ",".join(["[[]]"] * 10_000) + "]}").login == "a"


def test_long_fractions_and_digits_in_text_are_no_large_integers() -> None:
    text = '{"login": "' + "1" * 30 + '", "parameters": {"x": 0.' + "1" * 30 + "}}"
    assert decode(text).login == "1" * 30


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.text(),
        lambda c: st.lists(c) | st.dictionaries(st.text(), c),
    )
)
def test_json_objects_pass_untouched(value: Any) -> None:
    encoded = json.encode(value)
    body = decode(b'{"login": "a", "parameters": ' + encoded + b"}")
    if isinstance(value, dict):
        assert json.json_object(body.parameters) == encoded
    elif value is None:
        assert json.json_object(body.parameters) is None
    else:
        with pytest.raises(BadRequest, match=r"^'parameters' must be JSON Object!$"):
            json.json_object(body.parameters)


@given(st.binary() | st.text(alphabet='[]{}",:\\u0d8 1a').map(str.encode))
def test_any_bytes(data: bytes) -> None:
    with contextlib.suppress(MalformedJson):
        DECODER.decode(data)


class Query(Struct, rename="camel"):
    name_pattern: str | None = None
    take: Annotated[int, Meta(ge=0, le=1000)] = 100
    force: bool = False
    network_ids: list[int] | None = None
    names: list[str] | None = None
    timestamp: When | None = None


QUERY = queries.Decoder(Query)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Query()),
        ("namePattern=%25a+b%C3%A9&x=1&take=5", Query("%a bé", 5)),
        ("take=1&take=x", Query(take=1)),
        ("force=True", Query(force=True)),
        ("force=1", Query()),
        ("networkIds=1,%202,,3", Query(network_ids=[1, 2, 3])),
        ("names=a%2Cb,c", Query(names=["a", "b", "c"])),
        ("timestamp=5", Query(timestamp=When(5))),
        ("namePattern=", Query("")),
        ("namePattern", Query("")),
    ],
)
def test_query(text: str, expected: Query) -> None:
    assert QUERY.decode(text) == expected


@pytest.mark.parametrize("text", ["take=x", "take=", "take=1.5", "take=%D9%A1", "take=" + "9" * 19, "networkIds=1,x"])
def test_query_numbers_are_404_as_in_the_reference(text: str) -> None:
    with pytest.raises(NotFound):
        QUERY.decode(text)


@pytest.mark.parametrize(
    "text", ["take=-1", "take=1001", "namePattern=%FF", "namePattern=a%00", "timestamp=bad", "a=1&" * 300]
)
def test_query_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        QUERY.decode(text)


def test_a_query_type_that_can_not_be_read_fails_at_import() -> None:
    class Bad(Struct):
        x: dict[str, int] | None = None

    with pytest.raises(TypeError, match="can't be a query parameter"):
        queries.Decoder(Bad)

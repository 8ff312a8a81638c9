import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skep import tokens
from skep.errors import Unauthorized
from skep.tokens import Claims, Keys
from tests.cases import tokens as cases
from tests.cases.forgeries import forgeries, service_forgeries

KEYS = Keys((cases.KEY,))
HS256 = {"alg": "HS256"}


def decode(token: str) -> Claims:
    return tokens.decode(token, KEYS, cases.NOW)


@pytest.mark.parametrize("payload", cases.GOOD.values(), ids=list(cases.GOOD))
def test_good_payloads(payload: dict) -> None:
    claims = decode(cases.forged(HS256, payload))
    assert (claims.user_id, claims.topic) == (payload.get("u"), payload.get("tpc"))
    assert (claims.actions, claims.networks, claims.device_types) == (
        payload.get("a"),
        payload.get("n"),
        payload.get("dt"),
    )
    assert (claims.expires, claims.type) == (payload["e"], payload["t"])


@pytest.mark.parametrize("payload", cases.BAD.values(), ids=list(cases.BAD))
def test_bad_payloads(payload: object) -> None:
    with pytest.raises(Unauthorized) as refused:
        decode(cases.forged(HS256, payload))
    assert refused.value.text == "Unauthorized"


@pytest.mark.parametrize("payload", cases.EXPIRED.values(), ids=list(cases.EXPIRED))
def test_expired(payload: dict) -> None:
    with pytest.raises(Unauthorized, match=r"^Token expired$"):
        decode(cases.forged(HS256, payload))


@pytest.mark.parametrize("header", cases.HEADERS.values(), ids=list(cases.HEADERS))
def test_refused_headers(header: dict) -> None:
    digest = {"HS384": "sha384", "HS512": "sha512"}.get(str(header.get("alg")), "sha256")
    for token in (cases.forged(header, cases.USER, digest=digest), cases.unsigned(header, cases.USER)):
        with pytest.raises(Unauthorized):
            decode(token)


@pytest.mark.parametrize("header", cases.IGNORED.values(), ids=list(cases.IGNORED))
def test_header_fields_mean_nothing(header: dict) -> None:
    assert decode(cases.forged(header, cases.USER)).user_id == 1


def test_unsigned_with_the_right_header() -> None:
    with pytest.raises(Unauthorized):
        decode(cases.unsigned(HS256, cases.USER))


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "é.b.c", "\ud800", "." * 5000, "x" * 100_000, "Bearer x"])
def test_garbage(token: str) -> None:
    with pytest.raises(Unauthorized):
        decode(token)


@pytest.mark.parametrize("base", [cases.USER, cases.PLUGIN, {**cases.USER, "t": 0}], ids=["user", "plugin", "refresh"])
def test_forgeries(base: dict) -> None:
    assert decode(cases.forged(HS256, base)).type == base["t"]
    made = forgeries(base, cases.KEY, cases.NOW)
    assert len(made) > 100
    for name, token in made.items():
        with pytest.raises(Unauthorized):
            pytest.fail(f"{name}: {decode(token)}")


@given(st.one_of(st.integers(), st.floats(), st.text(), st.booleans(), st.none(), st.lists(st.integers())))
def test_no_expiry_but_a_later_integer_is_accepted(expires: object) -> None:
    token = cases.forged(HS256, {**cases.USER, "e": expires})
    accepted = type(expires) is int and cases.NOW <= expires < 2**53
    if accepted:
        assert decode(token).expires == expires
    else:
        with pytest.raises(Unauthorized):
            decode(token)


@given(
    st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists),
    st.sampled_from("uantdpec"),
)
def test_any_value_in_any_field_is_read_exactly_or_refused(value: object, letter: str) -> None:
    name = {"d": "dt", "p": "tpc", "c": "payload"}.get(letter, letter)
    try:
        claims = decode(cases.forged(HS256, {**cases.USER, name: value}))
    except Unauthorized:
        return
    for ids in (claims.networks, claims.device_types):
        assert ids is None or ids == ["*"] or all(i.isdigit() for i in ids)
    assert type(claims.user_id) is int
    assert claims.actions is None or all(type(a) is int and 0 <= a <= 18 for a in claims.actions)


@given(
    st.one_of(
        st.builds(
            Claims,
            user_id=st.integers(1, 2**63 - 1),
            actions=st.none() | st.lists(st.integers(0, 18)),
            networks=st.none() | st.just(["*"]) | st.lists(st.integers(0, 10**17).map(str)),
            device_types=st.none() | st.just(["*"]) | st.lists(st.integers(0, 10**17).map(str)),
            expires=st.integers(cases.NOW, 2**53 - 1),
            type=st.sampled_from((0, 1)),
        ),
        st.builds(
            lambda topic: Claims(None, [16], None, None, cases.LATER, 1, topic),
            st.text(st.characters(codec="utf-8"), min_size=1, max_size=50),
        ),
    )
)
def test_round_trip(claims: Claims) -> None:
    assert decode(tokens.encode(claims, KEYS)) == claims


def test_wire_form_is_the_reference_s() -> None:
    header, body, _ = tokens.encode(Claims(1, [0], ["*"], ["*"], 5), KEYS).split(".")
    assert tokens.jwt.utils.base64url_decode(header) == b'{"alg":"HS256"}'
    assert json.loads(tokens.jwt.utils.base64url_decode(body)) == {
        "payload": {"u": 1, "a": [0], "n": ["*"], "dt": ["*"], "e": 5, "t": 1}
    }
    body = tokens.encode(Claims(None, [16], None, None, 5, 0, "plugin_topic_x"), KEYS).split(".")[1]
    assert json.loads(tokens.jwt.utils.base64url_decode(body)) == {
        "payload": {"a": [16], "e": 5, "t": 0, "tpc": "plugin_topic_x"}
    }


def test_rotation() -> None:
    claims = Claims(1, [0], ["*"], ["*"], cases.LATER)
    old = tokens.encode(claims, Keys.parse("old"))
    both = Keys.parse("new, old")
    assert tokens.decode(old, both, cases.NOW) == claims
    assert tokens.encode(claims, both) == tokens.encode(claims, Keys.parse("new"))
    with pytest.raises(Unauthorized):
        tokens.decode(old, Keys.parse("new"), cases.NOW)


@pytest.mark.parametrize(
    ("secret", "key"),
    [
        ("devicehive", "75 eb e2 71 e8 62"),  # verified against tokens of the reference
        ("devicehi", "75 eb e2 71 e8 62"),
        ("dev-ice_hi!", "75 eb e2 71 e8 62"),
        ("AAAA", "00 00 00"),
        ("AAA", ""),
        ("//8=", "ff ff"),
        ("/w==", "ff"),
    ],
)
def test_base64_reading(secret: str, key: str) -> None:
    assert tokens.jjwt_key(secret).hex(" ") == key


def test_base64_is_another_key_than_utf8() -> None:
    token = tokens.encode(Claims(1, [0], ["*"], ["*"], cases.LATER), Keys.parse("devicehive", base64=True))
    with pytest.raises(Unauthorized):
        tokens.decode(token, Keys.parse("devicehive"), cases.NOW)


@pytest.mark.parametrize("secret", ["", ",", " , "])
def test_empty_secret(secret: str) -> None:
    with pytest.raises(ValueError, match="empty secret"):
        Keys.parse(secret)


def test_base64_secret_without_a_whole_group() -> None:
    with pytest.raises(ValueError, match="empty secret"):
        Keys.parse("abc", base64=True)


def test_service_tokens() -> None:
    token = tokens.encode_service("backend", "backend-1", "new,old", 100)
    assert tokens.decode_service(token, "new", 100) == ("backend", "backend-1")
    with pytest.raises(Unauthorized, match=r"^Token expired$"):
        tokens.decode_service(token, "new", 101)
    with pytest.raises(Unauthorized):
        tokens.decode_service(token, "old", 100)


def test_users_and_services_tokens_are_no_substitutes() -> None:
    secret = cases.KEY.decode()
    with pytest.raises(Unauthorized):
        tokens.decode_service(cases.forged(HS256, cases.USER), secret, cases.NOW)
    with pytest.raises(Unauthorized):
        decode(tokens.encode_service("frontend", "frontend-1", secret, cases.LATER))


def test_forged_service_tokens() -> None:
    """Which services and instances there are is the bus's to judge."""
    base = {"service": "tool", "instance": "tool-1", "expires": cases.LATER}
    made = service_forgeries(base, cases.KEY, cases.NOW)
    assert len(made) > 60
    for name, token in made.items():
        try:
            service, instance = tokens.decode_service(token, cases.KEY.decode(), cases.NOW)
        except Unauthorized:
            continue
        assert name.startswith("claims: "), name
        assert (service, instance) != ("tool", "tool-1"), name

"""The OpenAPI document: valid, complete, and as lenient as the decoders."""

from __future__ import annotations

import json as stdlib
import re
from datetime import datetime
from typing import Annotated, Any, ClassVar

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Meta, Raw, Struct
from schemathesis.specs.openapi.definitions import OPENAPI_31

from auth.api import rest as auth_rest
from auth.core import requests as token_requests
from frontend.api import rest as frontend_rest
from skep import errors, web
from skep.access import Action
from skep.errors import BadRequest, MalformedJson, SkepError
from skep.metadata.users import check_login
from skep.web import json, openapi, schemas
from skep.web import query as queries
from skep.wire import fields, timestamps
from skep.wire.fields import Integer, JsonObject, Login, Natural, Order, Role, Time, Timestamp
from skep.wire.token_api import Ids

DOCUMENTS = {
    "/api/rest": frontend_rest.routes,
    "/auth/rest": [*web.collect(auth_rest), web.info_route("/x")],
}


class Body(Struct, rename="camel"):
    """What is sent."""

    required: ClassVar = ("login",)

    login: Login | None = None
    network_id: Integer | None = None
    role: Role | None = None
    on: bool | None = None
    names: list[str] | None = None
    ids: Ids | None = None
    parameters: JsonObject = json.NULL
    at: Time | None = None


class Query(Struct, rename="camel"):
    take: Natural = 100
    sort_order: Order | None = None
    network_ids: list[int] | None = None
    force: bool = False
    since: Time | None = None


class Headers(Struct, rename={"key": "Idempotency-Key"}):
    key: Annotated[str, Meta(max_length=5)] | None = None


class View(Struct, rename="camel"):
    last_seen: Timestamp | None
    parameters: JsonObject


@web.route(
    "POST",
    "/device/{deviceId}/note",
    action=Action.GET_DEVICE,
    query=Query,
    headers=Headers,
    body=Body,
    status=201,
    errors=(errors.Conflict,),
    bare=(404,),
    also={204: None},
)
async def post_note(
    ctx: web.Context, device_id: str, query: Query, headers: Headers, body: Body
) -> View | web.Response:
    """Say it.

    At length.
    """
    raise NotImplementedError


@web.route("GET", "/", action=None, content_type="text/plain; charset=utf-8")
async def get_welcome(ctx: web.Context) -> web.Response:
    """Hello."""
    raise NotImplementedError


def document(*sources: Any) -> dict[str, Any]:
    return stdlib.loads(stdlib.dumps(openapi.document(web.collect(*sources), "/x/rest")))


DOCUMENT = document(post_note, get_welcome)
POST = DOCUMENT["paths"]["/device/{deviceId}/note"]["post"]


def validator(name: str) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for({"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]})


@pytest.mark.parametrize("prefix", DOCUMENTS)
def test_the_services_documents_are_valid(prefix: str) -> None:
    made = stdlib.loads(stdlib.dumps(openapi.document(DOCUMENTS[prefix], prefix)))
    assert [str(error) for error in jsonschema_rs.validator_for(OPENAPI_31).iter_errors(made)] == []
    operations = [operation for methods in made["paths"].values() for operation in methods.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations) == len(DOCUMENTS[prefix])
    assert all(operation["summary"] for operation in operations)
    for schema in made["components"]["schemas"].values():
        jsonschema_rs.validator_for({"components": made["components"], **schema})


def test_an_operation() -> None:
    assert (POST["operationId"], POST["summary"], POST["description"]) == (
        "postDeviceByDeviceIdNote",
        "Say it.",
        "At length.",
    )
    assert (POST["x-action"], POST["security"]) == ("GetDevice", [{"bearer": []}])
    assert DOCUMENT["paths"]["/"]["get"]["security"] == []
    assert DOCUMENT["paths"]["/"]["get"]["responses"]["200"]["content"] == {
        "text/plain": {"schema": {"type": "string"}}
    }
    assert sorted(POST["responses"]) == ["201", "204", "400", "401", "403", "404", "409", "413", "503"]
    assert "content" not in POST["responses"]["204"]
    assert "content" not in POST["responses"]["404"]
    assert POST["responses"]["409"] == {"$ref": "#/components/responses/Conflict"}
    assert set(DOCUMENT["components"]["responses"]["TooManyRequests"]["headers"]) == {"X-Request-Id", "Retry-After"}


def test_answers_have_what_they_say_and_nothing_else() -> None:
    answer = {"lastSeen": "2026-11-21T08:07:00.123", "parameters": None}
    assert validator("View").is_valid(answer)
    for wrong in ({"parameters": None}, answer | {"more": 1}, answer | {"lastSeen": 5}, answer | {"parameters": []}):
        assert not validator("View").is_valid(wrong)
    assert validator("Body").is_valid({"login": "abc", "more": 1})


def test_parameters() -> None:
    by_name = {parameter["name"]: parameter for parameter in POST["parameters"]}
    assert {name: parameter["in"] for name, parameter in by_name.items()} == {
        "deviceId": "path",
        "take": "query",
        "sortOrder": "query",
        "networkIds": "query",
        "force": "query",
        "since": "query",
        "Idempotency-Key": "header",
    }
    assert by_name["take"]["schema"] == {"type": "integer", "minimum": 0, "maximum": 2**63 - 1, "default": 100}
    assert by_name["sortOrder"]["schema"]["enum"] == ["ASC", "DESC"]
    assert (by_name["networkIds"]["style"], by_name["networkIds"]["explode"]) == ("form", False)
    assert by_name["force"]["schema"]["type"] == "string"
    assert by_name["since"]["schema"]["pattern"] == timestamps.PATTERN
    assert by_name["Idempotency-Key"]["schema"]["maxLength"] == 5


def test_a_type_without_a_schema() -> None:
    @web.route("GET", "/x", action=None)
    async def get_x(ctx: web.Context) -> object: ...

    with pytest.raises(TypeError):
        document(get_x)


def test_one_name_for_two_types() -> None:
    def other() -> Any:
        class View(Struct):
            x: int | None = None

        @web.route("PUT", "/x", action=None, body=View, status=204)
        async def put_x(ctx: web.Context, body: View) -> None: ...

        return put_x

    with pytest.raises(TypeError, match="View"):
        document(post_note, other())


TEXTS = st.one_of(
    st.text(max_size=5), st.from_regex(r"^[-+]?[0-9]{1,4}(\.0)?$"), st.sampled_from(["true", "FALSE", "abc"])
)
TIMES = st.datetimes(datetime(1000, 1, 1), datetime(8999, 12, 31)).map(datetime.isoformat) | st.sampled_from(
    (
        *("2024-02-29", "2023-02-29", "1900-02-29", "2026-04-31", "2026-11-21T24:00", "2026-11-21T08:07:00.5+01:30"),
        *("Sat, 21 Nov 2026 08:07:00 GMT", "Sat, 21 Nov 2026 08:07:00", "1700000000000", "now"),
    )
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-5, 5),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, 1.0, 5.0, 716.0, 123456.0, 9007199254740994.0, 1e19]),
    TEXTS,
    TIMES,
)
VALUES = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.text(max_size=2), SCALARS, max_size=2)
calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
OPTIONAL = ("networkId", "role", "on", "names", "ids", "parameters", "at")
OUTSIDE = re.compile(r"^\s|\s$|^-0(\.0+)?$|^-?[0-9]+([.]|[eE])[0-9]|^[nN][uU][lL][lL]$|^-?[0-9]{14,}$|\0")
"""Texts that are read although the document does not say so: nobody sends them."""


@calm
@given(st.fixed_dictionaries({"login": st.just("abc")}, optional=dict.fromkeys(OPTIONAL, VALUES)))
def test_what_is_described_is_accepted_and_the_other_way_round(body: dict[str, Any]) -> None:
    described = validator("Body").is_valid(body)
    try:
        read = web.Decoder(Body).decode(stdlib.dumps(body).encode())
        json.json_object(read.parameters)
        accepted = read.role in (None, 0, 1)
        token_requests._ids(read.ids)
    except SkepError:
        accepted = False
    if described or not any(isinstance(value, str) and OUTSIDE.search(value) for value in body.values()):
        assert described == accepted


@calm
@given(st.one_of(SCALARS, st.integers(0, 10**7)))
def test_logins(value: Any) -> None:
    try:
        login = web.Decoder(Body).decode(stdlib.dumps({"login": value}).encode()).login
        check_login(login or "")
        accepted = True
    except (BadRequest, MalformedJson):
        accepted = False
    assert validator("Body").is_valid({"login": value}) == accepted


@calm
@given(st.from_regex(fields.Login.__metadata__[0].extra_json_schema["pattern"]))
def test_described_logins(login: str) -> None:
    check_login(login)


@calm
@given(st.one_of(TEXTS, TIMES))
def test_times_in_queries(text: str) -> None:
    (parameter,) = (p for p in schemas.parameters(Query, "query") if p["name"] == "since")
    described = re.search(parameter["schema"]["pattern"], text) is not None
    try:
        queries.Decoder(Query).read([("since", text)])
        accepted = True
    except BadRequest:
        accepted = False
    if described or not OUTSIDE.search(text):
        assert described == accepted


def test_raw_defaults_are_no_hindrance() -> None:
    class Old(Struct):
        parameters: Raw = json.NULL

    ((reference,), components) = schemas.bodies([Old])
    assert reference == {"$ref": "#/components/schemas/Old"}
    assert components["Old"]["properties"] == {"parameters": {}}

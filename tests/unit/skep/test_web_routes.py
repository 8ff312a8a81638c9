import pytest
from msgspec import Struct

from skep import web
from skep.access import Action
from skep.errors import MethodNotAllowed, NotFound
from skep.web.routes import Table


class Q(Struct):
    take: int = 1


@web.route("GET", "/", action=None)
async def root(ctx: web.Context) -> str:
    return ""


@web.route("GET", "/user/{id}", action=Action.MANAGE_USER)
@web.route("DELETE", "/user/{id}", action=Action.MANAGE_USER, status=204)
async def user(ctx: web.Context, user_id: int) -> str:
    return ""


@web.route("GET", "/user/current", action=Action.GET_CURRENT_USER)
async def current(ctx: web.Context) -> str:
    return ""


@web.route("PUT", "/user/{id}/network/{networkId}", action=Action.MANAGE_NETWORK, status=204)
async def assign(ctx: web.Context, user_id: int, network_id: int) -> None: ...


@web.route("GET", "/device/{id}/command/{commandId}", action=Action.GET_DEVICE_COMMAND, query=Q)
async def command(ctx: web.Context, device_id: str, command_id: int, query: Q) -> str:
    """Gets a command."""
    return ""


TABLE = Table(web.collect(root, user, current, assign, command))


@pytest.mark.parametrize(
    ("method", "path", "handler", "values"),
    [
        ("GET", "/", root, []),
        ("GET", "", root, []),
        ("GET", "/user/5", user, [5]),
        ("HEAD", "/user/5", user, [5]),
        ("DELETE", "/user/5/", user, [5]),
        ("GET", "/user/current", current, []),
        ("PUT", "/user/5/network/6", assign, [5, 6]),
        ("GET", "/device/a%2Fb%20%C3%A9/command/1", command, ["a/b é", 1]),
    ],
)
def test_found(method: str, path: str, handler: object, values: list) -> None:
    found, got = TABLE.find(method, path)
    assert (found.handler, got) == (handler, values)


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/user",
        "/user/x",
        "/user/-1",
        "/user/1.0",
        "/user/٣",
        "/user/" + "9" * 19,
        "//user/5",
        "/user//5",
        "/user/5//",
        "/device//command/1",
        "/device/%FF/command/1",
        "/USER/5",
    ],
)
def test_missing(path: str) -> None:
    with pytest.raises(NotFound):
        TABLE.find("GET", path)


@pytest.mark.parametrize(("method", "path"), [("PUT", "/user/current"), ("POST", "/user/1"), ("TRACE", "/user/1")])
def test_wrong_method(method: str, path: str) -> None:
    with pytest.raises(MethodNotAllowed):
        TABLE.find(method, path)


def test_allowed() -> None:
    assert TABLE.allowed("/user/7") == ["DELETE", "GET"]


def test_routes_carry_what_openapi_needs() -> None:
    (made,) = web.collect(command)
    assert (made.path_names, made.path_types, made.result, made.doc) == (
        ("id", "commandId"),
        (str, int),
        str,
        "Gets a command.",
    )
    assert made.query is not None
    assert made.query.kind is Q


@pytest.mark.parametrize("action", [3, "GetDevice", Action.ANY, Action.NONE])
def test_an_unknown_permission_fails_at_import(action: object) -> None:
    with pytest.raises(TypeError, match="no permission"):
        web.route("GET", "/x", action=action)(root)  # type: ignore[arg-type]


def test_a_signature_that_does_not_fit_fails_at_import() -> None:
    with pytest.raises(TypeError, match="wants context"):
        web.route("GET", "/x/{id}", action=None)(root)
    with pytest.raises(TypeError, match="wants context"):
        web.route("GET", "/x", action=None, query=Q)(root)
    with pytest.raises(TypeError, match="unknown method"):
        web.route("GTE", "/x", action=None)(root)


def test_the_same_route_twice() -> None:
    with pytest.raises(TypeError, match="twice"):
        Table(web.collect(root, root))

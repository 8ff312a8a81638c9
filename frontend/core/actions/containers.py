"""network/* and devicetype/*: the same actions for both."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from msgspec import Raw

from frontend.core import views
from frontend.core.actions.table import Request, action, given_id
from frontend.core.containers import ContainerBody, Containers, NewContainer
from skep import errors
from skep.access import Action
from skep.web.json import NULL
from skep.wire.fields import Natural, Order, Pattern, choice

if TYPE_CHECKING:
    from frontend.core.services import Services
    from frontend.core.session import Session

B = TypeVar("B", "_Inserted", ContainerBody)


class _Inserted(NewContainer):
    id: Raw = NULL
    """Read to be refused: the platform gives ids."""


def _declare(
    prefix: str,
    key: str,
    noun: str,
    read: Action,
    manage: Action,
    of: Callable[[Services], Containers[Any]],
    id_of: Callable[[Request], int | None],
) -> None:
    """prefix: of the actions. key: of the entity in requests and replies. noun: in texts."""

    def target(request: Request) -> int:
        return given_id(id_of(request), noun)

    def given(body: B | None) -> B:
        if body is None:
            raise errors.BadRequest(f"{noun} is required")
        return body

    class List(Request, tag=f"{prefix}/list"):
        name: str | None = None
        name_pattern: Pattern | None = None
        sort_field: Annotated[str, choice("id", "name")] | None = None
        sort_order: Order | None = None
        take: Natural | None = None
        skip: Natural | None = None

    @action(List, read, answers={f"{key}s": list[views.ContainerView]})
    async def list_(session: Session, request: List) -> dict[str, Any]:
        take = 20 if request.take is None else request.take
        page = request.sort_field, request.sort_order, take, request.skip or 0
        found = await of(session.services).list(session.caller, request.name, request.name_pattern, *page)
        return {f"{key}s": [views.container(row) for row in found]}

    class Count(Request, tag=f"{prefix}/count"):
        name: str | None = None
        name_pattern: Pattern | None = None

    @action(Count, read, answers={"count": int})
    async def count(session: Session, request: Count) -> dict[str, Any]:
        return {"count": await of(session.services).count(session.caller, request.name, request.name_pattern)}

    class Get(Request, tag=f"{prefix}/get"):
        pass

    @action(Get, read, reads=(f"{key}Id",), answers={key: views.ContainerFull})
    async def get(session: Session, request: Get) -> dict[str, Any]:
        return {key: views.container_full(*await of(session.services).get(session.caller, target(request)))}

    class Insert(Request, tag=f"{prefix}/insert", rename={"body": key}):
        body: _Inserted | None = None

    @action(Insert, manage, ordered=True, answers={key: views.Created})
    async def insert(session: Session, request: Insert) -> dict[str, Any]:
        body = given(request.body)
        if body.id != NULL:
            raise errors.BadRequest("Invalid request parameters. Id cannot be specified.")
        return {key: views.Created((await of(session.services).insert(body)).id)}

    class Update(Request, tag=f"{prefix}/update", rename={"body": key}):
        body: ContainerBody | None = None

    @action(Update, manage, ordered=True, reads=(f"{key}Id",))
    async def update(session: Session, request: Update) -> None:
        await of(session.services).update(session.caller, target(request), given(request.body))

    class Delete(Request, tag=f"{prefix}/delete"):
        force: bool | None = None

    @action(Delete, manage, ordered=True, reads=(f"{key}Id",))
    async def delete(session: Session, request: Delete) -> None:
        await of(session.services).delete(session.caller, target(request), bool(request.force))


_declare(
    "network",
    "network",
    "Network",
    Action.GET_NETWORK,
    Action.MANAGE_NETWORK,
    lambda services: services.networks,
    lambda request: request.network_id,
)
_declare(
    "devicetype",
    "deviceType",
    "Device type",
    Action.GET_DEVICE_TYPE,
    Action.MANAGE_DEVICE_TYPE,
    lambda services: services.device_types,
    lambda request: request.device_type_id,
)

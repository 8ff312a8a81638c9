"""user/list, count, get, getCurrent, insert, update, updateCurrent, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from frontend.core import views
from frontend.core.actions.table import Request, action, given_id
from frontend.core.users import NewUserBody, UserBody
from skep import errors
from skep.access import Action
from skep.wire.fields import Integer, Natural, Order, Pattern, choice

if TYPE_CHECKING:
    from frontend.core.session import Session

MANAGE = Action.MANAGE_USER

U = TypeVar("U", NewUserBody, UserBody)


class UserRequest(Request):
    """One that names a user."""

    user_id: Integer | None = None

    @property
    def target(self) -> int:
        return given_id(self.user_id, "User")


class ListUsers(Request, tag="user/list"):
    login: str | None = None
    login_pattern: Pattern | None = None
    role: Integer | None = None
    status: Integer | None = None
    sort_field: Annotated[str, choice("id", "login")] | None = None
    sort_order: Order | None = None
    take: Natural | None = None
    skip: Natural | None = None


@action(ListUsers, MANAGE, answers={"users": list[views.UserView]})
async def list_(session: Session, request: ListUsers) -> dict[str, Any]:
    filters = request.login, request.login_pattern, request.role, request.status
    page = request.sort_field, request.sort_order, 20 if request.take is None else request.take, request.skip or 0
    found = await session.services.users.list(session.caller, *filters, *page)
    return {"users": [views.user(row) for row in found]}


class Count(Request, tag="user/count"):
    login: str | None = None
    login_pattern: Pattern | None = None
    role: Integer | None = None
    status: Integer | None = None


@action(Count, MANAGE, answers={"count": int})
async def count(session: Session, request: Count) -> dict[str, Any]:
    filters = request.login, request.login_pattern, request.role, request.status
    return {"count": await session.services.users.count(session.caller, *filters)}


class Get(UserRequest, tag="user/get"):
    pass


@action(Get, MANAGE, answers={"user": views.UserFull})
async def get(session: Session, request: Get) -> dict[str, Any]:
    return {"user": views.user_full(*await session.services.users.get(session.caller, request.target))}


class GetCurrent(Request, tag="user/getCurrent"):
    pass


@action(GetCurrent, Action.GET_CURRENT_USER, answers={"current": views.UserFull})
async def get_current(session: Session, request: GetCurrent) -> dict[str, Any]:
    caller = session.caller
    return {"current": views.user_full(*await session.services.users.get(caller, caller.user_id))}


class Insert(Request, tag="user/insert"):
    user: NewUserBody | None = None


@action(Insert, MANAGE, ordered=True, answers={"user": views.UserCreated})
async def insert(session: Session, request: Insert) -> dict[str, Any]:
    return {"user": views.user_created(await session.services.users.insert(session.caller, _given(request.user)))}


class Update(UserRequest, tag="user/update"):
    user: UserBody | None = None


@action(Update, MANAGE, ordered=True)
async def update(session: Session, request: Update) -> None:
    await session.services.users.update(session.caller, request.target, _given(request.user))


class UpdateCurrent(Request, tag="user/updateCurrent"):
    user: UserBody | None = None


@action(UpdateCurrent, Action.UPDATE_CURRENT_USER, ordered=True)
async def update_current(session: Session, request: UpdateCurrent) -> None:
    caller = session.caller
    await session.services.users.update(caller, caller.user_id, _given(request.user))


class Delete(UserRequest, tag="user/delete"):
    pass


@action(Delete, MANAGE, ordered=True)
async def delete(session: Session, request: Delete) -> None:
    await session.services.users.delete(session.caller, request.target)


def _given(user: U | None) -> U:
    if user is None:
        raise errors.BadRequest("User is required")
    return user

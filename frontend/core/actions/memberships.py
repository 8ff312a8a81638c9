"""Networks and device types of users: user/getNetwork, assignNetwork, getDeviceTypes, …"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from frontend.core import views
from frontend.core.actions.table import action, given_id
from frontend.core.actions.users import UserRequest
from skep.access import Action

if TYPE_CHECKING:
    from frontend.core.session import Session


class GetNetwork(UserRequest, tag="user/getNetwork"):
    pass


@action(GetNetwork, Action.GET_NETWORK, reads=("networkId",), answers={"network": views.UserNetwork})
async def get_network(session: Session, request: GetNetwork) -> dict[str, Any]:
    id = request.target
    found = await session.services.users.network(session.caller, id, _network(request))
    return {"network": views.UserNetwork(views.container(found))}


class AssignNetwork(UserRequest, tag="user/assignNetwork"):
    pass


@action(AssignNetwork, Action.MANAGE_NETWORK, ordered=True, reads=("networkId",))
async def assign_network(session: Session, request: AssignNetwork) -> None:
    await session.services.users.assign_network(session.caller, request.target, _network(request), True)


class UnassignNetwork(UserRequest, tag="user/unassignNetwork"):
    pass


@action(UnassignNetwork, Action.MANAGE_NETWORK, ordered=True, reads=("networkId",))
async def unassign_network(session: Session, request: UnassignNetwork) -> None:
    await session.services.users.assign_network(session.caller, request.target, _network(request), False)


class GetDeviceTypes(UserRequest, tag="user/getDeviceTypes"):
    pass


@action(GetDeviceTypes, Action.MANAGE_DEVICE_TYPE, answers={"deviceTypes": list[views.ContainerView]})
async def get_device_types(session: Session, request: GetDeviceTypes) -> dict[str, Any]:
    found = await session.services.users.device_types(session.caller, request.target)
    return {"deviceTypes": [views.container(row) for row in found]}


class GetDeviceType(UserRequest, tag="user/getDeviceType"):
    pass


@action(GetDeviceType, Action.GET_DEVICE_TYPE, reads=("deviceTypeId",), answers={"deviceType": views.UserDeviceType})
async def get_device_type(session: Session, request: GetDeviceType) -> dict[str, Any]:
    id = request.target
    found = await session.services.users.device_type(session.caller, id, _device_type(request))
    return {"deviceType": views.UserDeviceType(views.container(found))}


class AssignDeviceType(UserRequest, tag="user/assignDeviceType"):
    pass


@action(AssignDeviceType, Action.MANAGE_DEVICE_TYPE, ordered=True, reads=("deviceTypeId",))
async def assign_device_type(session: Session, request: AssignDeviceType) -> None:
    await session.services.users.assign_device_type(session.caller, request.target, _device_type(request), True)


class UnassignDeviceType(UserRequest, tag="user/unassignDeviceType"):
    pass


@action(UnassignDeviceType, Action.MANAGE_DEVICE_TYPE, ordered=True, reads=("deviceTypeId",))
async def unassign_device_type(session: Session, request: UnassignDeviceType) -> None:
    await session.services.users.assign_device_type(session.caller, request.target, _device_type(request), False)


class AllowAll(UserRequest, tag="user/allowAllDeviceTypes"):
    pass


@action(AllowAll, Action.MANAGE_DEVICE_TYPE, ordered=True)
async def allow_all(session: Session, request: AllowAll) -> None:
    await session.services.users.all_device_types(session.caller, request.target, True)


class DisallowAll(UserRequest, tag="user/disallowAllDeviceTypes"):
    pass


@action(DisallowAll, Action.MANAGE_DEVICE_TYPE, ordered=True)
async def disallow_all(session: Session, request: DisallowAll) -> None:
    await session.services.users.all_device_types(session.caller, request.target, False)


def _network(request: UserRequest) -> int:
    return given_id(request.network_id, "Network")


def _device_type(request: UserRequest) -> int:
    return given_id(request.device_type_id, "Device type")

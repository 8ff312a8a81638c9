"""Device types."""

from __future__ import annotations

from skep.access import Principal

from .containers import Containers
from .rows import DeviceType
from .tables import device_types, devices, user_device_type


class DeviceTypes(Containers[DeviceType]):
    row = DeviceType
    entity = "device_type"
    noun = "Device type"
    table = device_types
    members = user_device_type
    member_column = user_device_type.c.device_type_id
    device_column = devices.c.device_type_id

    def _scope(self, principal: Principal) -> frozenset[int] | None:
        return principal.device_types

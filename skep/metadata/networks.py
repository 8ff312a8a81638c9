"""Networks."""

from __future__ import annotations

from skep.access import Principal

from .containers import Containers
from .rows import Network
from .tables import devices, networks, user_network


class Networks(Containers[Network]):
    row = Network
    entity = "network"
    noun = "Network"
    table = networks
    members = user_network
    member_column = user_network.c.network_id
    device_column = devices.c.network_id

    def _scope(self, principal: Principal) -> frozenset[int] | None:
        return principal.networks

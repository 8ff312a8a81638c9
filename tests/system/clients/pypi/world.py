"""What the sections work on: two networks, two device types, a device in each pair of them; and who may see what.

All names begin with a prefix, so that programs may run side by side.
"""

from checks import refused, same

PASSWORD = "second-password"


class World:
    """devices: by (number of the network, number of the device type), both 1 or 2."""

    def __init__(self, api, url, prefix):
        self.api, self.url, self.prefix = api, url, prefix
        self.networks = {n: api.create_network(f"{prefix} network {n}", f"network {n}") for n in (1, 2)}
        self.types = {t: api.create_device_type(f"{prefix} type {t}", f"type {t}") for t in (1, 2)}
        self.devices = {(n, t): self._device(n, t) for n in (1, 2) for t in (1, 2)}

    @property
    def is_http(self):
        return self.url.startswith("http")

    @property
    def socket_url(self):
        return self.url.replace("http", "ws").replace("/rest", "/websocket")

    def device_id(self, n, t):
        return f"{self.prefix}-{n}{t}"

    def _device(self, n, t):
        network, device_type = self.networks[n].id, self.types[t].id
        id, name, data = self.device_id(n, t), f"{self.prefix} device {n}{t}", {"n": n, "inner": [t, None, "ü"]}
        device = self.api.put_device(id, name, data, network, device_type)
        same(fields(device), [id, name, data, network, device_type, False])
        return device

    def client(self, *networks, **options):
        """The login of a new client, member of these networks; its password is PASSWORD."""
        login = f"{self.prefix}-client-{len(self.api.list_users(login_pattern=f'{self.prefix}-client-%'))}"
        user = self.api.create_user(login, PASSWORD, 1, None, **options)
        for network in networks:
            user.assign_network(network)
        return login

    def erase(self):
        """Devices go with what they are in."""
        first = self.devices[1, 1]
        for network in self.networks.values():
            network.remove(force=True)
        for device_type in self.types.values():
            device_type.remove(force=True)
        for user in self.api.list_users(login_pattern=f"{self.prefix}-client-%"):
            user.remove()
        refused(404, f"Device with such deviceId = {first.id} not found", self.api.get_device, first.id)


def fields(device):
    return [device.id, device.name, device.data, device.network_id, device.device_type_id, device.is_blocked]

"""Devices: saved, read, listed, removed."""

from checks import fault, raises, refused, refused_with, same
from devicehive import DeviceError
from devicehive.device import Device
from world import fields

MALFORMED = {True: "Invalid request parameters", False: "Malformed Json received."}


def devices(world):
    _one(world)
    _refusals(world)
    _lists(world)
    _lists_of_containers(world)


def _one(world):
    api, id = world.api, f"{world.prefix}-one"
    device = api.put_device(id)
    same(fields(device), [id, id, None, 1, 1, False])
    same(fields(api.put_device(id, is_blocked=True)), [id, id, None, 1, 1, True])
    device.name, device.data = "another name", {"a": {"b": [1.5, True]}}
    device.network_id, device.device_type_id, device.is_blocked = world.networks[1].id, world.types[2].id, True
    device.save()
    for call in (device.send_notification, device.send_command):
        refused(403, "Device is blocked", call, "x")
    again = Device(api)
    again.get(id)
    same(fields(again), [id, "another name", {"a": {"b": [1.5, True]}}, world.networks[1].id, world.types[2].id, True])
    again.data, again.is_blocked = None, False
    again.save()
    same(fields(api.get_device(id)), [id, "another name", None, world.networks[1].id, world.types[2].id, False])
    again.remove()
    same(fields(again), [None] * 6)
    gone = f"Device with such deviceId = {id} not found"
    refused(404, gone, api.get_device, id)
    refused(404, gone, device.remove)
    for call in (again.save, again.remove, again.list_commands, lambda: again.send_command("x")):
        raises(DeviceError, "Device does not exist.", call)


def _refusals(world):
    api, id = world.api, f"{world.prefix}-refused"
    letters = "Device Id can only contain letters, digits and dashes."
    refused(400, letters, api.put_device, f"{world.prefix}_x")
    refused_with(400, api.put_device, "x" * 49)
    refused_with(400, api.put_device, id, name="x" * 129)
    refused(400, "Invalid request parameters", api.put_device, id, network_id=10**12)
    refused(400, "Invalid request parameters", api.put_device, id, device_type_id=10**12)
    refused(400, MALFORMED[world.is_http], api.put_device, id, network_id="x")
    refused(400, "'parameters' must be JSON Object!", api.put_device, id, data=[1])
    refused(404, f"Device with such deviceId = {id} not found", api.get_device, id)


def _lists(world):
    api, pattern = world.api, f"{world.prefix} device __"

    def listed(**options):
        return [device.id.removeprefix(f"{world.prefix}-") for device in api.list_devices(**options)]

    same(listed(name_pattern=pattern, sort_field="name"), ["11", "12", "21", "22"])
    same(listed(name_pattern=pattern, sort_field="name", sort_order="DESC"), ["22", "21", "12", "11"])
    same(listed(name_pattern=pattern, sort_field="NAME", sort_order="asc", take=2), ["11", "12"])
    same(listed(name_pattern=pattern, sort_field="name", take=2, skip=1), ["12", "21"])
    same(listed(name_pattern=pattern, sort_field="name", skip=3), ["22"])
    by_network = listed(name_pattern=pattern, sort_field="network", sort_order="DESC")
    same([id[0] for id in by_network], ["2", "2", "1", "1"])
    same(sorted(listed(name_pattern=pattern, sort_field="status")), ["11", "12", "21", "22"])
    same(listed(name=f"{world.prefix} device 12"), ["12"])
    same(listed(name=f"{world.prefix} DEVICE 12"), [])
    same(listed(name=f"{world.prefix} device 12", name_pattern="%21"), [])
    same(listed(name_pattern=f"{world.prefix} DEVICE %"), [])
    same(listed(network_id=world.networks[2].id, sort_field="name"), ["21", "22"])
    same(listed(network_name=world.networks[1].name, sort_field="name"), ["11", "12"])
    same(listed(network_id=world.networks[1].id, network_name=world.networks[2].name), [])
    same(listed(network_id=10**12), [])
    same(fields(api.list_devices(name_pattern=pattern, sort_field="name")[1]), fields(world.devices[1, 2]))
    for options in ({"sort_field": "data"}, {"sort_order": "up"}):
        refused(400, "Invalid request parameters", api.list_devices, **options)
    for options in ({"take": -1}, {"skip": -1}):
        refused_with(400, api.list_devices, **options)


def _lists_of_containers(world):
    last = {"sort_field": "name", "sort_order": "DESC", "take": 1}
    network, pattern = world.networks[1], f"{world.prefix}%"
    same([d.id for d in network.list_devices(name_pattern=pattern, **last)], [world.device_id(1, 2)])
    same([d.id for d in network.list_devices(sort_field="name", skip=1)], [world.device_id(1, 2)])
    same([d.id for d in network.list_devices(name=f"{world.prefix} device 11")], [world.device_id(1, 1)])
    device_type, name = world.types[1], f"{world.prefix} device 11"
    options = {"name": name, "name_pattern": pattern, "sort_field": "name", "sort_order": "DESC"}
    fault("device_type.DeviceType.list_devices", device_type.list_devices(take=2, **options) == [])
    fault("device_type.DeviceType.list_devices", device_type.list_devices(skip=1, **options) == [])

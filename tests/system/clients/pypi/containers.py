"""Networks and device types: the same calls for both."""

from checks import raises, refused, refused_with, same
from devicehive import DeviceTypeError, NetworkError
from devicehive.device_type import DeviceType
from devicehive.network import Network


def containers(world):
    _container(world, "network", Network, NetworkError, "Network", "Network does not exist.")
    _container(world, "device_type", DeviceType, DeviceTypeError, "Device type", "DeviceType does not exist.")


def _container(world, noun, kind, error, title, missing):
    api = world.api
    create, get, list_ = (getattr(api, name) for name in (f"create_{noun}", f"get_{noun}", f"list_{noun}s"))
    name = f"{world.prefix} own {noun}"
    made = create(f"{name} 1", "described")
    same([type(made.id), made.name, made.description], [int, f"{name} 1", "described"])
    _saved(create, get, kind(api), made, name, title)
    create(f"{name} 3", None)
    _lists(list_, made, name)
    _removed(world, get, noun, made, title)
    for call in (made.save, made.remove, made.list_devices, made.subscribe_notifications):
        raises(error, missing, call)
    for left in list_(name_pattern=f"{name} _"):
        left.remove()
    same(list_(name_pattern=f"{name} _"), [])


def _saved(create, get, found, made, name, title):
    found.get(made.id)
    same([found.id, found.name, found.description], [made.id, f"{name} 1", "described"])
    taken = f"{title} cannot be created. {title} with such name already exists"
    refused(403, taken, create, f"{name} 1", "again")
    for bad in (("", None), ("x" * 129, None), (f"{name} x", "x" * 129), ([], None)):
        refused_with(400, create, *bad)
    found.name, found.description = f"{name} 2", "changed"
    found.save()
    again = get(made.id)
    same([again.id, again.name, again.description], [made.id, f"{name} 2", "changed"])


def _lists(list_, made, name):
    """Now there are `2`, which was made first, and `3`."""

    def listed(**options):
        return [(each.name.removeprefix(f"{name} "), each.description) for each in list_(**options)]

    pattern = f"{name} _"
    same(listed(name_pattern=pattern, sort_field="id"), [("2", "changed"), ("3", None)])
    same(listed(name_pattern=pattern, sort_field="ID", sort_order="desc"), [("3", None), ("2", "changed")])
    same(listed(name_pattern=pattern, sort_field="name", sort_order="DESC", take=1), [("3", None)])
    same(listed(name_pattern=pattern, sort_field="name", skip=1), [("3", None)])
    same([each.id for each in list_(name=f"{name} 2")], [made.id])
    same(listed(name=f"{name} 1"), [])
    same(listed(name=f"{name} 2", name_pattern="%3"), [])
    for options in ({"sort_field": "description"}, {"sort_order": "up"}):
        refused(400, "Invalid request parameters", list_, **options)
    for options in ({"take": -1}, {"skip": -1}):
        refused_with(400, list_, **options)


def _removed(world, get, noun, made, title):
    """Only by force where there are devices, and they go too."""
    device_id, made_id = f"{world.prefix}-inside", made.id
    device = world.api.put_device(device_id, **{f"{noun}_id": made_id})
    same(getattr(device, f"{noun}_id"), made_id)
    refused_with(400, made.remove, containing=device_id)
    same(world.api.get_device(device_id).id, device_id)
    made.remove(force=True)
    same([made.id, made.name, made.description], [None] * 3)
    refused(404, f"{title} with id = {made_id} not found", get, made_id)
    refused(404, f"Device with such deviceId = {device_id} not found", world.api.get_device, device_id)

"""`DeviceHiveApi`: each call on a connection of its own."""

from checks import raises, same
from connection import PAUSES
from devicehive import DeviceHiveApi
from world import PASSWORD, fields


def calls(world, token):
    api, name = DeviceHiveApi(world.url, access_token=token, **PAUSES), f"{world.prefix} call"
    _devices(world, api, name)
    _containers(world, api, name)
    _users(world, api, name)
    same(sorted(api.get_info()), ["api_version", "rest_server_url", "server_timestamp", "websocket_server_url"])
    same(sorted(api.get_cluster_info()), ["bootstrap.servers", "zookeeper.connect"])
    same(api.set_property(name, "v"), {"entity_version": 0})
    same(api.get_property(name), {"name": name, "value": "v", "entity_version": 0})
    same(api.delete_property(name), None)
    pair = api.create_token(api.get_current_user().id, actions=["*"])
    renewed = DeviceHiveApi(world.url, refresh_token=pair["refresh_token"], **PAUSES).refresh_token()
    same(DeviceHiveApi(world.url, access_token=renewed, **PAUSES).get_current_user().login, "dhadmin")


def _devices(world, api, name):
    id = f"{world.prefix}-call"
    device = api.put_device(id, name=name)
    same(fields(api.get_device(id)), fields(device))
    same([d.id for d in api.list_devices(name=name)], [id])
    raises(AttributeError, "Method is not allowed in this context.", device.subscribe_notifications)
    sent = api.send_notification(id, "n", {"a": 1}), api.send_command(id, "c", {"b": 2})
    same([n.id for n in api.list_notifications(id, notification="n")], [sent[0].id])
    same([c.id for c in api.list_commands(id, command="c")], [sent[1].id])
    world.api.get_device(id).remove()


def _containers(world, api, name):
    for noun in ("network", "device_type"):
        create, get, list_ = (getattr(api, call) for call in (f"create_{noun}", f"get_{noun}", f"list_{noun}s"))
        made = create(name, "d")
        same([get(made.id).name, [each.id for each in list_(name=name)]], [name, [made.id]])
        raises(AttributeError, "Method is not allowed in this context.", made.list_devices)
        (world.api.get_network if noun == "network" else world.api.get_device_type)(made.id).remove()


def _users(world, api, name):
    login = name.replace(" ", "-")
    user = api.create_user(login, PASSWORD, 1, None)
    same([api.get_user(user.id).login, [u.id for u in api.list_users(login=login)]], [login, [user.id]])
    world.api.get_user(user.id).remove()

"""Tokens of every kind, information about the server, configuration."""

import time

from checks import raises, refused, refused_with, same
from connection import Connection
from devicehive.token import TokenError
from world import PASSWORD


def tokens(world, credentials):
    _created(world)
    _narrow(world)
    _lifetimes(world)
    _bad(world, credentials)
    _of_clients(world)


def _created(world):
    """An access token of all that an administrator may; with its refresh token the same again."""
    api = world.api
    me = api.get_current_user()
    same([me.login, me.role, me.status], ["dhadmin", 0, 0])
    pair = api.create_token(me.id, actions=["*"], network_ids=["*"], device_type_ids=["*"], device_ids=["ignored"])
    with Connection(world.url, access_token=pair["access_token"]) as with_access:
        same(with_access.token.access_token, pair["access_token"])
        same(with_access.get_current_user().login, "dhadmin")
        raises(TokenError, 'Can\'t refresh token without "refresh_token"', with_access.refresh_token)
    with Connection(world.url, refresh_token=pair["refresh_token"]) as with_refresh:
        first = with_refresh.token.access_token
        same(with_refresh.token.auth_header, ("Authorization", f"Bearer {first}"))
        same(with_refresh.refresh_token(), with_refresh.token.access_token)
        same(with_refresh.get_device(world.device_id(1, 1)).id, world.device_id(1, 1))
        with_refresh.token.auth()
        same(with_refresh.get_current_user().id, me.id)


def _narrow(world):
    """For two actions, one network, one device type."""
    network, device_type = world.networks[1].id, world.types[1].id
    me = world.api.get_current_user().id
    actions = ["GetDevice", "getnetwork", "NoSuchAction"]
    pair = world.api.create_token(me, actions=actions, network_ids=[str(network)], device_type_ids=[str(device_type)])
    for credentials in ({"access_token": pair["access_token"]}, {"refresh_token": pair["refresh_token"]}):
        with Connection(world.url, **credentials) as api:
            same([n.id for n in api.list_networks()], [network])
            same([d.id for d in api.list_devices(name_pattern=f"{world.prefix}%")], [world.device_id(1, 1)])
            refused(403, "Access is denied", api.get_network, world.networks[2].id)
            refused(403, "Access is denied", api.get_device, world.device_id(1, 2))
            refused(403, "Access is denied", api.get_device_type, device_type)
            refused(403, "Access is denied", api.get_current_user)
            refused(403, "Access is denied", api.create_token, me)
    nothing = world.api.create_token(me)["access_token"]
    with Connection(world.url, access_token=nothing) as api:
        refused(403, "Access is denied", api.list_devices)


def _lifetimes(world):
    me, all_of_it = world.api.get_current_user().id, {"actions": ["*"], "network_ids": ["*"], "device_type_ids": ["*"]}
    now = int(time.time() * 1000)
    late = world.api.create_token(me, expiration=now - 1000, **all_of_it)
    refused(401, "Token has expired", Connection, world.url, refresh_token=late["refresh_token"])
    _unauthorized(world, late["access_token"], "Token expired", "Token expired")
    lasting = world.api.create_token(me, expiration=now + 60_000, **all_of_it)
    with Connection(world.url, access_token=lasting["access_token"]) as api:
        same(api.get_current_user().id, me)


def _unauthorized(world, token, over_http, over_websocket):
    """Over HTTP the connection is only made when something is asked."""
    if world.is_http:
        with Connection(world.url, access_token=token) as api:
            refused(401, over_http, api.list_devices)
    else:
        refused(401, over_websocket, Connection, world.url, access_token=token)


def _bad(world, credentials):
    me = world.api.get_current_user().id
    pair = world.api.create_token(me, actions=["*"])
    _unauthorized(world, "garbage", "Unauthorized", "Invalid credentials")
    _unauthorized(world, pair["access_token"][:-2] + "xx", "Unauthorized", "Invalid credentials")
    _unauthorized(world, pair["refresh_token"], "Unauthorized", "Invalid credentials")
    refused(401, "Invalid token type", Connection, world.url, refresh_token=pair["access_token"])
    if world.is_http:  # with an empty body
        refused(401, None, Connection, world.url, refresh_token="garbage")
    else:
        refused_with(401, Connection, world.url, refresh_token="garbage")
    refused(404, f"User with id = {10**12} not found", world.api.create_token, 10**12)
    refused_with(400, world.api.create_token, None, containing="On property userId (value: null): ")
    refused_with(400, world.api.create_token, me, actions=[1.5])
    refused(401, "Invalid credentials", Connection, world.url, login=credentials["login"], password="not-this-one")
    raises(TokenError, "Password required.", Connection, world.url, login="x")
    raises(TokenError, "Login required.", Connection, world.url, password="x")


def _of_clients(world):
    """A client makes tokens for itself only, with no more than it has; one who is locked out gets none."""
    login = world.client(world.networks[1].id)
    user = world.api.list_users(login=login)[0]
    with Connection(world.url, login=login, password=PASSWORD) as api:
        pair = api.create_token(user.id, actions=["GetNetwork"], network_ids=["*"], device_type_ids=["*"])
        refused(403, "Access is denied", api.create_token, 1, actions=["GetNetwork"])
        refused(403, "Access is denied", api.create_token, user.id, actions=["ManageUser"])
    with Connection(world.url, access_token=pair["access_token"]) as api:
        same([n.id for n in api.list_networks()], [world.networks[1].id])
        user.status = user.LOCKED_STATUS
        user.save()
        refused(403, "User is locked or disabled", world.api.create_token, user.id)
        refused(401, "User is locked or disabled", Connection, world.url, login=login, password=PASSWORD)
        refused_with(401, Connection, world.url, refresh_token=pair["refresh_token"])


def server(world):
    """Information and configuration."""
    info = world.api.get_info()
    same([type(info["api_version"]), len(info["server_timestamp"])], [str, len("2026-01-01T00:00:00.000")])
    rest = world.url.replace("ws://", "http://").replace("/websocket", "/rest")
    socket = world.url.replace("http://", "ws://").replace("/rest", "/websocket")
    urls = [info["rest_server_url"], info["websocket_server_url"]]
    same(urls, [None, socket] if world.is_http else [rest, None])
    cluster = world.api.get_cluster_info()
    same({key: type(value) for key, value in cluster.items()}, {"bootstrap.servers": str, "zookeeper.connect": str})
    name = f"{world.prefix} property"
    set_, get, delete = world.api.set_property, world.api.get_property, world.api.delete_property
    same([set_(name, "one"), set_(name, "two")], [{"entity_version": 0}, {"entity_version": 1}])
    same(get(name), {"name": name, "value": "two", "entity_version": 1})
    refused_with(400, set_, name, "x" * 129)
    refused_with(400, set_, "x" * 33, "x")
    delete(name)
    missing = f"Requested config with name = {name} not found in the database"
    refused(404, missing, delete, name)
    # Over HTTP with an empty body.
    refused(404, None if world.is_http else missing, get, name)
    refused_with(404, get, "jwt.secret")
    refused(403, "Access is denied", set_, "jwt.secret", "x" * 40)

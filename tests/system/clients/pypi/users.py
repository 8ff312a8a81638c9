"""Users: what an administrator does with them, and what a client may."""

from checks import raises, refused, refused_with, same
from connection import Connection
from devicehive import UserError
from devicehive.user import User
from world import PASSWORD

ALL_TYPES = "Cannot assign device type to user with all device types allowed"
TAKEN = "User with such login already exists. Please, select another one"
SIZE = "Field cannot be empty. The length of login should be from 3 to 128 symbols."


def users(world):
    login = f"{world.prefix}-user"
    user = _made(world, login)
    _lists(world, login)
    _networks(world, user)
    _device_types(world, user)
    _saved(world, user, login)
    id = user.id
    user.remove()
    same([user.id, user.login, user.last_login, user.intro_reviewed, user.role, user.status, user.data], [None] * 7)
    refused(404, f"User with id = {id} not found", world.api.get_user, id)
    for call in (user.save, user.remove, user.list_networks, user.list_device_types):
        raises(UserError, "User does not exist.", call)
    me = world.api.get_current_user()
    himself = "You can not delete a user or access key that you use to authenticate this request"
    refused(403, himself, me.remove)


def _fields(user):
    fields = [user.id, user.login, user.role, user.status, user.data]
    return [*fields, user.last_login, user.intro_reviewed, user.all_device_types_available]


def _made(world, login):
    api = world.api
    made = api.create_user(login, "first-password", User.CLIENT_ROLE, {"a": 1}, all_device_types_available=False)
    same(_fields(made), [made.id, login, 1, 0, {"a": 1}, None, False, False])
    user = User(api)
    user.get(made.id)
    same(_fields(user), _fields(made))
    refused(403, TAKEN, api.create_user, login, "first-password", 1, None)
    for bad in (("ab", PASSWORD, 1, None), ("x" * 129, PASSWORD, 1, None)):
        refused(400, SIZE, api.create_user, *bad)
    refused(400, "Password can contain only from 6 to 128 symbols!", api.create_user, f"{login}x", "12345", 1, None)
    refused(400, "User role is invalid or empty", api.create_user, f"{login}x", PASSWORD, 2, None)
    refused(400, "User role is invalid or empty", api.create_user, f"{login}x", PASSWORD, None, None)
    refused_with(400, api.create_user, "a b c", PASSWORD, 1, None)
    return user


def _lists(world, login):
    api = world.api
    api.create_user(f"{login}-2", PASSWORD, User.ADMINISTRATOR_ROLE, None)

    def listed(**options):
        return [each.login.removeprefix(login) for each in api.list_users(**options)]

    pattern = f"{login}%"
    same(listed(login_pattern=pattern, sort_field="login"), ["", "-2"])
    same(listed(login_pattern=pattern, sort_field="id", sort_order="DESC"), ["-2", ""])
    same(listed(login_pattern=pattern, sort_field="login", sort_order="DESC", take=1), ["-2"])
    same(listed(login_pattern=pattern, sort_field="login", skip=1), ["-2"])
    same(listed(login=login), [""])
    same(listed(login=login, login_pattern=f"{login}-%"), ["-2"])  # the pattern wins
    same(listed(login_pattern=pattern, role=1), [""])
    second = api.list_users(login=f"{login}-2")[0]
    same(_fields(second), [second.id, f"{login}-2", 0, 0, None, None, False, True])
    second.status = User.DISABLED_STATUS
    second.save()
    same(listed(login_pattern=pattern, status=2), ["-2"])
    same(listed(login_pattern=pattern, status=1), [])
    refused(401, "User is locked or disabled", Connection, world.url, login=f"{login}-2", password=PASSWORD)
    second.remove()
    for options in ({"sort_field": "role"}, {"sort_order": "up"}):
        refused(400, "Invalid request parameters", api.list_users, **options)
    for options in ({"take": -1}, {"skip": -1}):
        refused_with(400, api.list_users, **options)


def _networks(world, user):
    first, second = world.networks[1], world.networks[2]
    for network in (first, second, second):
        user.assign_network(network.id)
    found = sorted((n.id, n.name, n.description) for n in user.list_networks())
    same(found, [(n.id, n.name, n.description) for n in (first, second)])
    user.unassign_network(second.id)
    same([n.id for n in user.list_networks()], [first.id])
    missing = f"Network with id = {10**12} not found"
    refused(404, missing, user.assign_network, 10**12)
    refused(404, missing, user.unassign_network, 10**12)


def _device_types(world, user):
    type_id = world.types[1].id
    user.assign_device_type(type_id)
    same([(t.id, t.name, t.description) for t in user.list_device_types()], [(type_id, world.types[1].name, "type 1")])
    missing = f"Device type with id = {10**12} not found"
    refused(404, missing, user.assign_device_type, 10**12)
    user.unassign_device_type(type_id)
    same(user.list_device_types(), [])
    has_not_all = "User does not have access to all device types."
    raises(UserError, has_not_all, user.disallow_all_device_types)
    user.allow_all_device_types()
    same({1, type_id} <= {t.id for t in user.list_device_types()}, True)
    same(world.api.get_user(user.id).all_device_types_available, True)
    for call in (lambda: user.assign_device_type(1), user.allow_all_device_types):
        raises(UserError, "User have access to all device types.", call)
    # The client refuses what it knows itself; asked all the same the server refuses, too.
    user._all_device_types_available = False
    refused(403, ALL_TYPES, user.assign_device_type, type_id)
    refused(403, ALL_TYPES, user.unassign_device_type, type_id)
    user._all_device_types_available = True
    user.disallow_all_device_types()
    same(world.api.get_user(user.id).all_device_types_available, False)


def _saved(world, user, login):
    user.data, user.role, user.status = {"b": 2}, User.ADMINISTRATOR_ROLE, User.LOCKED_STATUS
    user.save()
    again = world.api.get_user(user.id)
    same(_fields(again), [user.id, login, 0, 1, {"b": 2}, None, False, False])
    again.role, again.status = User.CLIENT_ROLE, User.ACTIVE_STATUS
    again.save()
    again.update_password(PASSWORD)
    refused(400, "Password can contain only from 6 to 128 symbols!", again.update_password, "12345")
    same(world.api.get_user(user.id).data, {"b": 2})
    refused(401, "Invalid credentials", Connection, world.url, login=login, password="first-password")
    with Connection(world.url, login=login, password=PASSWORD) as api:
        _client(world, api, login)
    same(world.api.get_user(user.id).last_login is None, False)


def _client(world, api, login):
    """A member of the first network, without a device type."""
    same(api.get_current_user().login, login)
    same([n.name for n in api.list_networks()], [world.networks[1].name])
    same([api.list_devices(), api.list_device_types()], [[], []])
    denied = 403, "Access is denied"
    refused(*denied, api.create_network, f"{world.prefix} x", "x")
    refused(*denied, api.create_device_type, f"{world.prefix} x", "x")
    refused(*denied, api.list_users)
    refused(*denied, api.get_property, "x")
    refused(*denied, api.get_network, world.networks[2].id)
    refused(*denied, api.get_network, 10**12)
    refused(*denied, api.get_device_type, world.types[1].id)
    refused(*denied, api.get_device, world.device_id(2, 1))
    refused(*denied, api.get_device, f"{world.prefix}-missing")
    refused(*denied, api.subscribe_notifications, world.device_id(2, 1))
    refused(*denied, api.subscribe_notifications, f"{world.prefix}-missing")
    refused(*denied, api.subscribe_insert_commands, network_ids=[world.networks[2].id])
    refused(*denied, api.send_notification, world.device_id(2, 1), "x")
    refused(403, "No access to device type!", api.put_device, f"{world.prefix}-own", network_id=world.networks[1].id)
    refused(403, "No access to network!", api.put_device, f"{world.prefix}-own", network_id=world.networks[2].id)
    user = api.get_current_user()
    refused(*denied, user.save)

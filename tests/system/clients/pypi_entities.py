"""What an administrator does with the unchanged PyPI client: networks, device types, users, properties, tokens.

    python pypi_entities.py URL LOGIN PASSWORD PREFIX

Exits 0 and prints what it saw as one JSON object; an exception of the client ends it.
"""

import json
import sys
import time

from devicehive import DeviceHive, Handler
from devicehive.api_response import ApiResponseError

PASSWORD = "second-password"


class Program(Handler):
    """Does one piece of work and disconnects."""

    def __init__(self, api, work, arguments, done):
        super().__init__(api)
        self.work, self.arguments, self.done = work, arguments, done

    def handle_connect(self):
        self.done.append(self.work(self.api, *self.arguments))
        self.api.disconnect()


def connected(url, work, *arguments, **credentials):
    """What work(api, *arguments) gives, on a connection of its own."""
    done = []
    DeviceHive(Program, work, arguments, done).connect(url, max_num_connect=1, **credentials)
    return done[0]


def refused(call, *arguments, **named):
    """[code, text] of a call that must fail."""
    try:
        call(*arguments, **named)
    except ApiResponseError as error:
        return [error.code, error.error]
    raise SystemExit(f"{call} was not refused")


def containers(api, prefix, noun):
    """Networks or device types: noun is `network` or `device_type`."""
    create, get, list_ = (getattr(api, name) for name in (f"create_{noun}", f"get_{noun}", f"list_{noun}s"))
    name = f"{prefix} {noun}"
    made = create(name, "described")
    seen = {"created": [isinstance(made.id, int), made.name, made.description]}
    found = get(made.id)
    seen["got"] = [found.id == made.id, found.name, found.description]
    seen["duplicate"] = refused(create, name, "again")
    found.name, found.description = f"{name} 2", "changed"
    found.save()
    second = create(f"{name} 1", "second")
    listed = list_(name_pattern=f"{name}%", sort_field="name", sort_order="DESC", take=1)
    seen["listed"] = [[n.name, n.description] for n in listed]
    seen["by_name"] = [n.id for n in list_(name=f"{name} 1")] == [second.id]
    option = {f"{noun}_id": made.id}
    api.put_device(f"{prefix}-{noun}".replace("_", "-"), **option)
    seen["has_devices"] = refused(found.remove)[0]
    found.remove(force=True)
    second.remove()
    seen["removed"] = refused(get, made.id)[0]
    seen["device_went_too"] = refused(api.get_device, f"{prefix}-{noun}".replace("_", "-"))[0]
    seen["left"] = len(list_(name_pattern=f"{name}%"))
    return seen


def users(api, url, prefix):
    login = f"{prefix}-user"
    made = api.create_user(login, "first-password", 1, {"a": 1}, all_device_types_available=False)
    seen = {"duplicate": refused(api.create_user, login, "first-password", 1, None)}
    user = api.get_user(made.id)
    seen["got"] = [user.login, user.role, user.status, user.data, user.intro_reviewed, user.all_device_types_available]
    network = api.create_network(f"{prefix} of the user", "n")
    user.assign_network(network.id)
    seen["networks"] = [n.name for n in user.list_networks()]
    user.assign_device_type(1)
    seen["types"] = [t.id for t in user.list_device_types()]
    user.unassign_device_type(1)
    seen["no_types"] = user.list_device_types()
    user.allow_all_device_types()
    seen["all_types"] = len(user.list_device_types()) >= 8
    seen["assign_to_all"] = refused_raw(user)
    user.disallow_all_device_types()
    seen["listed"] = [u.login for u in api.list_users(login=login)]
    user.data, user.status = {"b": 2}, 2
    user.save()
    again = api.get_user(user.id)
    seen["saved"] = [again.data, again.status]
    again.status = 0
    again.save()
    again.update_password(PASSWORD)
    seen["data_kept"] = api.get_user(user.id).data
    seen["client"] = connected(url, client, prefix, login=login, password=PASSWORD)
    user.unassign_network(network.id)
    seen["no_networks"] = api.get_user(user.id).list_networks()
    network.remove()
    user_id = user.id
    user.remove()
    seen["removed"] = refused(api.get_user, user_id)[0]
    seen["gone"] = refused(connected, url, lambda api: None, login=login, password=PASSWORD)[0]
    return seen


def client(api, prefix):
    """What the new user may and may not."""
    own = api.list_networks()
    return {
        "login": api.get_current_user().login,
        "networks": [n.name for n in own],
        "devices": [d.id for d in api.list_devices()],
        "denied": refused(api.create_network, f"{prefix} x", "x"),
        "no_users": refused(api.list_users)[0],
        "foreign_network": refused(api.get_network, 1),
        "missing_network": refused(api.get_network, 10**12),
        "foreign_device": refused(api.get_device, f"{prefix}-foreign"),
        "missing_device": refused(api.get_device, f"{prefix}-missing"),
    }


def refused_raw(user):
    """The client itself checks what it knows, so it is made to forget that all types are allowed."""
    user._all_device_types_available = False
    answer = refused(user.assign_device_type, 1)
    user._all_device_types_available = True
    return answer


def properties(api, prefix):
    name = f"{prefix}-property"
    first = api.set_property(name, "one")
    second = api.set_property(name, "two")
    seen = {"versions": [first["entity_version"], second["entity_version"]], "got": api.get_property(name)}
    api.delete_property(name)
    seen["deleted"] = [refused(api.get_property, name)[0], refused(api.delete_property, name)]
    seen["secret"] = refused(api.get_property, "jwt.secret")[0]
    return seen


def tokens(api, url):
    me = api.get_current_user().id
    pair = api.create_token(me, actions=["GetNetwork"], network_ids=["1"], device_type_ids=["*"])
    seen = connected(url, narrow, access_token=pair["access_token"])
    renewed = connected(url, lambda api: [n.id for n in api.list_networks()], refresh_token=pair["refresh_token"])
    seen["refreshed"] = renewed
    late = api.create_token(me, expiration=int(time.time() * 1000) - 1000)
    seen["expired"] = refused(connected, url, lambda api: api.list_networks(), access_token=late["access_token"])[0]
    seen["info"] = sorted(api.get_info())
    return seen


def narrow(api):
    """With a token for networks, and of these for the first."""
    return {"networks": [n.id for n in api.list_networks()], "denied": refused(api.get_current_user)}


def everything(api, url, prefix):
    foreign = api.put_device(f"{prefix}-foreign")
    seen = {
        "network": containers(api, prefix, "network"),
        "device_type": containers(api, prefix, "device_type"),
        "users": users(api, url, prefix),
        "properties": properties(api, prefix),
        "tokens": tokens(api, url),
    }
    foreign.remove()
    return seen


if __name__ == "__main__":
    url, login, password, prefix = sys.argv[1:]
    print(json.dumps(connected(url, everything, url, prefix, login=login, password=password)))

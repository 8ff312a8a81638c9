"""What is there and what should be, and the commands between, which an own reading of them carries out."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from mqtt_bridge.core import dynsec
from mqtt_bridge.core.accounts import Accounts
from mqtt_bridge.core.dynsec import DEFAULTS, OWN, Account, Client, Command, State
from mqtt_bridge.core.roles import SEND, Entry
from skep import access, mqtt_passwords
from skep.access import User
from skep.metadata.mqtt_passwords import MqttAccount
from skep.tokens import Keys

BRIDGE = "skep-bridge"
ADMIN_ROLE = frozenset({Entry(SEND, "$CONTROL/#")})
FRESH = State({BRIDGE: Client("", "", ("admin",))}, {"admin": ADMIN_ROLE}, {SEND: False})


def account(number: int = 1, name: str = "", password: str = "p", topic: str = "t") -> Account:
    login = name or f"u{number}"
    return Account(login, f"c{number}", password, f"{dynsec.PREFIX}{number}", frozenset({Entry(SEND, topic)}))


class Broker:
    """As Mosquitto 2.0.11 carries them out: an impossible one fails the test."""

    def __init__(self, state: State) -> None:
        self.clients, self.roles, self.defaults = dict(state.clients), dict(state.roles), dict(state.defaults)
        self.ended: list[str] = []
        self.passwords: dict[str, str] = {}

    def run(self, commands: Iterable[Command]) -> None:
        for command in commands:
            getattr(self, str(command["command"]))(command)

    def setDefaultACLAccess(self, c: Command) -> None:
        self.defaults |= {acl["acltype"]: acl["allow"] for acl in c["acls"]}

    def createRole(self, c: Command) -> None:
        assert c["rolename"] not in self.roles
        self.roles[c["rolename"]] = frozenset()
        self.modifyRole(c)

    def modifyRole(self, c: Command) -> None:
        assert c["rolename"] in self.roles
        self.roles[c["rolename"]] = frozenset(
            Entry(a["acltype"], a["topic"], a["allow"], a["priority"]) for a in c["acls"]
        )

    def deleteRole(self, c: Command) -> None:
        assert not [u for u, client in self.clients.items() if c["rolename"] in client.roles]
        del self.roles[c["rolename"]]

    def createClient(self, c: Command) -> None:
        assert c["username"] not in self.clients
        self._set(c)

    def modifyClient(self, c: Command) -> None:
        assert c["username"] in self.clients
        self.ended.append(c["username"])
        self._set(c)

    def deleteClient(self, c: Command) -> None:
        del self.clients[c["username"]]
        self.ended.append(c["username"])

    def _set(self, c: Command) -> None:
        held = tuple(role["rolename"] for role in c["roles"])
        assert set(held) <= self.roles.keys()
        self.clients[c["username"]] = Client(c["clientid"], c["textdescription"], held)
        self.passwords[c["username"]] = c["password"]

    @property
    def state(self) -> State:
        return State(self.clients, self.roles, self.defaults)


def step(state: State, wanted: list[Account]) -> Broker:
    broker = Broker(state)
    broker.run(dynsec.commands(state, wanted, BRIDGE))
    assert dynsec.commands(broker.state, wanted, BRIDGE) == []
    assert broker.state == dynsec.after(state, wanted, BRIDGE)
    return broker


def test_a_fresh_broker() -> None:
    broker = step(FRESH, [account()])
    assert broker.defaults == DEFAULTS
    assert broker.roles["admin"] == ADMIN_ROLE | OWN
    assert broker.clients["u1"] == Client("c1", account().mark, ("skep-user-1",))
    assert broker.passwords == {"u1": "p"}
    assert broker.ended == []


def test_rights_that_change_end_no_connection_and_passwords_do() -> None:
    there = step(FRESH, [account(1), account(2)]).state
    assert step(there, [account(1, topic="other"), account(2)]).ended == []
    assert step(there, [account(1, password="q"), account(2)]).ended == ["u1"]
    assert step(there, [account(2)]).ended == ["u1"]
    assert step(there, [account(1, name="renamed"), account(2)]).ended == ["u1"]


def test_who_is_gone_goes_before_others_come() -> None:
    there = step(FRESH, [account(1)]).state
    took_over = account(2, name="u1")
    assert step(there, [took_over]).clients["u1"].client_id == "c2"


def test_the_operators_clients_stay_as_they_are() -> None:
    clients = {**FRESH.clients, "u1": Client("x", "", ("theirs",)), "plain": Client("", "")}
    theirs = State(clients, {**FRESH.roles, "theirs": frozenset()}, FRESH.defaults)
    wanted = [account(1), account(2), account(3, name=BRIDGE)]
    assert dynsec.strangers(theirs, wanted[:2]) == ["u1"]
    broker = step(theirs, wanted)
    assert {name: broker.clients[name] for name in clients} == clients
    assert broker.roles["theirs"] == frozenset()
    assert set(broker.clients) - set(clients) == {"u2"}


def test_a_mark_says_which_password_it_is_and_a_repr_none() -> None:
    assert account(password="p").mark == account(2, password="p").mark != account(password="q").mark
    assert "secret" not in repr(account(password="secret"))


ACCOUNTS = st.dictionaries(
    st.integers(1, 4), st.tuples(st.sampled_from(["", "x", "y"]), st.sampled_from("pq"), st.sampled_from("tu"))
).map(lambda found: [account(number, *rest) for number, rest in found.items()])


def distinct(accounts: list[Account]) -> list[Account]:
    return list({a.username: a for a in accounts}.values())


@settings(max_examples=300, deadline=None)
@given(st.lists(ACCOUNTS, min_size=1, max_size=4))
def test_whatever_was_there_becomes_what_should_be(history: list[list[Account]]) -> None:
    state = FRESH
    for wanted in history:
        broker = step(state, distinct(wanted))
        state = broker.state
        assert {n for n, c in state.clients.items() if c.is_ours} == {a.username for a in wanted}


KEYS = Keys((b"k",))


def stored(id: int = 1, key: str = "", **more: object) -> MqttAccount:
    user = User(id, f"u{id}", access.CLIENT, access.ACTIVE, frozenset({1}))
    more = {"client_id": f"u{id}"} | more
    return MqttAccount(user, salt=b"s" * 16, key=key or mqtt_passwords.key_name(KEYS), **more)  # type: ignore[arg-type]


def test_accounts_have_the_password_that_was_shown() -> None:
    [made] = Accounts(KEYS, BRIDGE).of([stored()])
    assert made.password == mqtt_passwords.password(KEYS, mqtt_passwords.key_name(KEYS), 1, b"s" * 16)
    assert (made.username, made.client_id, made.role) == ("u1", "u1", "skep-user-1")


def test_a_secret_that_is_gone_takes_its_accounts_along() -> None:
    assert [a.username for a in Accounts(KEYS, BRIDGE).of([stored(1, key="gone"), stored(2)])] == ["u2"]


def test_nobody_gets_a_client_id_of_the_bridges() -> None:
    found = [stored(1, client_id=BRIDGE), stored(2, client_id=f"{BRIDGE}-out-1"), stored(3)]
    assert [a.username for a in Accounts(KEYS, BRIDGE).of(found)] == ["u3"]


def test_entries_follow_what_they_are_made_of() -> None:
    accounts = Accounts(KEYS, BRIDGE, ("home",))
    [first] = accounts.of([stored()])
    assert Entry(SEND, "home/#") in first.entries
    [again] = accounts.of([stored()])
    assert again.entries is first.entries
    [more] = accounts.of([stored(devices=("d1",))])
    assert more.entries - first.entries >= {Entry(SEND, "dh/insert/notification/d1/+")}
    assert accounts.of([]) == []

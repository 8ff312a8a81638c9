"""Mosquitto's dynamic security, as the distribution has it: what `mqtt_bridge` knows of it, and keeps in step there.

No service runs: what should be is the test's own.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy import mosquitto, ports, process, tools
from deploy.mosquitto import Mosquitto
from deploy.options import ROOT
from mqtt_bridge.adapters import dynsec as adapter
from mqtt_bridge.adapters.connection import Options
from mqtt_bridge.adapters.dynsec import Control, DynamicSecurity
from mqtt_bridge.core import dynsec, roles
from mqtt_bridge.core.dynsec import Account
from mqtt_bridge.core.packets import Lost
from mqtt_bridge.core.roles import LITERAL, PATTERN, RECEIVE, SEND, Entry
from skep import access
from skep.access import CLIENT, User
from tests.contract.mosquitto_support import BRIDGE, SECRET, Machine, running
from tests.system.mqtt_client import REFUSED, Client, NotConnected, until

QUIET = 0.3
"""Seconds in which nothing must come: only ever beside something that does come."""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with running(tmp_path) as made:
        yield made


class Lease:
    seconds = 60.0

    def __init__(self) -> None:
        self.is_ours = True
        self.refused = asyncio.Event()

    async def take(self) -> bool:
        return self.is_ours

    async def renew(self) -> bool:
        return self.is_ours

    async def insist(self) -> None:
        if not self.is_ours:
            self.refused.set()
            raise Lost("another leads")


class Kept:
    """Accounts as they should be; `settled` is awaited for what the broker has."""

    def __init__(self, machine: Machine, options: Options | None = None) -> None:
        self.accounts: list[Account] = []
        self.looked = asyncio.Event()
        self.lease = Lease()
        self.session = DynamicSecurity(options or machine.options, self._wanted, self.lease)

    async def _wanted(self) -> list[Account]:
        self.looked.set()
        return self.accounts

    async def set(self, *accounts: Account) -> None:
        """Returns when a look that saw them is followed by another one: they are at the broker."""
        self.accounts = list(accounts)
        for _ in range(2):
            self.looked.clear()
            self.session.changed()
            await asyncio.wait_for(self.looked.wait(), 10)


@asynccontextmanager
async def keeping(machine: Machine) -> AsyncIterator[Kept]:
    kept = Kept(machine)
    task = asyncio.create_task(kept.session.run())
    try:
        yield kept
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def kept(machine: Machine) -> AsyncIterator[Kept]:
    async with keeping(machine) as kept:
        yield kept


def account(name: str, *networks: int, password: str = "", devices: tuple[str, ...] = ()) -> Account:
    user = User(int.from_bytes(name.encode()), name, CLIENT, access.ACTIVE, frozenset(networks))
    who = access.principal(access.login_claims(user, 2**50), user, 0)
    entries = roles.entries(who, name, devices, ["home"])
    return Account(name, name, password or f"of-{name}", f"skep-user-{user.id}", entries)


def connect(machine: Machine, name: str, client_id: str = "", password: str = "", **more: Any) -> Client:
    return Client(machine.broker.port, client_id or name, name, password or f"of-{name}", **more)


async def state(machine: Machine) -> dynsec.State:
    found: list[dynsec.State] = []

    async def read(control: Control) -> None:
        found.append(await control.read())

    await with_control(machine, read)
    return found[0]


async def with_control(machine: Machine, work: Callable[[Control], Awaitable[None]]) -> None:
    dialler = adapter.Dialler(Options("127.0.0.1", machine.broker.port, BRIDGE, SECRET, "observer"))
    control: list[Control] = []
    connection = await dialler.connection(lambda packet: control[0].receive(packet))
    control.append(Control(connection))
    try:
        await connection.subscribe([dynsec.RESPONSE])
        await work(control[0])
    finally:
        await connection.close()


async def test_who_lost_its_lease_while_it_was_paused_changes_nothing(machine: Machine, kept: Kept) -> None:
    await kept.set(account("ann", 1), account("bob", 2))
    kept.lease.is_ours = False
    kept.accounts = [account("ann", 1)]
    kept.session.changed()
    async with asyncio.timeout(10):
        await kept.lease.refused.wait()
    assert "bob" in (await state(machine)).clients


async def test_accounts_get_in_as_themselves_only(machine: Machine, kept: Kept) -> None:
    await kept.set(account("ann", 1), account("bob", 2))
    with connect(machine, "ann") as ann:
        for wrong in ({"client_id": "other"}, {"password": "wrong"}, {"client_id": "bob"}):
            with pytest.raises(NotConnected):
                connect(machine, "ann", **wrong)
        with pytest.raises(NotConnected):
            connect(machine, "bob", client_id="ann")
        with pytest.raises(NotConnected):
            Client(machine.broker.port, "nobody")
        assert ann.subscribe("dh/notification/1/#") == 1
        assert not ann.is_closed.is_set()


async def test_the_broker_reads_filters_as_the_roles_mean_them(machine: Machine, kept: Kept) -> None:
    """The judge of the unit tests, `covers`, is as right as this."""
    ann = account("ann", 1, devices=("dev",))
    await kept.set(ann)
    with connect(machine, "ann") as client:
        for granted in (
            "dh/notification/1/#", "dh/notification/1", "dh/notification/1/+/+/#", "dh/command/1/5/x/y",
            "$share/g/dh/notification/1/#", "dh/command_update/+/+/dev/#", "dh/command/+/+/dev", "dh/command/1/+/dev/t",
            "dh/response/device/get@ann", "dh/response/error@ann", "home/#", "home", "$share/g/home/+",
        ):  # fmt: skip
            assert client.subscribe(granted) == 1, granted
        for refused in (
            "#", "+/#", "+/notification/1/#", "dh/#", "dh/+/1/#", "dh/notification/#", "dh/notification/+/#",
            "dh/notification/2/#", "dh/command/+/+/other/#", "dh/command/+/+/+/#", "$share/g/#", "$share/g/dh/#",
            "$share/g/dh/notification/2/#", "dh/request/#", "dh/request/ann", "dh/insert/#", "dh/response/#",
            "dh/response/device/get@bob", "$SYS/#", "$CONTROL/#", f"{dynsec.RESPONSE}", "office/#", "+/lamp",
        ):  # fmt: skip
            assert client.subscribe(refused) == REFUSED, refused


async def test_nobody_gets_what_is_not_his_and_nothing_spoofed(machine: Machine, kept: Kept) -> None:
    await kept.set(account("ann", 1), account("bob", 2))
    with connect(machine, "ann") as ann, connect(machine, "bob") as bob:
        assert ann.subscribe("dh/notification/1/#") == ann.subscribe("home/#") == 1
        assert bob.subscribe("dh/notification/2/#") == bob.subscribe("home/#") == 1
        for topic in ("dh/notification/1/1/d/t", "dh/response/token@ann", "dh/request/ann", dynsec.TOPIC, "office/x"):
            bob.publish(topic, "spoofed")
        bob.publish("home/x", "last")
        assert ann.messages.get(timeout=5) == ("home/x", b"last")


async def test_a_will_is_judged_as_a_publish(machine: Machine, kept: Kept) -> None:
    await kept.set(account("ann", 1), account("bob", 1))
    with connect(machine, "ann") as ann:
        assert ann.subscribe("dh/notification/1/#") == ann.subscribe("home/#") == 1
        for topic in ("dh/notification/1/1/d/t", "home/will"):
            bob = connect(machine, "bob", will=(topic, "will"))
            bob.paho.loop_stop()
            bob.paho.socket().close()  # type: ignore[union-attr]
        assert ann.messages.get(timeout=5) == ("home/will", b"will")


async def test_rights_change_under_an_open_connection(machine: Machine, kept: Kept) -> None:
    await kept.set(account("ann", 1, 2))
    with connect(machine, "ann") as ann:
        assert ann.subscribe("dh/notification/1/#") == ann.subscribe("dh/notification/2/#") == 1
        await kept.set(account("ann", 2))
        await publish(machine, "dh/notification/1/1/d/t", "dh/notification/2/1/d/t")
        assert ann.messages.get(timeout=5)[0] == "dh/notification/2/1/d/t"
        assert ann.subscribe("dh/notification/1/#") == REFUSED
        await kept.set(account("ann", 1, 2, devices=("d",)))
        assert ann.subscribe("dh/notification/1/#") == 1
        assert not ann.is_closed.is_set()


async def publish(machine: Machine, *topics: str) -> None:
    """As the bridge does, beside it."""
    dialler = adapter.Dialler(Options("127.0.0.1", machine.broker.port, BRIDGE, SECRET, "publisher"))
    connection = await dialler.connection()
    await asyncio.gather(*(connection.publish(topic, b"{}") for topic in topics))
    await connection.close()


async def test_who_is_gone_is_cut_off(machine: Machine, kept: Kept) -> None:
    await kept.set(account("ann", 1), account("bob", 1))
    with connect(machine, "ann") as ann, connect(machine, "bob") as bob:
        await kept.set(account("bob", 1))
        until(ann.is_closed.is_set, "the session of a client that was deleted")
        with pytest.raises(NotConnected):
            connect(machine, "ann")
        await kept.set(account("bob", 1, password="another"))
        until(bob.is_closed.is_set, "the session of a client whose password changed")
        with pytest.raises(NotConnected):
            connect(machine, "bob")
        connect(machine, "bob", password="another").close()


async def test_what_waited_for_somebody_is_not_for_who_comes_after(machine: Machine, kept: Kept) -> None:
    """A client id that changes hands, with a session that the broker kept."""
    await kept.set(account("ann", 1))
    with connect(machine, "ann", clean=False) as ann:
        assert ann.subscribe("dh/notification/1/#") == 1
    await publish(machine, "dh/notification/1/1/d/waited")
    await kept.set()
    await publish(machine, "dh/notification/1/1/d/while-away")
    await kept.set(account("ann", 2))
    with connect(machine, "ann", clean=False) as ann:
        await publish(machine, "dh/notification/1/1/d/now")
        assert ann.subscribe("dh/notification/2/#") == 1
        await publish(machine, "dh/notification/2/1/d/own")
        assert ann.messages.get(timeout=5)[0] == "dh/notification/2/1/d/own"


async def test_a_broker_that_forgot_everything_and_one_that_restarts(machine: Machine, kept: Kept) -> None:
    await kept.set(account("ann", 1))
    machine.forget()
    await kept.set(account("ann", 1))
    connect(machine, "ann").close()
    machine.stop()
    machine.start()
    connect(machine, "ann").close()
    await kept.set(account("ann", 1), account("bob", 1))
    connect(machine, "bob").close()


async def test_what_another_administrator_did_is_put_right(machine: Machine) -> None:
    ann = account("ann", 1)

    async def spoil(control: Control) -> None:
        assert await control.do(
            [
                {"command": "createRole", "rolename": "skep-user-999", "acls": []},
                {"command": "createClient", "username": "eve", "roles": [{"rolename": "skep-user-999"}]},
                {
                    "command": "createRole",
                    "rolename": ann.role,
                    "acls": [{"acltype": SEND, "topic": "#", "allow": True}],
                },
                {"command": "createClient", "username": "theirs", "password": "x"},
            ]
        )

    await with_control(machine, spoil)
    async with keeping(machine) as kept:
        await kept.set(ann)
    there = await state(machine)
    assert there.clients.keys() == {BRIDGE, "ann", "theirs"}
    assert there.roles.keys() == {"admin", ann.role}
    assert there.roles[ann.role] == ann.entries


async def test_an_administrator_made_by_mosquitto_ctrl(machine: Machine) -> None:
    """Its role gets what it lacks for `dh/`, and the bridge does not cut itself off."""
    assert await asyncio.to_thread(_init, machine) == 0
    machine.start()
    async with keeping(machine) as kept:
        await kept.set(account("ann", 1))
        there = await state(machine)
        assert there.defaults == dynsec.DEFAULTS
        assert there.roles["admin"] >= dynsec.OWN
        with connect(machine, "ann") as ann:
            assert ann.subscribe("dh/notification/1/#") == 1
            await publish(machine, "dh/notification/1/1/d/t")
            assert ann.messages.get(timeout=5)[0] == "dh/notification/1/1/d/t"


def _init(machine: Machine) -> int:
    machine.stop()
    path = machine.broker.data / "dynamic-security.json"
    path.unlink()
    command = [str(tools.find("mosquitto_ctrl")), "dynsec", "init", str(path), BRIDGE, SECRET]
    return process.run(command, {"PATH": "/usr/bin:/bin"}).returncode


async def test_a_thousand_lines_and_a_large_answer(machine: Machine, kept: Kept) -> None:
    many = [account(f"user{n}", *range(n, n + 3)) for n in range(40)]
    await kept.set(*many)
    there = await state(machine)
    assert all(there.roles[each.role] == each.entries for each in many)
    kinds = {entry.kind for each in many for entry in each.entries}
    assert kinds == {SEND, RECEIVE, LITERAL, PATTERN}
    assert Entry(SEND, "dh/request/user7") in there.roles[many[7].role]


async def test_a_broker_without_the_plugin_is_told_of(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "ANSWER_SECONDS", QUIET)
    machine.stop()
    conf = machine.broker.data / "mosquitto.conf"
    conf.write_text(f"user root\nlistener {machine.broker.port} 127.0.0.1\nallow_anonymous true\n")
    spec = machine.broker.spec()
    child = process.spawn(process.Spec("bare", spec.command, spec.environment, spec.ready))
    try:
        process.wait(spec, child)
        with pytest.raises(adapter.Refused, match="dynamic security"):
            await state(machine)
    finally:
        process.end(child, spec.stop, 5)
        machine.start()


# paho leaves a socket whose handshake fails to the collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")
async def test_the_configuration_of_the_documentation_with_tls(machine: Machine, tmp_path: Path) -> None:
    """Copied with folders and ports of the test's own; the bridge comes by TLS, and checks whom it talks to."""
    assert await asyncio.to_thread(_init, machine) == 0
    _certify(tmp_path)
    plain, tls, websocket = ports.free(3)
    text = (ROOT / "docs" / "mqtt.md").read_text().split("# mosquitto.conf\n")[1].split("```")[0]
    for written, own in (
        (r"plugin /usr\S+", f"plugin {mosquitto.find_plugin()}"), ("/var/lib/mosquitto", str(machine.broker.data)),
        ("/etc/mosquitto/certs", str(tmp_path)), ("listener 1883", f"listener {plain}"),
        ("listener 8883", f"listener {tls}"), ("listener 8084", f"listener {websocket}"),
    ):  # fmt: skip
        text, count = re.subn(written, own, text)
        assert count, written
    conf = tmp_path / "documented.conf"
    conf.write_text(f"user {getpass.getuser()}\n{text}")
    there = Mosquitto(machine.broker.data, "127.0.0.1", tls, BRIDGE, SECRET)
    spec = process.Spec("documented", [str(tools.find("mosquitto")), "-c", str(conf)], lambda: {}, there.ready)
    child = process.spawn(spec)
    try:
        process.wait(spec, child)
        trusting = ssl.create_default_context(cafile=str(tmp_path / "broker.pem"))
        options = Options("localhost", tls, BRIDGE, SECRET, "control", tls=trusting)
        strangers = msgspec.structs.replace(options, tls=ssl.create_default_context())
        with pytest.raises(ssl.SSLCertVerificationError):
            await adapter.Dialler(strangers).connection()
        kept = Kept(machine, options)
        task = asyncio.create_task(kept.session.run())
        await kept.set(account("ann", 1))
        command = ["mosquitto_sub", "-h", "localhost", "-p", str(tls), "--cafile", str(tmp_path / "broker.pem")]
        command += ["-i", "ann", "-u", "ann", "-P", "of-ann", "-t", "dh/notification/1/#", "-E"]
        done = await asyncio.to_thread(process.run, command, {"PATH": os.environ["PATH"]})
        assert done.returncode == 0, done.stderr
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    finally:
        process.end(child, spec.stop, 5)
        machine.start()


def _certify(folder: Path) -> None:
    """A key and a certificate for localhost, by itself."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(folder / "broker.key")]
    done = process.run([*command, "-out", str(folder / "broker.pem")], {"PATH": os.environ["PATH"]})
    assert done.returncode == 0, done.stderr

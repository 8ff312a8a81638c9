"""The tables. Times are integer milliseconds since the epoch; JSON of the API is kept as its text.

Text is collated "C" (code point order): one index serves equality, sorting and LIKE with a fixed beginning.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)


class JsonText(TypeDecorator[bytes]):
    """JSON text, bytes in Python. Not `jsonb`: what an app stored, it gets back byte for byte."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: bytes | None, dialect: Any) -> str | None:
        return None if value is None else value.decode()

    def process_result_value(self, value: str | None, dialect: Any) -> bytes | None:
        return None if value is None else value.encode()


schema = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _text(length: int) -> String:
    return String(length, collation="C")


def _id(start: int = 1) -> Column[int]:
    return Column("id", BigInteger, Identity(start=start), primary_key=True)


users = Table(
    "users",
    schema,
    # 1 is the first admin's (`python -m skep.metadata admin`), whoever comes first.
    _id(start=2),
    Column("login", _text(128), nullable=False),
    Column("password_hash", String(255), nullable=False),
    Column("role", SmallInteger, nullable=False),
    Column("status", SmallInteger, nullable=False, server_default=text("0")),
    Column("login_attempts", BigInteger, nullable=False, server_default=text("0")),
    Column("last_login", BigInteger),
    Column("data", JsonText),
    Column("intro_reviewed", Boolean, nullable=False, server_default=text("false")),
    Column("all_device_types", Boolean, nullable=False, server_default=text("true")),
    UniqueConstraint("login"),
    CheckConstraint("role IN (0, 1)", name="role"),
    CheckConstraint("status IN (0, 1, 2)", name="status"),
)


def _container(name: str) -> Table:
    return Table(
        name,
        schema,
        _id(),
        Column("name", _text(128), nullable=False),
        Column("description", String(128)),
        UniqueConstraint("name"),
        CheckConstraint("name <> ''", name="name"),
    )


networks = _container("networks")
device_types = _container("device_types")

devices = Table(
    "devices",
    schema,
    Column("id", _text(48), primary_key=True),
    Column("name", _text(128), nullable=False),
    Column("data", JsonText),
    Column("network_id", BigInteger, ForeignKey(networks.c.id, ondelete="CASCADE"), nullable=False),
    Column("device_type_id", BigInteger, ForeignKey(device_types.c.id, ondelete="CASCADE"), nullable=False),
    Column("is_blocked", Boolean, nullable=False, server_default=text("false")),
    CheckConstraint("name <> ''", name="name"),
    # One for each order of a list, with the id, so that it is read off in order, and with all that a list filters by,
    # so that only the rows of the page itself are read. The primary key carries these too, but SQLAlchemy has no word
    # for it.
    Index(None, "name", "id", postgresql_include=["network_id", "device_type_id"]),
    Index(None, "network_id", "id", postgresql_include=["device_type_id", "name"]),
    Index(None, "device_type_id", "id", postgresql_include=["network_id", "name"]),
    Index(None, "is_blocked", "id", postgresql_include=["network_id", "device_type_id", "name"]),
)


def _membership(name: str, other: Table, column: str) -> Table:
    return Table(
        name,
        schema,
        Column("user_id", BigInteger, ForeignKey(users.c.id, ondelete="CASCADE"), primary_key=True),
        Column(column, BigInteger, ForeignKey(other.c.id, ondelete="CASCADE"), primary_key=True),
        Index(None, column),
    )


user_network = _membership("user_network", networks, "network_id")
user_device_type = _membership("user_device_type", device_types, "device_type_id")

configuration = Table(
    "configuration",
    schema,
    Column("name", _text(32), primary_key=True),
    Column("value", String(128), nullable=False),
    Column("entity_version", BigInteger, nullable=False, server_default=text("0")),
)

plugins = Table(
    "plugins",
    schema,
    _id(),
    Column("name", _text(128), nullable=False),
    Column("description", String(128)),
    Column("topic_name", _text(128), nullable=False),
    Column("filter", Text, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("user_id", BigInteger),  # no foreign key: a plugin stays when its owner goes
    Column("parameters", JsonText),
    Column("wanted", JsonText, nullable=False, server_default=text("'{}'")),
    Column("retention", BigInteger, nullable=False, server_default=text("3600000")),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    Column("stream", BigInteger, nullable=False, server_default=text("1")),
    Column("last_contact", BigInteger),
    Column("collecting", Boolean, nullable=False, server_default=text("false")),
    # MessagePack: a list of filters, tens of thousands in the worst case, so it is read only where it is changed.
    Column("interests", LargeBinary, nullable=False, server_default=text("'\\x90'")),
    UniqueConstraint("topic_name"),
    Index(None, "user_id"),
    Index(None, "name"),
)

plugin_streams = Table(
    "plugin_streams",
    schema,
    # Written before the bus makes the stream and deleted after the bus has deleted it, so none is ever forgotten.
    Column("topic_name", _text(128), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("made_at", BigInteger, nullable=False),
    Column("doomed", Boolean, nullable=False, server_default=text("false")),
)

plugin_proxies = Table(
    "plugin_proxies",
    schema,
    Column("run", _text(256), primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("lease", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
)

plugin_sockets = Table(
    "plugin_sockets",
    schema,
    Column("run", _text(256), ForeignKey(plugin_proxies.c.run, ondelete="CASCADE"), primary_key=True),
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("plugin_id", BigInteger, ForeignKey(plugins.c.id, ondelete="CASCADE"), nullable=False),
    Column("suffix", _text(64)),
    Column("slot", SmallInteger),
    Column("address", _text(64), nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("asked_at", BigInteger, nullable=False),
    UniqueConstraint("plugin_id", "slot"),
)

plugin_groups = Table(
    "plugin_groups",
    schema,
    Column("plugin_id", BigInteger, ForeignKey(plugins.c.id, ondelete="CASCADE"), primary_key=True),
    Column("name", _text(80), primary_key=True),
    Column("stream", BigInteger, nullable=False),
    Column("is_first", Boolean, nullable=False),
    Column("used_at", BigInteger, nullable=False),
)

plugin_attendance = Table(
    "plugin_attendance",
    schema,
    # One row. Silence of a proxy counts only while somebody listens.
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("listening_since", BigInteger, nullable=False),
    Column("heard_at", BigInteger, nullable=False),
    # Of the log that the plugins' interests were written to.
    Column("incarnation", String(64), nullable=False),
)

mqtt_clients = Table(
    "mqtt_clients",
    schema,
    Column("client_id", _text(128), primary_key=True),
    Column("user_id", BigInteger, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("claims", JsonText),
    Column("seen_at", BigInteger, nullable=False),
    Index(None, "user_id"),
)

mqtt_packets = Table(
    "mqtt_packets",
    schema,
    Column("session", _text(128), primary_key=True),
    Column("packet_id", Integer, primary_key=True, autoincrement=False),
    Column("id", BigInteger, nullable=False),
    Column("digest", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
)

mqtt_passwords = Table(
    "mqtt_passwords",
    schema,
    Column("user_id", BigInteger, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("client_id", _text(128), nullable=False),
    # With these and the platform's secret of that name the password is made; it is stored nowhere.
    Column("salt", LargeBinary, nullable=False),
    Column("key", String(16), nullable=False),
    Column("made_at", BigInteger, nullable=False),
    UniqueConstraint("client_id"),
)

leases = Table(
    "leases",
    schema,
    Column("name", _text(128), primary_key=True),
    Column("holder", _text(256), nullable=False),
    Column("until", DateTime(timezone=True), nullable=False),
)

outbox = Table(
    "outbox",
    schema,
    _id(),
    Column("topic", String(249), nullable=False),
    Column("key", LargeBinary),
    Column("payload", LargeBinary),
)

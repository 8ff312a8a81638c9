"""Environment -> typed, frozen settings; the table of `--help`; what the production profile refuses.

A service's settings are a frozen dataclass on `Base` whose fields are made with `field`. Each is read from its
environment variable, or from the file named by `<VARIABLE>_FILE` (both at once is an error).
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_type_hints
from urllib.parse import urlsplit

DEVELOPMENT, PRODUCTION = "development", "production"
KNOWN_PASSWORD = "dhadmin_#911"  # noqa: S105 - the reference's published password, named in order to refuse it
WEAK_PASSWORDS = frozenset({"", "12345", "password", "postgres", "skep", "devicehive"})
SECRET_BYTES = 32
"""Shortest secret for HS256 in production, bytes (RFC 7518 §3.2)."""

T = TypeVar("T")
S = TypeVar("S", bound="Base")


class Invalid(ValueError):
    """Settings that can't be used. One line for each complaint, naming its variable."""

    def __init__(self, *lines: str) -> None:
        self.lines = lines
        super().__init__("\n".join(lines))


def field(env: str, default: T, doc: str, *, minimum: float = 0, secret: bool = False) -> T:
    """A setting. `default`'s type (str, int, float, bool, tuple of str: a comma list) is the field's.
    minimum: for numbers. secret: kept out of `repr` and of the table."""
    made: T = dataclasses.field(
        default=default,
        repr=not secret,
        metadata={"env": env, "doc": doc, "minimum": minimum, "secret": secret},
    )
    return made


@dataclass(frozen=True)
class Base:
    """What every service reads. `unused` names variables a service does without: not read, not listed."""

    unused: ClassVar[frozenset[str]] = frozenset()

    instance: str = field("INSTANCE", "", "stable name of this process; default: service name and -1")
    profile: str = field("SKEP_PROFILE", PRODUCTION, "development or production; production refuses unsafe settings")
    host: str = field("HOST", "127.0.0.1", "address the listeners bind to")
    database_url: str = field(
        "DATABASE_URL", "postgresql://skep@127.0.0.1:5432/skep", "PostgreSQL with the metadata", secret=True
    )
    bus_urls: tuple[str, ...] = field("BUS_URLS", ("ws://127.0.0.1:3000",), "proxies of the bus, comma list")
    bus_secret: str = field("BUS_SECRET", "", "secret of the service tokens, required", secret=True)
    jwt_secret: str = field(
        "JWT_SECRET", "", "secrets of the users' tokens, comma list: first signs, all verify; required", secret=True
    )
    jwt_key: str = field("SKEP_JWT_KEY", "utf8", "how JWT_SECRET gives the key: utf8, or base64 as DeviceHive reads it")
    admin_password: str = field(
        "SKEP_ADMIN_PASSWORD", "", "password of the first administrator, checked for safety only", secret=True
    )
    log_level: str = field("LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING or ERROR")

    @property
    def is_production(self) -> bool:
        return self.profile == PRODUCTION

    def unsafe(self) -> Iterator[str]:
        """Complaints about settings the profile does not allow. Services add their own (`yield from super()…`)."""
        if self.is_production:
            yield from _unsafe_in_production(self)
        elif not is_loopback(self.host) and self.admin_password in ("", KNOWN_PASSWORD):
            # A laptop in a café: everybody knows the development password, so nobody else may reach it.
            yield (
                f"HOST={self.host} is refused in the development profile while the known admin password is in force:"
                " set SKEP_ADMIN_PASSWORD to another one"
            )


@dataclass(frozen=True)
class Edge(Base):
    """What services with a public HTTP listener read besides."""

    cors_origins: tuple[str, ...] = field("CORS_ORIGINS", ("*",), "origins of web pages that may call, comma list")
    trusted_proxies: tuple[str, ...] = field(
        "TRUSTED_PROXIES", (), "addresses or networks of gateways whose X-Forwarded-* headers are believed, comma list"
    )
    compat: bool = field(
        "SKEP_COMPAT_TOKENS",
        False,
        "as DeviceHive: token/create gives any rights, no actions means all client actions; development profile only",
    )

    def unsafe(self) -> Iterator[str]:
        yield from super().unsafe()
        if self.is_production and self.compat:
            yield "SKEP_COMPAT_TOKENS=true lets every client make itself an administrator's token"
        for text in self.trusted_proxies:
            try:
                ipaddress.ip_network(text)
            except ValueError:
                yield f"TRUSTED_PROXIES: {text} is neither an address nor a network"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a listener on `host`. A name other than localhost counts as no."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def service_of(cls: type[Base]) -> str:
    """The service a settings class belongs to: its top package."""
    return cls.__module__.partition(".")[0]


def load(cls: type[S], environ: Mapping[str, str]) -> S:
    """Settings from `environ`. Raises `Invalid`."""
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for item in _fields(cls):
        text = _read(item.metadata["env"], environ)
        if text is not None:
            values[item.name] = _convert(item, hints[item.name], text)
    if not values.get("instance"):
        values["instance"] = f"{service_of(cls)}-1"
    loaded = cls(**values)
    complaints = [*_missing(loaded), *loaded.unsafe()]
    if complaints:
        raise Invalid(*complaints)
    return loaded


def table(cls: type[Base]) -> str:
    """The settings with defaults, for `--help`."""
    rows = [(item.metadata["env"], _shown(item), item.metadata["doc"]) for item in _fields(cls)]
    name, default = (max(len(row[i]) for row in rows) for i in (0, 1))
    lines = (f"  {env:<{name}}  {shown:<{default}}  {doc}" for env, shown, doc in rows)
    return "\n".join(("Settings (environment; each also as NAME_FILE: a file with the value):", "", *lines))


def _fields(cls: type[Base]) -> list[dataclasses.Field[Any]]:
    return [f for f in dataclasses.fields(cls) if "env" in f.metadata and f.metadata["env"] not in cls.unused]


def _shown(item: dataclasses.Field[Any]) -> str:
    if isinstance(item.default, tuple):
        return ",".join(item.default)
    return str(item.default) if item.default != "" else "-"


def _read(env: str, environ: Mapping[str, str]) -> str | None:
    path = environ.get(f"{env}_FILE")
    if not path:
        return environ.get(env)
    if env in environ:
        raise Invalid(f"{env} and {env}_FILE are both set")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{env}_FILE: can't read {path}: {error.__class__.__name__}") from error


def _convert(item: dataclasses.Field[Any], kind: Any, text: str) -> Any:
    env = item.metadata["env"]
    if kind is str:
        return text
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise Invalid(f"{env}={text} is neither true nor false")
        return text.lower() in ("true", "1")
    if kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            raise Invalid(f"{env}={text} is not a number") from None
        if not item.metadata["minimum"] <= number < float("inf"):
            raise Invalid(f"{env}={text} is below {item.metadata['minimum']:g} or not finite")
        return number
    return tuple(part.strip() for part in text.split(",") if part.strip())


_CHOICES = {
    "profile": (DEVELOPMENT, PRODUCTION),
    "jwt_key": ("utf8", "base64"),
    "log_level": ("DEBUG", "INFO", "WARNING", "ERROR"),
}


def _missing(settings: Base) -> Iterator[str]:
    by_name = {item.name: item.metadata["env"] for item in _fields(type(settings))}
    for name in ("bus_secret", "jwt_secret"):
        if name in by_name and not getattr(settings, name).strip(", "):
            yield f"{by_name[name]} is not set"
    for name, choices in _CHOICES.items():
        if name in by_name and getattr(settings, name) not in choices:
            yield f"{by_name[name]}={getattr(settings, name)} is none of {', '.join(choices)}"


def _unsafe_in_production(settings: Base) -> Iterator[str]:
    for name, env in (("jwt_secret", "JWT_SECRET"), ("bus_secret", "BUS_SECRET")):
        secret = getattr(settings, name)
        parts = [part.strip() for part in secret.split(",") if part.strip()]
        if any(
            _key_bytes(part, name == "jwt_secret" and settings.jwt_key == "base64") < SECRET_BYTES for part in parts
        ):
            yield f"{env} has a secret of less than {SECRET_BYTES} bytes"
    if settings.jwt_secret and settings.jwt_secret == settings.bus_secret:
        yield "JWT_SECRET and BUS_SECRET are the same"
    if settings.admin_password == KNOWN_PASSWORD:
        yield "SKEP_ADMIN_PASSWORD is the published one"
    if urlsplit(settings.database_url).password in WEAK_PASSWORDS:
        yield "DATABASE_URL has a password everybody knows"
    if settings.log_level == "DEBUG":
        yield "LOG_LEVEL=DEBUG writes what people send into the log"


def _key_bytes(secret: str, base64: bool) -> int:
    # A base64 secret gives 3 bytes for each 4 characters; counting all characters as data errs upwards by padding only.
    return len(secret) // 4 * 3 if base64 else len(secret.encode())

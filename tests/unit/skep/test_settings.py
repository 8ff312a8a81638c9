from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from auth.settings import Settings as AuthSettings
from skep import settings
from skep.settings import Invalid, field, load

DEVELOPMENT = {"SKEP_PROFILE": "development", "JWT_SECRET": "a", "BUS_SECRET": "b"}
SAFE = {
    "SKEP_PROFILE": "production",
    "JWT_SECRET": "j" * 32,
    "BUS_SECRET": "b" * 32,
    "SKEP_ADMIN_PASSWORD": "something else",
    "DATABASE_URL": "postgresql://skep:long-and-random@db/skep",
    "HOST": "0.0.0.0",
}


@dataclass(frozen=True)
class Sample(settings.Edge):
    unused: ClassVar[frozenset[str]] = frozenset({"LOG_LEVEL"})

    port: int = field("SAMPLE_PORT", 80, "a port")
    ratio: float = field("SAMPLE_RATIO", 0.5, "a ratio", minimum=0.1)
    on: bool = field("SAMPLE_ON", False, "a switch")


def refused(cls: type[settings.Base], environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(Invalid) as error:
        load(cls, environ)
    return error.value.lines


def test_types_and_defaults() -> None:
    environ = {
        **DEVELOPMENT,
        "SAMPLE_PORT": "81",
        "SAMPLE_RATIO": "2",
        "SAMPLE_ON": "True",
        "BUS_URLS": "ws://a, ws://b,",
    }
    made = load(Sample, environ)
    assert (made.port, made.ratio, made.on, made.bus_urls) == (81, 2.0, True, ("ws://a", "ws://b"))
    assert (load(Sample, DEVELOPMENT).port, made.host) == (80, "127.0.0.1")


def test_instance_is_named_after_the_service() -> None:
    assert load(AuthSettings, DEVELOPMENT).instance == "auth-1"
    assert load(AuthSettings, {**DEVELOPMENT, "INSTANCE": "auth-2"}).instance == "auth-2"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SAMPLE_PORT", "x"),
        ("SAMPLE_PORT", "-1"),
        ("SAMPLE_PORT", "1.5"),
        ("SAMPLE_RATIO", "0.01"),
        ("SAMPLE_RATIO", "nan"),
        ("SAMPLE_RATIO", "inf"),
        ("SAMPLE_ON", "yes"),
        ("SKEP_PROFILE", "prod"),
        ("SKEP_JWT_KEY", "hex"),
        ("TRUSTED_PROXIES", "gateway"),
        ("JWT_SECRET", ""),
        ("BUS_SECRET", " , "),
    ],
)
def test_a_bad_value_is_named(name: str, value: str) -> None:
    (line,) = refused(Sample, {**DEVELOPMENT, name: value})
    assert name in line


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("from a file\n")
    environ = {k: v for k, v in DEVELOPMENT.items() if k != "JWT_SECRET"} | {"JWT_SECRET_FILE": str(path)}
    assert load(Sample, environ).jwt_secret == "from a file"
    assert "both" in refused(Sample, {**environ, "JWT_SECRET": "x"})[0]
    assert "JWT_SECRET_FILE" in refused(Sample, {**environ, "JWT_SECRET_FILE": str(tmp_path / "missing")})[0]


def test_unused_is_neither_read_nor_listed() -> None:
    assert load(Sample, {**DEVELOPMENT, "LOG_LEVEL": "NONSENSE"}).log_level == "INFO"
    assert "LOG_LEVEL" not in settings.table(Sample)
    assert "SAMPLE_PORT" in settings.table(Sample)


def test_secrets_are_not_shown() -> None:
    made = load(Sample, {**DEVELOPMENT, "JWT_SECRET": "hush", "SKEP_ADMIN_PASSWORD": "hush"})
    assert "hush" not in repr(made)


# -- profiles -------------------------------------------------------------------------------------------------------


def test_production_is_the_default() -> None:
    assert load(Sample, {k: v for k, v in SAFE.items() if k != "SKEP_PROFILE"}).is_production


def test_safe_production_starts() -> None:
    load(Sample, SAFE)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JWT_SECRET", "devicehive"),
        ("JWT_SECRET", "j" * 31),
        ("JWT_SECRET", "j" * 32 + ",short"),
        ("BUS_SECRET", "b" * 31),
        ("JWT_SECRET", "b" * 32),
        ("SKEP_ADMIN_PASSWORD", settings.KNOWN_PASSWORD),
        ("DATABASE_URL", "postgresql://postgres:12345@db/skep"),
        ("DATABASE_URL", "postgresql://postgres:@db/skep"),
        ("LOG_LEVEL", "DEBUG"),
        ("SKEP_COMPAT_TOKENS", "true"),
    ],
)
def test_production_refuses(name: str, value: str) -> None:
    (line,) = refused(AuthSettings, {**SAFE, name: value})
    assert name in line
    load(AuthSettings, {**DEVELOPMENT, name: value})


def test_a_base64_secret_is_measured_decoded() -> None:
    assert "JWT_SECRET" in refused(Sample, {**SAFE, "SKEP_JWT_KEY": "base64", "JWT_SECRET": "j" * 40})[0]
    load(Sample, {**SAFE, "SKEP_JWT_KEY": "base64", "JWT_SECRET": "j" * 44})


def test_every_complaint_has_its_line() -> None:
    lines = refused(Sample, {**SAFE, "JWT_SECRET": "x", "BUS_SECRET": "y"})
    assert [line.split()[0] for line in lines] == ["JWT_SECRET", "BUS_SECRET"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_development_stays_at_home_with_the_known_password(host: str) -> None:
    assert "HOST" in refused(Sample, {**DEVELOPMENT, "HOST": host})[0]
    known = {**DEVELOPMENT, "HOST": host, "SKEP_ADMIN_PASSWORD": settings.KNOWN_PASSWORD}
    assert "HOST" in refused(Sample, known)[0]
    load(Sample, {**known, "SKEP_ADMIN_PASSWORD": "another one"})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback(host: str) -> None:
    load(Sample, {**DEVELOPMENT, "HOST": host})

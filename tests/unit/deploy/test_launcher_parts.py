"""The launcher's pure parts: back-off, settings, secrets, environments, what it prints."""

import os
import stat
from pathlib import Path

import pytest

from deploy import kafka, local, services, supervisor, welcome
from deploy.folder import Folder
from deploy.options import Options
from deploy.process import Failed
from skep import settings


def options(**environ: str) -> Options:
    return settings.load(Options, environ)


def test_back_off_doubles_up_to_its_limit() -> None:
    assert [supervisor.pause(n) for n in (1, 2, 3)] == [0.1, 0.2, 0.4]
    assert supervisor.pause(50) == supervisor.LONGEST_PAUSE


def test_exit_codes_in_words() -> None:
    assert supervisor.described(-9) == "was ended by SIGKILL"
    assert supervisor.described(1) == "ended with code 1"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('time=2026-11-21T08:00:00.000Z level=info logger=frontend msg="ready"', False),
        ('time=2026-11-21T08:00:00.000Z level=debug logger=frontend msg="x"', False),
        ('time=2026-11-21T08:00:00.000Z level=warning logger=frontend msg="x"', True),
        ("Traceback (most recent call last):", True),
    ],
)
def test_warnings_are_shown(line: str, shown: bool) -> None:
    assert local.warns(line) is shown


def test_another_address_needs_another_password() -> None:
    with pytest.raises(settings.Invalid, match=r"HOST=0\.0\.0\.0 is refused"):
        options(HOST="0.0.0.0")
    with pytest.raises(settings.Invalid, match=r"HOST=0\.0\.0\.0 is refused"):
        options(HOST="0.0.0.0", SKEP_ADMIN_PASSWORD=settings.KNOWN_PASSWORD)
    assert options(HOST="0.0.0.0", SKEP_ADMIN_PASSWORD="another one").host == "0.0.0.0"


def test_production_knows_no_password() -> None:
    with pytest.raises(settings.Invalid, match="SKEP_ADMIN_PASSWORD"):
        options(SKEP_PROFILE="production")


def test_one_port_for_two_services_is_refused() -> None:
    with pytest.raises(settings.Invalid, match="FRONTEND_PORT and AUTH_PORT are both 9000"):
        options(FRONTEND_PORT="9000", AUTH_PORT="9000")
    with pytest.raises(settings.Invalid, match="ENGINES=half"):
        options(ENGINES="half")


def test_engines_listen_only_where_they_are_ours() -> None:
    def listening(**environ: str) -> set[str]:
        return {setting for _, _, setting in options(**environ).listeners()}

    assert "KAFKA_PORT" not in listening()
    assert {"KAFKA_PORT", "KAFKA_CONTROLLER_PORT", "HAZELCAST_PORT"} <= listening(ENGINES="full")
    assert not {"KAFKA_PORT", "KAFKA_CONTROLLER_PORT"} & listening(ENGINES="full", KAFKA_BOOTSTRAP="k:9092")


def test_engines_of_our_own_stay_on_loopback() -> None:
    opened = options(ENGINES="full", HOST="0.0.0.0", SKEP_ADMIN_PASSWORD="another one").listeners()
    edge = {"FRONTEND_PORT", "AUTH_PORT", "PLUGIN_MANAGER_PORT", "PROXY_PLUGIN_PORT"}
    edge |= {"MQTT_PORT", "MQTT_WEBSOCKET_PORT"}
    assert {setting for host, _, setting in opened if host != "127.0.0.1"} == edge


def test_beside_a_certificate_mqtt_in_clear_stays_on_loopback() -> None:
    def opened(**environ: str) -> dict[str, str]:
        made = options(HOST="0.0.0.0", SKEP_ADMIN_PASSWORD="another one", MQTT_TLS_CERT="cert.pem", **environ)
        return {setting: host for host, _, setting in made.listeners() if setting.startswith("MQTT")}

    local, everywhere = "127.0.0.1", "0.0.0.0"
    plain = {"MQTT_PORT": local, "MQTT_WEBSOCKET_PORT": local, "MQTT_HOOKS_PORT": local}
    assert opened() == {**plain, "MQTT_TLS_PORT": everywhere, "MQTT_WEBSOCKET_TLS_PORT": everywhere}
    assert opened(MQTT_TLS_PORT="0", MQTT_WEBSOCKET_TLS_PORT="0") == plain
    assert opened(MQTT_HOST="elsewhere") == {"MQTT_HOOKS_PORT": local}


def test_secrets_are_made_once_and_private(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "data")
    folder.open()
    made = folder.secret("jwt_secret")
    folder.close()
    again = Folder(tmp_path / "data")
    again.open()
    assert again.secret("jwt_secret") == made
    assert again.secret("bus_secret") != made
    again.close()
    path = tmp_path / "data" / "secrets" / "jwt_secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_folder_of_somebody_else_keeps_its_permissions(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    folder = Folder(tmp_path)
    folder.open()
    folder.close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_second_launcher_is_refused(tmp_path: Path) -> None:
    first, second = Folder(tmp_path), Folder(tmp_path)
    first.open()
    with pytest.raises(Failed, match=rf"process {os.getpid()}.*SKEP_DATA"):
        second.open()
    first.close()
    second.open()
    second.close()


def test_settings_for_one_process(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.open()
    (tmp_path / "env" / "frontend.env").write_text("# why\nBUS_URLS=ws://127.0.0.1:1?a=b\n\n")
    assert folder.settings("frontend") == {"BUS_URLS": "ws://127.0.0.1:1?a=b"}
    assert folder.settings("backend") == {}
    folder.close()


def test_services_learn_their_engines() -> None:
    engines = services.Engines("postgresql://x", "127.0.0.1:9092", "127.0.0.1:5701")
    light = services.environment(options(), engines, {"BUS_SECRET": "b"})
    assert (light["BUS_ENGINE"], light["MESSAGE_STORE"], light["BUS_SECRET"]) == ("postgres", "postgres", "b")
    assert "KAFKA_BOOTSTRAP" not in light
    full = services.environment(options(ENGINES="full"), engines, {})
    assert (full["BUS_ENGINE"], full["MESSAGE_STORE"], full["KAFKA_BOOTSTRAP"]) == (
        "kafka",
        "hazelcast",
        "127.0.0.1:9092",
    )


def test_kafka_listens_on_loopback_only() -> None:
    lines = kafka.properties(Path("/data"), 1, 2).splitlines()
    assert "listeners=PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2" in lines
    assert "auto.create.topics.enable=false" in lines


def test_a_password_that_was_changed_is_not_printed(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert any("dhadmin_#911" in line for line in welcome.lines(options(), folder, "dhadmin_#911"))
    assert not any("dhadmin_#911" in line for line in welcome.lines(options(), folder, ""))


def test_commands_survive_the_shell() -> None:
    login, notify = welcome.commands("http://r", "http://a", 'it\'s "so"')
    assert """'{"login": "dhadmin", "password": "it'"'"'s \\"so\\""}'""" in login
    assert "http://r/device/" in notify


def test_generated_secrets_are_printed_once_in_development(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "data")
    folder.open()
    made = folder.secret("jwt_secret")
    assert any(made in line for line in welcome.lines(options(), folder, ""))
    production = options(SKEP_PROFILE="production", SKEP_ADMIN_PASSWORD="another one")
    assert not any(made in line for line in welcome.lines(production, folder, ""))
    folder.close()

"""docker-compose.yml, as far as it can be judged without Docker."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]


def test_the_suite_is_complete() -> None:
    assert {
        "frontend",
        "auth",
        "backend",
        "plugin-manager",
        "proxy",
        "proxy-plugins",
        "kafka",
        "hazelcast-1",
        "postgres",
    } <= set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_or_built_here(name: str) -> None:
    service = SERVICES[name]
    if "build" in service:
        assert (ROOT / service["build"]["dockerfile"]).exists()
        assert (ROOT / service["build"]["args"]["SERVICE"]).is_dir()
    else:
        assert service["image"].rpartition(":")[2] not in ("", "latest")


@pytest.mark.parametrize("name", SERVICES)
def test_secrets_have_no_default(name: str) -> None:
    for variable, value in SERVICES[name].get("environment", {}).items():
        if variable.endswith(("SECRET", "PASSWORD")) or "://skep:" in value:
            assert ":?" in value, variable


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_published_stays_on_this_machine(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", SERVICES)
def test_networks_volumes_and_conditions_exist(name: str) -> None:
    service = SERVICES[name]
    assert set(service["networks"]) <= set(COMPOSE["networks"])
    for other, needs in service.get("depends_on", {}).items():
        assert other in SERVICES
        if needs["condition"] == "service_healthy" and "build" not in SERVICES[other]:
            assert "healthcheck" in SERVICES[other]
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


def test_the_image_has_no_root_and_a_health_check() -> None:
    lines = (ROOT / "deploy" / "Dockerfile").read_text().splitlines()
    assert "USER skep" in lines
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    assert any("--require-hashes" in line for line in lines)

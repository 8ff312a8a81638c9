"""Fixtures of the system tests.

suite  (session, once for each engine set)  a running Suite that tests share; they leave it as they found it
mqtt   (session, once for each broker)      a `tests.system.mqtt.World`: a running suite behind an MQTT broker
npm    (session)  the path of `node`, with the packages of clients/npm installed from their lock
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import mqtt as brokers
from tests.system import packages
from tests.system.suite import Suite

NPM = Path(__file__).parent / "clients" / "npm"
ENGINE_SETS = ["light", "full"]
MQTT_BROKERS = [brokers.AMQTT, brokers.RABBITMQ, brokers.MOSQUITTO]


def running(engines: str, request: pytest.FixtureRequest) -> Iterator[Suite]:
    if engines == "full":
        request.getfixturevalue("java_engines")
    suite = Suite(engines)
    suite.start()
    try:
        yield suite
    finally:
        suite.stop()


@pytest.fixture(scope="session", params=ENGINE_SETS)
def suite(request: pytest.FixtureRequest) -> Iterator[Suite]:
    yield from running(request.param, request)


@pytest.fixture(scope="session", params=MQTT_BROKERS)
def mqtt(request: pytest.FixtureRequest) -> Iterator[brokers.World]:
    site = brokers.Site(request.param, MQTT_ANONYMOUS="true")
    site.start()
    try:
        yield brokers.World(site)
    finally:
        site.stop()


@pytest.fixture(scope="session")
def npm() -> str:
    return packages.npm_ci(NPM)

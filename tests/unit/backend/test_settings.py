import pytest

from backend import app
from backend.adapters.hazelcast import HazelcastStore
from backend.adapters.postgres import PostgresStore
from backend.settings import Settings
from skep import settings

ENVIRONMENT = {"SKEP_PROFILE": "development", "BUS_SECRET": "s" * 40}


def test_the_store_follows_the_setting() -> None:
    assert isinstance(app.make_store(settings.load(Settings, ENVIRONMENT)), PostgresStore)
    full = {**ENVIRONMENT, "MESSAGE_STORE": "hazelcast"}
    assert isinstance(app.make_store(settings.load(Settings, full)), HazelcastStore)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"MESSAGE_STORE": "redis"}, "MESSAGE_STORE=redis is none of postgres, hazelcast"),
        ({"SKEP_FAULT": "explode"}, "SKEP_FAULT=explode is not of the form raise:NAME"),
        ({"SKEP_FAULT": "raise:x", "SKEP_PROFILE": "production"}, "SKEP_FAULT is for the development profile"),
    ],
)
def test_what_cant_be_used_is_refused(changes: dict[str, str], complaint: str) -> None:
    with pytest.raises(settings.Invalid) as raised:
        settings.load(Settings, {**ENVIRONMENT, **changes})
    assert complaint in raised.value.lines


def test_a_fault_hits_its_name_alone() -> None:
    assert app.fault("") is None
    fault = app.fault("raise:bad")
    assert fault is not None
    fault("good")
    with pytest.raises(RuntimeError, match="SKEP_FAULT"):
        fault("bad")

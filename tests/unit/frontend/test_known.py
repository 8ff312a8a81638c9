from frontend.core.known import Known
from tests.unit.frontend.fakes import DEVICES

MINE = DEVICES["mine"]


def test_what_was_read_before_a_change_is_not_kept() -> None:
    known = Known()
    state = known.state
    known.changed("device", ["mine"])
    known.keep(MINE, state)
    assert known.get("mine") is None
    known.keep(MINE, known.state)
    assert known.get("mine") is MINE


def test_age_and_bound() -> None:
    time = [0.0]
    known = Known(max_age=30, limit=1, clock=lambda: time[0])
    known.keep(MINE, known.state)
    time[0] = 31
    assert known.get("mine") is None
    known.keep(MINE, known.state)
    known.keep(DEVICES["other"], known.state)
    assert known.get("mine") is None
    assert len(known) == 1


def test_changes() -> None:
    known = Known()
    for entity, ids, kept in (("user", ["mine"], True), ("device", ["x"], True), ("network", ["1"], False)):
        known.keep(MINE, known.state)
        known.changed(entity, ids)
        assert (known.get("mine") is MINE) is kept

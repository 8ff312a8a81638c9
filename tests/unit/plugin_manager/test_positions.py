"""How far readers are, as the bus tells it."""

from plugin_manager.core.positions import position
from skep.wire.plugin_api import GroupPosition, PartitionPosition
from skep.wire.proxy import Described
from tests.unit.plugin_manager.build import TOPIC


def test_where_nobody_has_read_everything_waits():
    told = position(TOPIC, Described(1, [(0, 5), (2, 4)]))
    assert (told.lag, told.groups) == (7, [])


def test_the_lag_is_that_of_the_group_furthest_behind():
    groups = {f"plugin-{TOPIC}.a": {0: 5, 1: 3}, f"plugin-{TOPIC}.-0": {0: 1}, "another": {0: 0}}
    told = position(TOPIC, Described(1, [(0, 5), (2, 4)], groups=groups))
    assert told.lag == 6
    assert told.groups == [
        GroupPosition("-0", 6, [PartitionPosition(0, 0, 1, 5), PartitionPosition(1, 2, 2, 4)]),
        GroupPosition("a", 1, [PartitionPosition(0, 0, 5, 5), PartitionPosition(1, 2, 3, 4)]),
    ]


def test_what_retention_removed_waits_no_more():
    told = position(TOPIC, Described(1, [(8, 10)], groups={f"plugin-{TOPIC}.a": {0: 3}}))
    assert (told.lag, told.groups[0].partitions[0].position) == (2, 8)

from skep.wire import topics
from skep.wire.proxy import MAX_BODY, Code, Failure, Record
from ws_kafka_proxy.core.partition import of_key, place


def test_the_hash_never_changes() -> None:
    """Devices of a running installation must stay where they are."""
    assert [of_key(key, 8) for key in (b"", b"device-1", b"device-2", "gerät".encode())] == [0, 1, 3, 2]


def test_an_asked_partition_goes_before_the_key_and_the_key_before_the_turn() -> None:
    assert place(Record(topics.REQUESTS, b"device-1", b"", 1, 5), 8, 3) == 5
    assert place(Record(topics.REQUESTS, b"device-1", b"", 1), 8, 3) == 1
    assert place(Record(topics.REQUESTS, None, b"", 1), 8, 11) == 3


def test_what_can_not_be_taken() -> None:
    for record, code in (
        (Record(topics.SUBSCRIPTIONS, None, b"", 1), Code.BAD),
        (Record(topics.REQUESTS, b"k", None, 1), Code.BAD),
        (Record(topics.REQUESTS, b"k", b"", 1, 8), Code.BAD),
        (Record(topics.REQUESTS, b"k", b"", 1, -1), Code.BAD),
        (Record(topics.REQUESTS, b"k", b"x" * (MAX_BODY + 1), 1), Code.TOO_LARGE),
    ):
        refused = place(record, 8, 0)
        assert isinstance(refused, Failure)
        assert refused.code == code
    assert place(Record(topics.SUBSCRIPTIONS, b"k", None, 1), 1, 0) == 0

import asyncio
import time

import msgspec
import pytest

from backend.core.store import LARGEST
from skep.bus.calls import Calls
from skep.bus.counters import Counters
from skep.bus.errors import Failed, Refused, TimedOut
from skep.bus.options import Options
from skep.bus.publisher import Publisher
from skep.wire import messages, proxy
from skep.wire.proxy import Code
from tests.unit.skep.bus.fakes import FakePipe, record, turn


def make(**options: int) -> tuple[Calls, Publisher, FakePipe]:
    loop, pipe, counters = asyncio.get_running_loop(), FakePipe(), Counters()
    settings = Options(**options)  # type: ignore[arg-type]
    publisher = Publisher(loop, settings, counters, lambda: calls.flush())
    calls = Calls(loop, settings, counters, publisher, "replies.me")
    publisher.attach(pipe)
    return calls, publisher, pipe


def published(pipe: FakePipe) -> list[proxy.Record]:
    return [r for f in pipe.take(proxy.Publish) for r in f.records]


def answer(calls: Calls, *replies: messages.Reply) -> None:
    calls.answered([record(0, 1, payload=messages.encode(messages.Replies(list(replies))))])


def ask(calls: Calls, timeout: float = 60, again: float | None = None) -> asyncio.Future[bytes]:
    return calls.call("queries", messages.Get(0, "d", 1), None, None, timeout, again)


async def test_a_call_says_who_asks_and_until_when() -> None:
    calls, _, pipe = make()
    future = ask(calls, timeout=3)
    await turn()
    (sent,) = published(pipe)
    call = messages.decode_call(sent.payload or b"")
    assert (sent.topic, call.reply_to, len(call.correlation)) == ("queries", "replies.me", 16)
    assert 2_000 < call.deadline - time.time() * 1000 <= 3_000
    assert messages.decode_query(call.body) == messages.Get(0, "d", 1)
    answer(calls, messages.Reply(call.correlation, body=msgspec.Raw(messages.encode([1, 2]))))
    assert msgspec.msgpack.decode(await future) == [1, 2]
    assert calls.waiting == 0


async def test_a_code_is_a_failure() -> None:
    calls, _, pipe = make()
    future = ask(calls)
    await turn()
    call = messages.decode_call(published(pipe)[0].payload or b"")
    answer(calls, messages.Reply(call.correlation, 404, "missing"))
    with pytest.raises(Failed) as failed:
        await future
    assert (failed.value.code, failed.value.status, failed.value.text) == (404, 404, "missing")


@pytest.mark.parametrize(
    ("code", "body", "seconds"), [(429, 37, 37), (503, None, 1), (404, None, None), (429, "x", None)]
)
async def test_a_failure_says_when_to_try_again(code: int, body: object, seconds: int | None) -> None:
    calls, _, pipe = make()
    future = ask(calls)
    await turn()
    call = messages.decode_call(published(pipe)[0].payload or b"")
    answer(calls, messages.Reply(call.correlation, code, "later", msgspec.Raw(messages.encode(body))))
    with pytest.raises(Failed) as failed:
        await future
    assert failed.value.retry_after == seconds


async def test_answers_nobody_waits_for_are_counted() -> None:
    calls, publisher, _ = make()
    answer(calls, messages.Reply(b"?" * 16))
    calls.answered([record(0, 1, payload=b"\xc1")])
    assert publisher._counters.unknown_replies == 2


async def test_no_answer_is_timed_out() -> None:
    calls, _, _ = make()
    with pytest.raises(TimedOut):
        await ask(calls, timeout=0.01)
    # The publisher's wheel may have told it: the calls' own forgets it one tick later.
    for _ in range(500):
        if not calls.waiting:
            break
        await asyncio.sleep(0.01)
    assert calls.waiting == 0


async def test_a_refused_question_fails_at_once() -> None:
    calls, publisher, pipe = make()
    future = ask(calls)
    await turn()
    (frame,) = pipe.take(proxy.Publish)
    publisher.published(proxy.Published(frame.id, [(-1, -1)], {0: proxy.Failure(1, "nobody")}))
    with pytest.raises(Refused):
        await future


async def test_a_read_is_asked_again_with_the_same_correlation() -> None:
    calls, publisher, pipe = make()
    future = ask(calls, again=0.01)
    await turn()
    (first,) = pipe.take(proxy.Publish)
    publisher.published(proxy.Published(first.id, [(-1, -1)]))
    (second,) = await pipe.wait(proxy.Publish)
    publisher.published(proxy.Published(second.id, [(-1, -1)], {0: proxy.Failure(1, "nobody")}))
    assert not future.done()  # the first question still stands
    one, two = first.records[0], second.records[0]
    assert (one.payload, one.seq < two.seq) == (two.payload, True)
    call = messages.decode_call(one.payload or b"")
    answer(calls, messages.Reply(call.correlation), messages.Reply(call.correlation))
    assert await future == b"\xc0"
    assert publisher._counters.unknown_replies == 1


async def test_waiting_calls_are_bounded() -> None:
    calls, _, _ = make(calls=1)
    ask(calls)
    with pytest.raises(Refused, match="FULL"):
        ask(calls)


def question(reply_to: str, number: int) -> messages.Call:
    return messages.Call(bytes([number]) * 16, reply_to, 0, msgspec.Raw(b"\xc0"))


async def test_replies_of_a_loop_turn_are_one_record_for_each_destination() -> None:
    calls, publisher, pipe = make()
    taken = [calls.reply(question(to, i), 0, "", i) for i, to in enumerate(("replies.a", "replies.b", "replies.a"))]
    nobody = calls.reply(question("", 9), 0, "", None)
    await turn()
    frames = pipe.take(proxy.Publish)
    found = {r.topic: messages.decode_replies(r.payload or b"").replies for f in frames for r in f.records}
    assert {topic: [bytes(r.body) for r in replies] for topic, replies in found.items()} == {
        "replies.a": [b"\x00", b"\x02"],
        "replies.b": [b"\x01"],
    }
    publisher.published(proxy.Published(frames[0].id, [(-1, -1)]))
    publisher.published(proxy.Published(frames[1].id, [(-1, -1)], {0: proxy.Failure(1, "gone")}))
    await turn()
    assert [t.result() for t in (*taken, nobody)] == [True, False, True, False]


async def test_an_asker_that_is_away_is_offered_its_answer_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skep.bus.calls.RETRY", 0.01)
    calls, publisher, pipe = make()
    taken = calls.reply(question("replies.a", 1), 0, "", 1)
    for attempt in range(5):
        (frame,) = await pipe.wait(proxy.Publish)
        assert frame.records[0].seq == attempt + 1
        publisher.published(proxy.Published(frame.id, [(-1, -1)], {0: proxy.Failure(Code.NO_SUBSCRIBER, "gone")}))
        await turn()
        assert not taken.result()  # whoever answers does not wait for that
    await asyncio.sleep(0.05)
    assert pipe.take(proxy.Publish) == []


async def test_the_largest_item_of_a_backend_fits_a_reply() -> None:
    calls, _, pipe = make()
    found = msgspec.Raw(messages.encode(((msgspec.Raw(messages.encode(b"x" * (LARGEST - 5))),), False)))
    calls.reply(question("replies.a", 0), 0, "", found)
    await turn()
    (record,) = published(pipe)
    (reply,) = messages.decode_replies(record.payload or b"").replies
    assert reply.code == 0


async def test_replies_are_split_below_the_largest_body() -> None:
    calls, _, pipe = make()
    for number in range(3):
        calls.reply(question("replies.a", number), 0, "", b"x" * 500_000)
    calls.reply(question("replies.a", 3), 0, "", b"x" * proxy.MAX_BODY)
    await turn()
    records = published(pipe)
    assert all(len(r.payload or b"") <= proxy.MAX_BODY for r in records)
    replies = [reply for r in records for reply in messages.decode_replies(r.payload or b"").replies]
    assert [(r.correlation[0], r.code) for r in replies] == [(0, 0), (1, 0), (2, 0), (3, 500)]

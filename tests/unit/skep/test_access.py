from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skep import access
from skep.access import ALL_ACTIONS, CLIENT_ACTIONS, Action, Principal, User, Wanted
from skep.errors import Forbidden, Unauthorized
from skep.tokens import Claims
from tests.cases.tokens import ACTIONS as NAMES
from tests.system.rights import oracle

NOW, LATER = 1_000, 2_000
ADMIN = User(1, "admin", 0, 0)
CLIENT = User(2, "client", 1, 0, frozenset({1, 2}), frozenset({5, 6}), False)
OPEN = User(3, "open", 1, 0, frozenset({1, 2}))


def claims(user: User, **given: object) -> Claims:
    fields: dict = {"actions": [0], "networks": ["*"], "device_types": ["*"], "expires": LATER}
    return Claims(user.id, **{**fields, **given})


def principal(user: User, **given: object) -> Principal:
    return access.principal(claims(user, **given), user, NOW)


def test_names() -> None:
    assert len(CLIENT_ACTIONS) == 13
    assert access.BY_NAME["getdevicenotification"] is Action.GET_DEVICE_NOTIFICATION
    assert access.BY_NAME["*"] is Action.ANY
    assert Action.NONE not in access.BY_NAME.values()
    assert len(access.BY_NAME) == 18


@pytest.mark.parametrize(
    ("user", "networks", "types", "seen_networks", "seen_types"),
    [
        (ADMIN, ["*"], ["*"], None, None),
        (ADMIN, ["7"], ["8"], {7}, {8}),
        (ADMIN, None, None, set(), None),
        (CLIENT, ["*"], ["*"], {1, 2}, {5, 6}),
        (CLIENT, ["2", "3"], ["6", "7"], {2}, {6}),
        (CLIENT, None, None, set(), set()),
        (CLIENT, [], [], set(), set()),
        (OPEN, ["*"], ["*"], {1, 2}, None),
        (OPEN, ["*"], ["5"], {1, 2}, {5}),  # the reference ignores the list here
        (OPEN, ["1"], None, {1}, None),
    ],
)
def test_narrow(user: User, networks: list, types: list, seen_networks: set | None, seen_types: set | None) -> None:
    made = principal(user, networks=networks, device_types=types)
    assert (made.networks, made.device_types) == (seen_networks, seen_types)


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        (None, set()),
        ([], set()),
        ([1], set()),
        ([0], ALL_ACTIONS),
        ([0, 1], ALL_ACTIONS),
        ([3, 1], {Action.GET_DEVICE}),
    ],
)
def test_actions(actions: list | None, expected: set) -> None:
    assert principal(CLIENT, actions=actions).actions == expected


def test_empty_actions_with_compat() -> None:
    made = access.principal(claims(CLIENT, actions=[]), CLIENT, NOW, compat=True)
    assert made.actions == CLIENT_ACTIONS


def test_refusals() -> None:
    refresh = Claims(1, [0], ["*"], ["*"], LATER, 0)
    for bad, user in (
        (refresh, ADMIN),
        (claims(ADMIN), None),
        (claims(ADMIN), CLIENT),
        (claims(ADMIN), User(1, "admin", 0, access.LOCKED_OUT)),
        (claims(ADMIN), User(1, "admin", 0, access.DISABLED)),
    ):
        with pytest.raises(Unauthorized, match=r"^Unauthorized$"):
            access.principal(bad, user, NOW)
    with pytest.raises(Unauthorized, match=r"^Token expired$"):
        access.principal(claims(ADMIN), ADMIN, LATER + 1)


def test_checks() -> None:
    made = principal(CLIENT, actions=[3], networks=["1"])
    made.require(Action.GET_DEVICE)
    with pytest.raises(Forbidden, match=r"^Access is denied$"):
        made.require(Action.REGISTER_DEVICE)
    assert made.sees(1, 5)
    assert not made.sees(2, 5)
    assert not made.sees(1, 7)
    assert not made.sees_everything
    assert principal(ADMIN).sees_everything


def test_plugin_has_what_its_owner_has() -> None:
    token = Claims(None, [16], None, None, LATER, 1, "plugin_topic_x")
    made = access.principal(token, CLIENT, NOW)
    assert (made.topic, made.networks, made.device_types) == ("plugin_topic_x", {1, 2}, {5, 6})
    assert made.actions == {Action.MANAGE_PLUGIN}
    with pytest.raises(Forbidden):
        access.narrowed(made, CLIENT, Wanted([16], ["1"], None, LATER))


def test_who_commands_whom() -> None:
    other = User(4, "other", 0, 0)
    full, clients = principal(ADMIN), principal(ADMIN, actions=[int(Action.MANAGE_USER)])
    assert [full.covers(user) for user in (ADMIN, other, CLIENT, OPEN)] == [True] * 4
    assert [clients.covers(user) for user in (ADMIN, other, CLIENT, OPEN)] == [False, False, True, True]
    of_networks, of_types = principal(ADMIN, networks=["1", "2"]), principal(ADMIN, device_types=["5", "6"])
    assert [of_networks.covers(user) for user in (other, CLIENT, OPEN)] == [False, True, True]
    assert [of_types.covers(user) for user in (other, CLIENT, OPEN)] == [False, True, False]
    assert not principal(ADMIN, networks=["1"]).covers(CLIENT)
    assert not principal(CLIENT).is_unlimited


# -- token/create ---------------------------------------------------------------------------------------------------


def login(user: User) -> Principal:
    return access.principal(access.login_claims(user, LATER), user, NOW)


@pytest.mark.parametrize("user", [ADMIN, CLIENT, OPEN])
def test_a_copy_of_the_own_token_succeeds(user: User) -> None:
    """npm's client asks for one at each connect."""
    caller = login(user)
    own = caller.claims
    wanted = Wanted(own.actions, own.networks, own.device_types, LATER)
    assert access.narrowed(caller, user, wanted) == own


def test_a_copy_succeeds_after_a_right_was_withdrawn() -> None:
    own = access.login_claims(CLIENT, LATER)
    now = User(2, "client", 1, 0, frozenset({1}), frozenset({5}), False)
    made = access.narrowed(
        access.principal(own, now, NOW), now, Wanted(own.actions, own.networks, own.device_types, LATER)
    )
    assert access.principal(made, now, NOW).networks == {1}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted([0], ["*"], ["*"], 5), ([*sorted(CLIENT_ACTIONS)], ["1", "2"], ["5", "6"])),
        (Wanted([3], ["1"], ["5"], 5), ([3], ["1"], ["5"])),
        (Wanted(None, None, None, 5), ([1], None, ["5", "6"])),
        (Wanted([], [], [], 5), ([1], [], [])),
    ],
)
def test_narrowed(wanted: Wanted, expected: tuple) -> None:
    made = access.narrowed(login(CLIENT), CLIENT, wanted)
    assert (made.actions, made.networks, made.device_types) == expected
    assert (made.user_id, made.expires, made.type) == (2, 5, 1)


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted([Action.MANAGE_USER], None, None, 5),
        Wanted([3], ["3"], None, 5),
        Wanted([3], ["1"], ["7"], 5),
    ],
)
def test_wider_is_forbidden(wanted: Wanted) -> None:
    with pytest.raises(Forbidden):
        access.narrowed(login(CLIENT), CLIENT, wanted)


def test_only_administrators_act_for_others() -> None:
    wanted = Wanted([3], ["1"], ["5"], 5)
    with pytest.raises(Forbidden):
        access.narrowed(login(CLIENT), ADMIN, wanted)
    assert access.narrowed(login(ADMIN), CLIENT, wanted).user_id == 2


def test_a_wildcard_follows_the_caller_s() -> None:
    made = access.narrowed(principal(CLIENT), CLIENT, Wanted([3], ["*"], ["*"], 5))
    assert (made.networks, made.device_types) == (["*"], ["*"])


IDS = st.integers(1, 5)
ID_LISTS = st.none() | st.just(["*"]) | st.lists(IDS.map(str), max_size=4)
ACTIONS = st.none() | st.just([0]) | st.lists(st.integers(0, 18), max_size=6)
SETS = st.frozensets(IDS)
USERS = st.builds(
    User,
    id=st.integers(1, 3),
    login=st.just("x"),
    role=st.sampled_from((0, 1)),
    status=st.just(0),
    networks=SETS,
    device_types=SETS,
    all_device_types=st.booleans(),
)


def within(new: frozenset | None, old: frozenset | None) -> bool:
    return old is None or (new is not None and new <= old)


@example(CLIENT, CLIENT, ["1"], ["5"], [3], ([], ["1"], ["5"]))
@settings(max_examples=1000, deadline=None)
@given(
    caller=USERS,
    target=USERS,
    n=ID_LISTS,
    dt=ID_LISTS,
    a=ACTIONS,
    wanted=st.tuples(ACTIONS, ID_LISTS, ID_LISTS),
)
def test_narrowed_is_never_wider(caller: User, target: User, n: list, dt: list, a: list, wanted: tuple) -> None:
    if caller.id == target.id:
        target = caller
    holder = access.principal(Claims(caller.id, a, n, dt, LATER), caller, NOW)
    try:
        made = access.narrowed(holder, target, Wanted(*wanted, LATER))
    except Forbidden:
        return
    assert made.user_id == target.id
    new = access.principal(made, target, NOW)
    assert new.actions <= holder.actions
    assert within(new.networks, holder.networks)
    assert within(new.device_types, holder.device_types)
    assert caller.role == 0 or target.id == caller.id


@settings(max_examples=1000, deadline=None)
@given(user=USERS, n=ID_LISTS, dt=ID_LISTS, a=ACTIONS)
def test_a_token_gives_no_more_than_itself_and_its_user(user: User, n: list | None, dt: list | None, a: list) -> None:
    made = access.principal(Claims(user.id, a, n, dt, LATER), user, NOW)
    assert made.actions <= ALL_ACTIONS
    assert 0 in (a or ()) or made.actions <= set(a or ())
    for seen, listed, own in (
        (made.networks, n, access.networks_of(user)),
        (made.device_types, dt, access.device_types_of(user)),
    ):
        assert within(seen, own)
        if listed is not None and listed != ["*"]:
            assert within(seen, frozenset(map(int, listed)))
    assert n is not None or made.networks == frozenset()


@settings(max_examples=1000, deadline=None)
@given(user=USERS, n=ID_LISTS, dt=ID_LISTS, a=ACTIONS)
def test_the_matrix_s_oracle_reads_tokens_alike(user: User, n: list | None, dt: list | None, a: list | None) -> None:
    made = access.principal(Claims(user.id, a, n, dt, LATER), user, NOW)
    known = SimpleNamespace(
        role=user.role, networks=user.networks, types=user.device_types, all_types=user.all_device_types
    )
    caller = SimpleNamespace(user=known, claims={"a": a, "n": n, "dt": dt})
    nothing = SimpleNamespace(device=None, user=None)
    who = oracle.Who(caller, set(), nothing, SimpleNamespace(devices={}, users={}))
    assert {NAMES[action] for action in made.actions} == who.actions - {"*", "None"}
    assert (made.networks, made.device_types) == (who.networks, who.types)


@settings(max_examples=1000, deadline=None)
@given(now=USERS, later=USERS, n=ID_LISTS, dt=st.just(["*"]) | st.lists(IDS.map(str), max_size=4), a=ACTIONS)
def test_a_copy_of_one_s_token_is_never_wider_later(now: User, later: User, n: list, dt: list, a: list) -> None:
    """Whatever becomes of the user's rights between the two: clients copy their token at each connect."""
    later = msgspec.structs.replace(later, id=now.id, role=now.role)
    own = Claims(now.id, a, n, dt, LATER)
    made = access.narrowed(access.principal(own, now, NOW), now, Wanted(a, n, dt, LATER))
    then, new = access.principal(own, later, NOW), access.principal(made, later, NOW)
    assert new.actions <= then.actions
    assert within(new.networks, then.networks)
    assert within(new.device_types, then.device_types)

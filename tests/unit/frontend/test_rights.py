from __future__ import annotations

import pytest

from frontend.core.rights import Rights
from skep import access
from skep.access import CLIENT_ACTIONS, User
from skep.tokens import Claims
from tests.unit.frontend.fakes import FAR, FakeCaches


@pytest.mark.parametrize(("compat", "actions"), [(True, CLIENT_ACTIONS), (False, frozenset())])
async def test_rights_read_again_are_of_the_same_profile(compat: bool, actions: frozenset[int]) -> None:
    caches = FakeCaches()
    caller = access.principal(Claims(2, [], ["*"], ["*"], FAR), caches.users[2], 0, compat)
    assert caller.actions == actions
    caches.users[2] = User(2, "client", 1, 0, frozenset({1, 2}))
    fresh = await Rights(caches, compat).fresh(caller)
    assert (fresh.actions, fresh.networks) == (actions, {1, 2})

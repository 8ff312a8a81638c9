"""Everything the unchanged PyPI client can do.

    python tests/system/clients/pypi URL LOGIN PASSWORD REFRESH_TOKEN PREFIX

Prints one JSON object: differences (what did not come out as it must), unused (of the client's methods, properties
and parameters), faults (methods of the client that show a mistake of its own). An exception of the client ends it,
and the differences are on stderr.
"""

import json
import sys
from functools import partial

import recorder

recorder.record()

import checks  # noqa: E402  what follows imports the client
from calls import calls  # noqa: E402
from connection import Connection  # noqa: E402
from containers import containers  # noqa: E402
from devices import devices  # noqa: E402
from messages import messages  # noqa: E402
from plumbing import plumbing  # noqa: E402
from sequence import sequence  # noqa: E402
from subscriptions import subscriptions  # noqa: E402
from tokens import server, tokens  # noqa: E402
from users import users  # noqa: E402
from world import World  # noqa: E402


def main(url, login, password, refresh_token, prefix):
    credentials = {"login": login, "password": password}
    with Connection(url, refresh_token=refresh_token) as api:
        world, token = World(api, url, prefix), {"access_token": api.token.access_token}
        sections = [devices, containers, users, messages, server]
        sections += [partial(tokens, credentials=credentials), partial(subscriptions, credentials=token)]
        sections += [
            partial(sequence, credentials=credentials),
            partial(calls, token=api.token.access_token),
            partial(plumbing, credentials=token),
        ]
        # The other way round over WebSocket, so that two programs do not want passwords hashed at the same time.
        for section in sections if world.is_http else reversed(sections):
            section(world)
        world.erase()
    seen = {"differences": checks.DIFFERENCES, "unused": recorder.unused(), "faults": sorted(checks.FAULTS)}
    print(json.dumps(seen))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except BaseException:
        print(*checks.DIFFERENCES, sep="\n", file=sys.stderr)
        raise

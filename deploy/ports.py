"""TCP ports on this machine."""

import contextlib
import errno
import socket

from deploy.process import Failed


def free(count: int) -> tuple[int, ...]:
    """Ports of 127.0.0.1 that nobody uses just now, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return tuple(int(each.getsockname()[1]) for each in sockets)


def check(host: str, port: int, setting: str) -> None:
    """`Failed` naming the setting if we could not listen there.

    Services that share a port between processes would not notice a stranger on it: ask without SO_REUSEPORT.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # A connection of the last run that is still in TIME_WAIT is no listener.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Failed(f"port {port} is in use; {setting} changes it") from error
            raise Failed(f"can't listen on {host}:{port} ({setting}): {error.strerror}") from error

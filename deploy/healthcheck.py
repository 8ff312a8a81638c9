"""HEALTHCHECK of the images: the service said that it is ready, and its port, HEALTH_PORT, takes connections."""

import os
import socket
import sys
from pathlib import Path


def main() -> int:
    if not Path(os.environ["READY_FILE"]).exists():
        return 1
    port = os.environ.get("HEALTH_PORT")
    if port is None:
        return 0
    try:
        socket.create_connection(("127.0.0.1", int(port)), 3).close()
    except OSError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

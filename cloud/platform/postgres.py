"""The embedded PostgreSQL: starts the cluster of a folder, finds it again, stops it.

It talks only through a Unix socket in a private folder; what the folder holds is the business of `cluster`.
`python -m cloud.platform.postgres FOLDER` runs the server in the foreground for a supervisor.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from cloud.platform import cluster
from cloud.platform.cluster import DATABASE, USER, Account, DatabaseFailed

__all__ = ["DatabaseFailed", "EmbeddedPostgres"]

PORT: Final = 5432  # no TCP is spoken; the number is part of the socket file's name
START_SECONDS: Final = 60.0  # crash recovery of a large write-ahead log takes time
STOP_SECONDS: Final = 20.0
SOCKET_PATH_LIMIT: Final = 107  # sockaddr_un.sun_path without its terminating zero, unix(7)
PR_SET_PDEATHSIG: Final = 1  # prctl(2)

# Given at each start rather than written at initdb, so that a newer program corrects an older folder.
SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": str(PORT),
    "max_connections": "200",
    "shared_buffers": "64MB",
    "autovacuum_naptime": "10s",  # a catalogue that was just imported must not be planned for as if it were empty for a minute
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_checkpoints": "off",
    "logging_collector": "on",
    "log_directory": "log",
    # One file per week day, overwritten after seven days: rotation without a clean-up job.
    "log_filename": "server-%a.log",
    "log_truncate_on_rotation": "on",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
}


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


class EmbeddedPostgres:
    """One PostgreSQL cluster in one folder.

    All methods block; call them in a thread from asyncio. The server outlives this object and even a killed process: the next
    `start` attaches to it. Everything raises `DatabaseFailed` with one sentence.
    """

    def __init__(self, folder: Path, *, report: Callable[[str], None] = _say) -> None:
        """Names the folder; nothing is touched yet.

        Args:
            folder: The cluster's folder, made on first use.
            report: Receives one line when something outside the folder has to be changed (permissions of a parent folder).
        """
        self.folder = folder.absolute()
        self.report = report
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where programs of this account connect, whether or not the server runs now."""
        return f"postgresql://{USER}@/{DATABASE}?host={quote(str(self.socket_folder), safe='/')}"

    @property
    def socket_folder(self) -> Path:
        """The cluster's own folder (mode 0700) where the path is short enough, else a private one below /tmp."""
        if len(os.fsencode(self.folder / f".s.PGSQL.{PORT}.lock")) <= SOCKET_PATH_LIMIT:
            return self.folder
        name = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return Path("/tmp") / f"gipos-{name}"  # noqa: S108 (made with 0700 and its owner checked)

    @property
    def pid(self) -> int | None:
        """Process id of the running server of this folder, None when there is none."""
        lines = self._pid_file()
        if not lines or not lines[0].isdigit():
            return None
        pid = int(lines[0])
        try:
            # The server's working directory is its cluster: tells a reused process id from ours.
            return pid if Path(f"/proc/{pid}/cwd").resolve(strict=True) == self.folder.resolve() else None
        except OSError:
            return None

    def is_ready(self) -> bool:
        """Whether the server accepts connections; the server writes that into its pid file (pg_ctl reads the same line)."""
        lines = self._pid_file()
        return len(lines) > 7 and lines[7].strip() == "ready" and self.pid is not None

    def start(self) -> str:
        """Starts the server or attaches to the one that runs, and returns its URL once it accepts connections."""
        with self._locked():
            account = self.prepare()
            deadline = time.monotonic() + START_SECONDS
            while not self.is_ready():
                if self.pid is None and self._process is None:  # also when the server we attached to was just stopping
                    self._process = self._spawn(account)
                elif self._process is not None and self._process.poll() is not None:
                    self._process = None
                    raise DatabaseFailed(self.explain(_tail(self.folder / "log" / "startup.log")))
                if time.monotonic() > deadline:
                    raise DatabaseFailed(f"PostgreSQL in {self.folder} is not ready after {START_SECONDS:.0f} s; see its logs.")
                time.sleep(0.01)  # the server announces readiness only by writing its pid file
        return self.url

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Shuts the server down (fast: transactions in flight are rolled back); does nothing when it does not run."""
        pid = self.pid
        if pid is None:
            return
        for number, patience in ((signal.SIGINT, seconds), (signal.SIGQUIT, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            if self._wait_for_exit(pid, patience):
                return
        raise DatabaseFailed(f"PostgreSQL (process {pid}) in {self.folder} does not stop; end it by hand: kill -9 {pid}")

    def prepare(self) -> Account | None:
        """Makes or checks everything a server needs on disk; returns whose account has to run it (None: ours)."""
        try:
            account = cluster.prepare(self.folder, self.report)
            self._prepare_socket_folder(account)
            self._forget_foreign_pid()
        except OSError as error:
            raise cluster.unusable(self.folder, error) from error
        return account

    def command(self) -> list[str]:
        """The server's command line."""
        quoted = '"' + str(self.socket_folder).replace('"', '""') + '"'  # a list to PostgreSQL, where a comma separates
        options = [item for name, value in SETTINGS.items() for item in ("-c", f"{name}={value}")]
        return [str(cluster.binaries() / "postgres"), "-D", str(self.folder), "-c", f"unix_socket_directories={quoted}", *options]

    def explain(self, output: str = "") -> str:
        """One sentence for why the server ended, from what it wrote (`output` and its newest log file)."""
        return cluster.explain(f"{output}\n{self._recent_log()}", self.folder)

    def damage(self, output: str) -> str | None:
        """One sentence when a client's words, or the server's newest, show that the files are damaged; else None."""
        return cluster.damage(f"{output}\n{self._recent_log()}", self.folder)

    def _recent_log(self) -> str:
        log = max((self.folder / "log").glob("server-*.log"), key=lambda path: path.stat().st_mtime, default=None)
        return _tail(log) if log is not None and time.time() - log.stat().st_mtime < START_SECONDS else ""

    def run(self) -> None:
        """Becomes the server: prepares, stops a server left over, gives up root, and is replaced by PostgreSQL.

        The server then gets a fast shutdown when the process that called us dies, however it dies.
        """
        parent = os.getppid()
        with self._locked():
            account = self.prepare()
            self.stop()
        command = self.command()
        if account is not None:
            os.setgroups([])
            os.setgid(account.gid)
            os.setuid(account.uid)
        # After the change of account, which would clear it (prctl(2)).
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
        if os.getppid() != parent:
            raise DatabaseFailed("The program that started the database has ended; start it again.")
        os.chdir("/")
        os.execve(command[0], command, cluster.environment())  # noqa: S606 (no shell wanted)

    def _pid_file(self) -> list[str]:
        try:
            return (self.folder / "postmaster.pid").read_text("utf-8", "replace").splitlines()
        except OSError:
            return []

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One starter at a time; the lock is on the parent folder itself, so nothing is left behind."""
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder.parent, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise cluster.unusable(self.folder, error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _prepare_socket_folder(self, account: Account | None) -> None:
        folder = self.socket_folder
        owner = account.uid if account is not None else os.geteuid()
        if folder != self.folder:
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
                os.chown(folder, owner, -1)
            info = folder.lstat()
            if not stat.S_ISDIR(info.st_mode) or info.st_uid != owner:
                raise DatabaseFailed(f"{folder}, where the database's socket belongs, is somebody else's; remove it.")
        if stat.S_IMODE(folder.stat().st_mode) != 0o700:
            folder.chmod(0o700)  # PostgreSQL insists on it, and it is what keeps others from the socket

    def _forget_foreign_pid(self) -> None:
        """Removes a pid file whose number now belongs to another program; PostgreSQL would refuse to start over it.

        A pid file whose process is gone stays: PostgreSQL itself then makes sure that no orphan still holds the shared memory.
        """
        lines = self._pid_file()
        if self.pid is not None or len(lines) < 7 or not Path(f"/proc/{lines[0]}").exists():
            return
        segment = lines[6].split()[-1:]
        for row in Path("/proc/sysvipc/shm").read_text("ascii").splitlines()[1:]:
            columns = row.split()
            if columns[1:2] == segment and columns[6] != "0":
                return  # still attached by somebody: let PostgreSQL decide
        (self.folder / "postmaster.pid").unlink(missing_ok=True)

    def _spawn(self, account: Account | None) -> subprocess.Popen[bytes]:
        log = self.folder / "log" / "startup.log"  # what the server says before its own log begins
        log.parent.mkdir(mode=0o700, exist_ok=True)
        if account is not None:
            os.chown(log.parent, account.uid, account.gid)
        with log.open("wb") as output:
            return subprocess.Popen(  # noqa: S603 (our own wheel's program, no shell)
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C in a terminal is for the program, which then stops us in order
                cwd="/",
                env=cluster.environment(),
                **cluster.credentials(account),
            )

    def _wait_for_exit(self, pid: int, seconds: float) -> bool:
        if self._process is not None and self._process.pid == pid:
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                return False
            self._process = None
            return True
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            return bool(poll.poll(seconds * 1000))
        finally:
            os.close(handle)


def _tail(path: Path, size: int = 8000) -> str:
    try:
        return path.read_bytes()[-size:].decode("utf-8", "replace")
    except OSError:
        return ""


def main() -> int:
    """Runs the server of the folder named on the command line in the foreground."""
    try:
        EmbeddedPostgres(Path(sys.argv[1])).run()
    except DatabaseFailed as error:
        _say(str(error))
    return 1


if __name__ == "__main__":
    sys.exit(main())

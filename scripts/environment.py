"""Makes `.venv` from the lock files on a machine that has nothing but git and python3, then hands over to a program in it.

Runs on the system's Python before anything is installed, so it uses the standard library only. It writes below the checkout and
nowhere else, and does nothing at all, in a few hundredths of a second, when its stamp says that the environment is current.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn

ROOT: Final = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from scripts import build_protos  # noqa: E402 (the line above makes it importable; standard library only, too)

OLDEST: Final = (3, 11)
NEWEST: Final = (3, 13)
LOCKS: Final = {"runtime": "requirements.lock", "dev": "requirements-dev.lock"}
MODULES: Final = {
    "up": "scripts.stack",
    "down": "scripts.stack.down",
    "test": "scripts.checks",
    "demo": "scripts.story",
    "bench": "scripts.benchmarks",
    "soak": "scripts.soaking",
}

# What pip says, and what it means. First match wins.
TROUBLES: Final = (
    (r"No space left on device", "The disk is full; make room and run the command again."),
    (
        r"DO NOT MATCH THE HASHES",
        "A downloaded package is not the one that was locked; run the command again, or ask who changed it.",
    ),
    (
        r"NewConnectionError|NameResolutionError|failure in name resolution|Network is unreachable|ReadTimeout|ProxyError",
        "The package index cannot be reached; check the network connection and run the command again.",
    ),
    (
        r"No matching distribution|Could not find a version",
        "A locked package has no build for this machine (architecture or Python not supported), or the index lacks it.",
    ),
)


class SetupFailed(Exception):
    """The environment cannot be made; the text is one sentence for the person at the keyboard."""


class Progress:
    """One line that renews itself on a terminal, and a line now and then elsewhere."""

    def __init__(self) -> None:
        self.is_live = sys.stderr.isatty()
        self._started = time.monotonic()
        self._shown = -1

    def show(self, text: str, percent: int) -> None:
        """Shows how far the work is; elsewhere than on a terminal only every tenth of it."""
        if self.is_live:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write("\r\033[K" + f"  {percent:3d} %  {text}"[:width])
        elif percent // 10 > self._shown:
            self._shown = percent // 10
            sys.stderr.write(f"  {percent:3d} %  {text}\n")
        sys.stderr.flush()

    def done(self, text: str) -> None:
        """Replaces the line by its result."""
        sys.stderr.write(("\r\033[K" if self.is_live else "") + f"  {text} ({time.monotonic() - self._started:.1f} s)\n")
        sys.stderr.flush()


class Environment:
    """The virtual environment of one checkout."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        self.folder = root / ".venv"
        self.python = self.folder / "bin" / "python"
        self._stamp = self.folder / "gipos-stamp.json"
        self._unfinished = self.folder / "gipos-unfinished"

    def is_current(self, kind: str) -> bool:
        """Whether the stamp matches the lock file, this place and a Python that still exists."""
        return self._stamped().get(kind) == self._fingerprint(kind) and self.python.exists()

    def prepare(self, kind: str) -> None:
        """Makes the environment current for "runtime" or "dev". Raises SetupFailed.

        Safe to run twice at once, and again after it was interrupted.
        """
        if not self.is_current(kind):
            with self._locked():
                if not self.is_current(kind):
                    self._install(kind)

    def compile_contract(self) -> None:
        """Generates code from protos/ where that is older than its sources. Raises SetupFailed."""
        if not build_protos.is_fresh():
            with self._locked():
                if not build_protos.is_fresh():
                    self._compile()

    def _stamped(self) -> dict[str, str]:
        try:
            stamp = json.loads(self._stamp.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return stamp if isinstance(stamp, dict) else {}

    def _fingerprint(self, kind: str) -> str:
        # The place belongs to it: programs in an environment carry its absolute path.
        content = (self.root / LOCKS[kind]).read_bytes()
        return hashlib.sha256(content + os.fsencode(self.folder)).hexdigest()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One installer at a time; the lock is on the checkout's folder itself, so nothing is left behind."""
        handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                sys.stderr.write("Another command is preparing the environment; waiting for it.\n")
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _install(self, kind: str) -> None:
        before = os.umask(0o022)  # the database's account must be able to read its programs
        try:
            self._make_venv()
            self._unfinished.touch()
            self._stamp.unlink(missing_ok=True)
            if not any(self._packages().glob("pip/__init__.py")):
                _unpack_pip(self._packages())
            self._install_packages(self.root / LOCKS[kind])
            # What `pip install -e .` would write: the checkout and the generated code can be imported.
            (self._packages() / "_gipos.pth").write_text(f"{self.root}\n{self.root / 'protos'}\n", "utf-8")
            kinds = ["runtime", "dev"] if kind == "dev" else [kind]
            self._stamp.write_text(json.dumps({name: self._fingerprint(name) for name in kinds}), "utf-8")
            self._unfinished.unlink()
        except PermissionError as error:
            raise SetupFailed(
                f"{error.filename} belongs to another account; run as that account or remove {self.folder}."
            ) from error
        except OSError as error:
            raise SetupFailed(f"The environment in {self.folder} cannot be made: {error.strerror}.") from error
        finally:
            os.umask(before)

    def _make_venv(self) -> None:
        if self.folder.exists() and (self._unfinished.exists() or not self._was_made_here() or not self._works()):
            shutil.rmtree(self.folder)
        if not self.folder.exists():
            version = ".".join(str(part) for part in sys.version_info[:3])
            sys.stderr.write(f"Making the environment in {self.folder} with Python {version}\n")
            import venv

            # Without pip, which Debian keeps in a package of its own; `_unpack_pip` finds one.
            venv.EnvBuilder(symlinks=True).create(self.folder)

    def _was_made_here(self) -> bool:
        try:
            first = (self.folder / "bin" / "activate").read_text("utf-8")
        except OSError:
            return False
        return str(self.folder) in first

    def _works(self) -> bool:
        """Whether its Python starts and is one we support (the system's may have been upgraded since)."""
        check = f"import sys; sys.exit(not {OLDEST} <= sys.version_info[:2] <= {NEWEST})"
        try:
            return subprocess.run([self.python, "-I", "-c", check], check=False, stderr=subprocess.DEVNULL).returncode == 0
        except OSError:
            return False

    def _packages(self) -> Path:
        """The environment's site-packages."""
        return next((self.folder / "lib").glob("python3.*/site-packages"))

    def _install_packages(self, lock: Path) -> None:
        total = len(re.findall(r"(?m)^[A-Za-z0-9][A-Za-z0-9._-]*==", lock.read_text("utf-8")))
        command: list[str | Path] = [
            self.python,
            "-I",
            "-m",
            "pip",
            "install",
            "--require-hashes",
            "--no-deps",
            "--only-binary=:all:",
        ]
        command += ["--disable-pip-version-check", "--no-input", "--progress-bar=off", "--no-compile", "-r", lock]
        progress = Progress()
        lines: list[str] = []
        seen = 0
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=_pip_environment()
        ) as pip:
            assert pip.stdout is not None
            for raw in pip.stdout:
                line = raw.strip()
                lines.append(line)
                # "Processing" stands for "Collecting" where the index is a folder.
                begun = re.match(
                    r"(?:Collecting|Processing|Requirement already satisfied:|Ignoring) (?:\S*/)?([A-Za-z0-9._]+)", line
                )
                if begun:
                    seen = min(seen + 1, total)
                    progress.show(f"package {seen} of {total}: {begun[1]}", 95 * seen // total)
                elif line.startswith("Installing collected packages"):
                    progress.show(f"unpacking {total} packages", 96)
        if pip.returncode != 0:
            sys.stderr.write("\n" + "\n".join(lines[-12:]) + "\n")
            raise SetupFailed(_trouble("\n".join(lines)))
        progress.show("finishing", 100)
        progress.done(f"{seen} packages ready")

    def _compile(self) -> None:
        done = subprocess.run(
            [self.python, self.root / "scripts" / "build_protos.py", "--if-stale"],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode != 0:
            sys.stderr.write(done.stdout)
            raise SetupFailed("The contract in protos/ does not compile; the lines above say where.")


def _pip_environment() -> dict[str, str]:
    """The caller's environment without what would send packages elsewhere; the index settings stay the caller's."""
    away = {"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_REQUIREMENT", "PIP_CONSTRAINT", "PYTHONHOME", "PYTHONPATH"}
    return {name: value for name, value in os.environ.items() if name not in away} | {"PIP_USER": "0"}


def _trouble(output: str) -> str:
    for pattern, sentence in TROUBLES:
        if re.search(pattern, output):
            return sentence
    return "Installing the locked packages failed; the lines above say why. Run the command again once that is mended."


def _unpack_pip(target: Path) -> None:
    """Puts pip into the environment from the wheel that some package of the system brings."""
    wheel = _pip_wheel_here()
    with tempfile.TemporaryDirectory() as temporary:
        if wheel is None:
            wheel = _pip_wheel_by_apt(Path(temporary))
        if wheel is None:
            raise SetupFailed(
                "This machine's Python has no pip and it could not be fetched; install the package python3-venv "
                "(as root: apt-get install python3-venv) and run the command again."
            )
        # A wheel of pure Python is installed by unpacking it.
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)


def _pip_wheel_here() -> Path | None:
    folders = [sysconfig.get_config_var("WHEEL_PKG_DIR"), "/usr/share/python-wheels"]
    with contextlib.suppress(ImportError):
        import ensurepip

        if ensurepip.__file__:  # an empty folder left behind imports, too, and has no file
            folders.insert(0, str(Path(ensurepip.__file__).parent / "_bundled"))
    wheels = [wheel for folder in folders if folder for wheel in sorted(Path(folder).glob("pip-*.whl"))]
    return wheels[0] if wheels else None


def _pip_wheel_by_apt(folder: Path) -> Path | None:
    """Debian's own package of pip's wheel, fetched and unpacked without installing it, hence without being root."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return None
    sys.stderr.write("This Python came without pip; fetching Debian's package python3-pip-whl (nothing is installed by it)\n")
    for name in ("state/lists/partial", "cache/archives/partial", "unpacked"):
        (folder / name).mkdir(parents=True)
    private = [
        f"-oDir::State={folder / 'state'}",
        f"-oDir::Cache={folder / 'cache'}",
        "-oDir::State::status=/var/lib/dpkg/status",
    ]
    # Without the sandbox account, which could not write into our private folders.
    private += ["-oDebug::NoLocking=1", "-oAPT::Sandbox::User=root", "-qq"]
    # First with the lists the system has, then with lists of our own.
    attempts = (["download"], ["update"], ["download"])
    for number, action in enumerate(attempts):
        options = private[3:] if number == 0 else private
        names = ["python3-pip-whl"] if action == ["download"] else []
        output = subprocess.run(
            ["apt-get", *options, *action, *names], cwd=folder, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        package = next(folder.glob("python3-pip-whl*.deb"), None)
        if output.returncode == 0 and package is not None:
            subprocess.run(["dpkg-deb", "-x", package, folder / "unpacked"], check=True)
            return next((folder / "unpacked").rglob("pip-*.whl"), None)
    return None


def main(arguments: list[str]) -> int:
    """Prepares what the named command (up, down or test) needs and becomes it."""
    command, *rest = arguments
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        version = ".".join(str(part) for part in sys.version_info[:2])
        sys.stderr.write(f"Python 3.11 to 3.13 is needed, this is {version}; install the package python3.11.\n")
        return 1
    environment = Environment()
    try:
        if command == "up":
            # Mistakes in the arguments, and --help, before any installing.
            from scripts.stack import arguments as options

            options.parse(rest)
        if command != "down":
            environment.prepare("dev" if command == "test" else "runtime")
            environment.compile_contract()
    except SetupFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted; the next run goes on.\n")
        return 130
    return _become(environment, MODULES[command], rest)


def _become(environment: Environment, module: str, arguments: list[str]) -> NoReturn:
    python = str(environment.python) if environment.python.exists() else sys.executable
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "protos")])
    # -P: the folder one happens to stand in is not searched for modules.
    os.execv(python, [python, "-P", "-m", module, *arguments])  # noqa: S606 (no shell wanted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

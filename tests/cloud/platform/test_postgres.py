"""The embedded PostgreSQL with its real binaries: first use, attaching, kill -9, and folders that are not what they should be."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from cloud.platform import cluster
from cloud.platform.postgres import DatabaseFailed, EmbeddedPostgres

NOWHERE: Callable[[str], None] = list[str]().append
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cluster that was made and stopped; tests copy it, which is quicker than making one each."""
    folder = tmp_path_factory.mktemp("made") / "postgres"
    with EmbeddedPostgres(folder, report=NOWHERE):
        pass
    return folder


@pytest.fixture
def server(made: Path, tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    # cp keeps owners and modes, which shutil does not.
    subprocess.run(["cp", "-a", made, tmp_path / "postgres"], check=True)
    embedded = EmbeddedPostgres(tmp_path / "postgres", report=NOWHERE)
    yield embedded
    embedded.stop()


async def fetch(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_the_first_start_makes_a_durable_utf8_database(tmp_path: Path) -> None:
    lines: list[str] = []
    # A space in the path, as in many a home folder.
    with EmbeddedPostgres(tmp_path / "my data" / "postgres", report=lines.append) as embedded:
        assert await fetch(embedded.url, "SELECT current_database()") == "gipos"
        assert await fetch(embedded.url, "SHOW server_encoding") == "UTF8"
        assert await fetch(embedded.url, "SHOW synchronous_commit") == "on"
        assert await fetch(embedded.url, "SHOW fsync") == "on"
        assert await fetch(embedded.url, "SHOW max_connections") == "200"
        assert await fetch(
            embedded.url, "SELECT string_agg(word, ' ' ORDER BY word) FROM unnest(ARRAY['b', 'Á', 'a', 'B']) word"
        ) == ("B a b Á")
    assert embedded.pid is None
    assert not (tmp_path / "my data" / "postgres.new").exists()


async def test_it_listens_only_on_a_socket_that_is_private(server: EmbeddedPostgres) -> None:
    server.start()
    assert await fetch(server.url, "SHOW listen_addresses") == ""
    assert server.socket_folder.stat().st_mode & 0o777 == 0o700


async def test_a_path_too_long_for_a_socket_gets_a_private_folder_elsewhere(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 25) / "postgres"
    folder.parent.mkdir()
    subprocess.run(["cp", "-a", made, folder], check=True)
    with EmbeddedPostgres(folder, report=NOWHERE) as embedded:
        assert await fetch(embedded.url, "SELECT 1") == 1
        assert embedded.socket_folder.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(embedded.socket_folder)


async def test_data_is_there_again_after_stop_and_start(server: EmbeddedPostgres) -> None:
    url = server.start()
    await fetch(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    server.stop()
    assert await fetch(server.start(), "SELECT answer FROM kept") == 42


async def test_committed_data_survives_kill_9_of_the_server(server: EmbeddedPostgres) -> None:
    url = server.start()
    await fetch(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert server._wait_for_exit(pid, 10)
    assert not server.is_ready()
    assert await fetch(server.start(), "SELECT answer FROM kept") == 42


async def test_a_server_outlives_its_killed_program_and_the_next_one_attaches(server: EmbeddedPostgres) -> None:
    program = (
        "import sys, time; from pathlib import Path; from cloud.platform.postgres import EmbeddedPostgres as E;"
        "print(E(Path(sys.argv[1])).start(), flush=True); time.sleep(60)"
    )
    starter = subprocess.Popen([sys.executable, "-c", program, server.folder], stdout=subprocess.PIPE, cwd=ROOT)
    assert starter.stdout is not None
    assert starter.stdout.readline()
    first = server.pid
    starter.kill()
    starter.wait()
    url = server.start()
    assert server.pid == first
    assert await fetch(url, "SELECT 1") == 1


async def test_the_server_of_a_supervisor_ends_with_it(server: EmbeddedPostgres) -> None:
    supervisor = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys; subprocess.Popen([sys.executable, '-m', 'cloud.platform.postgres', sys.argv[1]]).wait()",
            server.folder,
        ],
        cwd=ROOT,
    )
    assert _eventually(server.is_ready)
    pid = server.pid
    assert pid is not None
    supervisor.kill()
    supervisor.wait()
    assert server._wait_for_exit(pid, 10)
    assert server.pid is None


def test_two_starters_at_once_share_one_server(server: EmbeddedPostgres) -> None:
    others = [EmbeddedPostgres(server.folder, report=NOWHERE) for _ in range(3)]
    threads = [threading.Thread(target=other.start) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({other.pid for other in others}) == 1
    assert server.is_ready()
    next(other for other in others if other._process).stop()


async def test_a_stale_pid_file_whose_number_another_program_has_now_is_no_obstacle(server: EmbeddedPostgres) -> None:
    (server.folder / "postmaster.pid").write_text(f"{os.getpid()}\n{server.folder}\n0\n5432\n{server.folder}\n\n 1 2\nready\n")
    assert server.pid is None
    assert await fetch(server.start(), "SELECT 1") == 1


def test_a_first_start_that_was_interrupted_is_begun_again(tmp_path: Path) -> None:
    half = tmp_path / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(tmp_path / "postgres", report=NOWHERE) as embedded:
        assert embedded.is_ready()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("PG_VERSION", "14\n", "made by PostgreSQL 14"),
        ("PG_VERSION", None, "is not a database folder"),
        ("global/pg_control", None, "damaged"),
        ("global/pg_control", "", "damaged"),
        ("global/pg_control", "x" * 8192, "damaged"),
        ("pg_wal", None, "damaged"),
    ],
)
def test_a_broken_folder_is_named_in_one_sentence_and_left_alone(
    server: EmbeddedPostgres, name: str, content: str | None, words: str
) -> None:
    path = server.folder / name
    if content is not None:
        path.write_text(content)
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    before = sorted(server.folder.iterdir())
    with pytest.raises(DatabaseFailed, match=words) as failure:
        server.start()
    assert str(server.folder) in str(failure.value)
    assert "\n" not in str(failure.value)
    assert {path.name for path in before} <= {path.name for path in server.folder.iterdir()}


def test_a_file_where_the_folder_belongs_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "postgres"
    path.write_text("mine")
    with pytest.raises(DatabaseFailed, match="is a file"):
        EmbeddedPostgres(path, report=NOWHERE).start()
    assert path.read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root owns everything")
def test_a_folder_one_may_not_write_in_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DatabaseFailed, match="cannot be used"):
        EmbeddedPostgres(tmp_path / "postgres", report=NOWHERE).start()
    tmp_path.chmod(0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to lend the server another account")
async def test_under_root_the_server_runs_as_another_account_and_says_what_it_opened(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    lines: list[str] = []
    with EmbeddedPostgres(closed / "postgres", report=lines.append) as embedded:
        assert Path(f"/proc/{embedded.pid}").stat().st_uid != 0
        assert await fetch(embedded.url, "SELECT 1") == 1
    assert [line for line in lines if str(closed) in line]
    assert closed.stat().st_mode & 0o777 == 0o701


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("postgres: error while loading shared libraries: libz.so.1: cannot open", "system library libz.so.1"),
        ("FATAL:  could not write lock file: No space left on device", "is full"),
        ("FATAL:  could not create shared memory segment: Function not implemented", "shared memory"),
        ("PANIC:  could not locate a valid checkpoint record at 0/1", "damaged"),
        ("initdb: error: could not look up effective user ID 1234: user does not exist", "named account"),
        ("FATAL:  bogus setting", "bogus setting"),
        ("", "no message"),
    ],
)
def test_what_the_server_says_becomes_one_sentence(output: str, words: str) -> None:
    sentence = cluster.explain(output, Path("/data/postgres"))
    assert words in sentence
    assert "\n" not in sentence


def test_a_client_that_meets_damaged_files_is_understood_too() -> None:
    text = (
        'sqlalchemy.exc.DBAPIError: <DataCorruptedError>: could not open file "global/pg_filenode.map": No such file or directory'
    )
    assert "is damaged (could not open file" in str(cluster.damage(text, Path("/data/postgres")))
    assert cluster.damage("could not connect: Connection refused", Path("/data/postgres")) is None


def _eventually(fact: Callable[[], bool]) -> bool:
    waiter = threading.Event()
    for _ in range(1000):
        if fact():
            return True
        waiter.wait(0.02)
    return False

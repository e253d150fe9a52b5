"""Real lock servers for the tests: started in temporary folders, on loopback addresses of their own."""

import contextlib
import glob
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Iterator, List, Optional

import pytest
from conftest import missing, until

_count = itertools.count()


def address() -> str:
    """Returns a loopback address that no other test's server uses: all of 127/8 is this machine."""
    while True:
        number = (os.getpid() << 6) + next(_count)
        high, middle, low = number >> 16 & 255, number >> 8 & 255, number & 255
        found = f"127.{high | 1}.{middle}.{low}"
        if 1 <= low < 255 and all(is_free(found, port) for port in (2379, 2380, 5432)):
            return found


def is_free(host: str, port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind((host, port))
        except OSError:
            return False
        return True


def folder() -> str:
    """Returns a temporary folder, in memory if possible: a slow fsync looks like a dead leader."""
    return tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)


class Server:
    """A server's process. The kernel kills it with this process."""

    scheme: str

    def __init__(self, words: List[str]) -> None:
        quiet = None if "TENURE_SERVER_LOG" in os.environ else subprocess.DEVNULL
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *words], stdin=subprocess.DEVNULL, stdout=quiet, stderr=quiet
        )

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    def target(self, name: str, ttl: int = 20) -> str:
        raise NotImplementedError

    def folder_of(self, name: str) -> str:
        """Returns the target that lists the locks below the name."""
        raise NotImplementedError

    def end_hold(self, name: str) -> None:
        """Ends a hold as an operator does who does not know Tenure."""
        raise NotImplementedError


class Etcd(Server):
    """A cluster of one member, which elects itself within half a second."""

    scheme = "etcd"

    def __init__(self) -> None:
        for program in ("etcd", "etcdctl", "setpriv"):
            if shutil.which(program) is None:
                missing(program)
        self.address, self.data = address(), folder()
        client, peer = f"http://{self.address}:2379", f"http://{self.address}:2380"
        super().__init__(
            ["etcd", "--name", "m0", "--data-dir", f"{self.data}/m0"]
            + ["--listen-client-urls", client, "--advertise-client-urls", client]
            + ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"m0={peer}"]
            + ["--heartbeat-interval", "50", "--election-timeout", "500", "--log-level", "error"]
        )
        until("a healthy cluster", lambda: self.etcdctl("endpoint", "health").returncode == 0)

    def etcdctl(self, *words: str) -> "subprocess.CompletedProcess[bytes]":
        command = ["etcdctl", "--endpoints", f"http://{self.address}:2379", *words]
        return subprocess.run(command, env={**os.environ, "ETCDCTL_API": "3"}, capture_output=True)

    def target(self, name: str, ttl: int = 20) -> str:
        return f"etcd://{self.address}:2379/{name}?ttl={ttl}s"

    def folder_of(self, name: str) -> str:
        return f"etcd://{self.address}:2379/{name}"

    def end_hold(self, name: str) -> None:
        assert self.etcdctl("del", "--prefix", f"{name}/").stdout.strip() == b"1"

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        super().end()
        shutil.rmtree(self.data, ignore_errors=True)


class Postgres(Server):
    """A PostgreSQL server."""

    scheme = "postgres"

    def __init__(self) -> None:
        binaries = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
        bin = binaries[-1] if binaries else os.path.dirname(shutil.which("postgres") or "")
        if not (bin and os.access(f"{bin}/postgres", os.X_OK)) or shutil.which("setpriv") is None:
            missing("postgres")
        if shutil.which("psql") is None:
            missing("psql")
        self.address, self.data = address(), folder()
        # The server refuses to run as root.
        as_owner: List[str] = []
        if os.geteuid() == 0:
            as_owner = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]
            shutil.chown(self.data, "postgres", "postgres")
        made = f"{bin}/initdb --no-sync --auth=trust --username=postgres --encoding=UTF8 --locale=C -D {self.data}/data"
        subprocess.run([*as_owner, *made.split()], check=True, cwd="/", capture_output=True)
        settings = f"listen_addresses={self.address} unix_socket_directories= port=5432 fsync=off".split()
        words = [word for setting in settings for word in ("-c", setting)]
        super().__init__([*as_owner[1:], f"{bin}/postgres", "-D", f"{self.data}/data", *words])
        until("a server that answers", lambda: self.psql("SELECT 1").returncode == 0)

    def psql(self, sql: str) -> "subprocess.CompletedProcess[bytes]":
        command = ["psql", "-X", "-A", "-t", "-h", self.address, "-U", "postgres", "-d", "postgres", "-c", sql]
        return subprocess.run(command, cwd="/", capture_output=True)

    def target(self, name: str, ttl: int = 20) -> str:
        return f"postgres://postgres@{self.address}/postgres?lock={name}&ttl={ttl}s"

    def folder_of(self, name: str) -> str:
        return f"postgres://postgres@{self.address}/postgres?lock={name}"

    def end_hold(self, name: str) -> None:
        ended = self.psql(f"SELECT pg_terminate_backend(backend) FROM tenure.locks WHERE name = '{name}'")
        assert ended.stdout.strip() == b"t", ended

    def end(self) -> None:
        # SIGQUIT ends the server's children too.
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()
        shutil.rmtree(self.data, ignore_errors=True)


@contextlib.contextmanager
def silent_at(port: int) -> Iterator[str]:
    """Yields the address of a server that never answers: the kernel accepts its connections, and no program reads them."""
    host = address()
    with socket.create_server((host, port)):
        yield host


def command() -> str:
    """Returns the path of the command `tenure`."""
    named: Optional[str] = os.environ.get("TENURE_COMMAND")
    path = Path(named) if named else Path(__file__).parents[3] / "target/debug/tenure"
    if not path.is_file():
        missing(f"the command tenure ({path})")
    return str(path)


@pytest.fixture(scope="session")
def etcd() -> Any:
    server = Etcd()
    yield server
    server.end()


@pytest.fixture(scope="session")
def postgres() -> Any:
    server = Postgres()
    yield server
    server.end()

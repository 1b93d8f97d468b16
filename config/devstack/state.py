"""The state directory: everything a local stack keeps from one start to the next, readable by its owner alone."""

import fcntl
import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

from config.devstack.failures import StackFailed

PROJECT = Path(__file__).resolve().parent.parent.parent


class State:
    """One state directory; `lock` makes sure that one supervisor owns it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.logs = root / "logs"
        self.lock_fd = -1

    @classmethod
    def at(cls, path: str | None) -> "State":
        """Open the directory named by `STATE_DIR` (relative names stand in the project), making what is missing."""
        state = cls((PROJECT / (path or ".local")).resolve())
        try:
            state.root.mkdir(parents=True, exist_ok=True)
            state.directory("logs")
            state.directory("secrets")
        except OSError as error:
            raise StackFailed.of("state directory", f"cannot make {state.root}: {error.strerror}") from error
        return state

    def directory(self, name: str) -> Path:
        """Make a directory of the state, closed to others."""
        path = self.root / name
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def log(self, part: str) -> Path:
        return self.logs / f"{part}.log"

    # --- files ------------------------------------------------------------------------------------------------------
    def write(self, name: str, text: str) -> Path:
        """Write a file (0600) so that a reader sees the old or the new one, never half of it."""
        path = self.root / name
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        draft.replace(path)
        return path

    def read_json(self, name: str) -> dict[str, Any]:
        path = self.root / name
        return json.loads(path.read_text()) if path.exists() else {}

    def remove(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    # --- secrets ----------------------------------------------------------------------------------------------------
    def secret(self, name: str, *, size: int = 48) -> Path:
        """Find a secret's file, drawing that many random bytes on the first start."""
        path = self.root / "secrets" / name
        if not path.exists():
            self.write(f"secrets/{name}", secrets.token_urlsafe(size))
        return path

    # --- one owner --------------------------------------------------------------------------------------------------
    def lock(self, *, patience: float = 12.0) -> None:
        """
        Own this directory until the process, and the guard that cleans up after it, are gone.

        An owner that was killed leaves a guard which needs a moment to end the children: that one is waited for.

        :raises StackFailed: if another supervisor lives here
        """
        self.lock_fd = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        give_up = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.pread(self.lock_fd, 32, 0).decode().strip()
                if _is_alive(owner) or time.monotonic() > give_up:
                    message = (
                        f"another stack (process {owner or '?'}) is running in {self.root}; stop it, or set STATE_DIR"
                    )
                    raise StackFailed.of("state directory", message) from None
                time.sleep(0.2)
            else:
                os.ftruncate(self.lock_fd, 0)
                os.pwrite(self.lock_fd, str(os.getpid()).encode(), 0)
                return


def _is_alive(pid: str) -> bool:
    if not pid.isdigit():
        return True
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"

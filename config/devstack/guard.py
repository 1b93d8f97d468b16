"""
Ends the children of a supervisor that could not do it itself (kill -9, out of memory).

Runs as a process of its own, by path and without imports of ours. It reads one line per child on standard input,
`+ pid signal` when it starts and `- pid` when it ended; `x path` names a file or directory to remove. End of file means
that the supervisor is gone. It holds the lock of the state directory until the last child is.
"""

import contextlib
import os
import shutil
import signal
import sys
import time


def main() -> None:
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    children: dict[int, int] = {}
    rubbish = []
    for line in sys.stdin:
        verb, _, rest = line.rstrip("\n").partition(" ")
        if verb == "+":
            pid, number = rest.split()
            children[int(pid)] = int(number)
        elif verb == "-":
            children.pop(int(rest), None)
        elif verb == "x":
            rubbish.append(rest)

    patience = float(sys.argv[1])
    for pid, number in reversed(children.items()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    deadline = time.monotonic() + patience
    while any(_is_alive(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    for path in rubbish:
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            os.unlink(path)


def _is_alive(pid: int) -> bool:
    """A zombie is not: who inherited it may take long to reap it."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


if __name__ == "__main__":
    main()

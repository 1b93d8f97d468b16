"""Why the stack did not start, in words for the person who typed the command."""

from pathlib import Path


class StackFailed(Exception):
    """A part of the stack failed; the message is one line that names the part and the reason."""

    @classmethod
    def of(cls, part: str, reason: str, *, log: Path | None = None) -> "StackFailed":
        """Name the part, the reason, and where to read more."""
        where = f" (log: {log})" if log else ""
        return cls(f"{part}: {' '.join(reason.split())}{where}")


class Stopped(Exception):
    """Someone asked the stack to stop (Ctrl-C, TERM, or the terminal went away)."""


def last_line(log: Path) -> str:
    """Find the line of a log that says most: the last error, else the last line that says anything."""
    try:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except FileNotFoundError:
        return "it left no log"
    telling = [line for line in lines[-60:] if "error" in line.lower() or "fatal" in line.lower()]
    return (telling or lines or ["it said nothing"])[-1].removeprefix("error: ")[:300]

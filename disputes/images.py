"""
Pictures among the evidence, made safe to be looked at: decoded and encoded anew in a process of its own, with limits.
"""

import subprocess
import sys
from pathlib import Path

from accounts.errors import DomainError
from disputes import filetypes, reencoding

WALL_SECONDS = 15
_PROGRAM = Path(reencoding.__file__)


class Unreadable(DomainError):
    """The file is no picture that can be shown; it can still be downloaded as it came."""

    status = 422
    code = "unreadable_image"
    title = "This picture cannot be shown"


def reencoded(content: bytes) -> bytes:
    """
    Make a PNG of the pixels of a PNG or JPEG, at most 1,600 to a side, without its metadata.

    Call it outside of transactions: it takes up to some seconds.

    :raises Unreadable: for what is none, is broken, has more than 50 million pixels, or takes too much time or memory
    """
    if not content.startswith(filetypes.PICTURE_MAGIC):
        raise Unreadable("It is neither PNG nor JPEG.")
    # -I: neither the environment nor the current directory says what is imported.
    command = [sys.executable, "-I", str(_PROGRAM)]
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=WALL_SECONDS, env={}, cwd="/")
    except subprocess.TimeoutExpired:
        raise Unreadable("It takes too long to read.") from None
    if done.returncode == reencoding.UNREADABLE:
        raise Unreadable(f"It cannot be read ({done.stderr.decode(errors='replace')}).")
    if done.returncode != 0:
        raise Unreadable(f"Reading it was broken off ({done.returncode}).")
    return done.stdout

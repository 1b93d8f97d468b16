"""
Compiles requirements.in, with everything it pulls in, to requirements.txt.

`python -m config.devstack.requirements`; the compiler (uv) lives in a throwaway environment. Pins that still satisfy
requirements.in stay as they are; delete requirements.txt first to take the newest of everything.
"""

import os
import subprocess
import tempfile
import venv
from pathlib import Path

from config.devstack.state import PROJECT

OLDEST_PYTHON = "3.11"


def main() -> None:
    """Write requirements.txt for every Python from the oldest supported one on."""
    with tempfile.TemporaryDirectory(prefix="bailee-") as directory:
        venv.create(directory, with_pip=True)
        binaries = Path(directory, "bin")
        print("Compiling requirements.txt", flush=True)
        subprocess.run([binaries / "pip", "install", "--quiet", "--disable-pip-version-check", "uv"], check=True)
        subprocess.run(
            [
                *(binaries / "uv", "pip", "compile", "--quiet", "--universal", "--python-version", OLDEST_PYTHON),
                *("--custom-compile-command", "make requirements", "--no-emit-index-url", "--no-emit-find-links"),
                *("requirements.in", "--output-file", "requirements.txt"),
            ],
            cwd=PROJECT,
            env={**os.environ, "UV_NO_PROGRESS": "1"},
            check=True,
        )


if __name__ == "__main__":
    main()

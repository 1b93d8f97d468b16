"""
Sees to the browser of the browser tests: Debian's chromium, installed where this may (root, apt-get).

`python -m config.devstack.browser`: exit 1 only if `REQUIRE_BROWSER=1` and there is none.
"""

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome")


def main() -> int:
    """Find or install a browser, and say what to do where neither works."""
    if _find() is None and os.geteuid() == 0 and shutil.which("apt-get"):
        print("Installing chromium for the browser tests (apt-get)", flush=True)
        quiet = {
            "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            "stdout": subprocess.DEVNULL,
            "check": False,
        }
        subprocess.run(["apt-get", "update", "-qq"], **quiet)  # type: ignore[call-overload]
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"], **quiet)  # type: ignore[call-overload]
    if found := _find():
        print(f"Browser tests use {found}")
        return 0
    print("No chromium: browser tests are skipped. Install it with: sudo apt-get install chromium", file=sys.stderr)
    return 1 if os.environ.get("REQUIRE_BROWSER") == "1" else 0


def _find() -> str | None:
    return next((found for name in NAMES if (found := shutil.which(name))), None)


if __name__ == "__main__":
    sys.exit(main())

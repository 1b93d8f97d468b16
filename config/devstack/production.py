"""
Runs `manage.py check --deploy` as production would start: production settings, secrets in closed files.

`python -m config.devstack.production`; what it starts with is drawn anew and thrown away.
"""

import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

from config.devstack.applications import SECRETS
from config.devstack.state import PROJECT

SETTINGS = {
    "BAILEE_ENV": "production",
    "DOMAIN": "bailee.example",
    "ALLOWED_HOSTS": "bailee.example",
    "CSRF_TRUSTED_ORIGINS": "https://bailee.example",
    "TRUSTED_PROXIES": "1",
    "DATABASE_URL": "postgres://bailee@database.example/bailee",
    "REDIS_URL": "redis://redis.example/0",
    "CHAIN_RPC_URL": "https://node.example",
}


def main() -> int:
    """Check; answer Django's exit status (1 for a warning too)."""
    with tempfile.TemporaryDirectory(prefix="bailee-") as directory:
        env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ} | SETTINGS
        env["STATE_DIR"] = directory
        for name, size in SECRETS.items():
            file = Path(directory, name)
            file.touch(mode=0o600)
            file.write_text(secrets.token_urlsafe(size))
            env[f"{name}_FILE"] = str(file)
        command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
        return subprocess.run(command, cwd=PROJECT, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

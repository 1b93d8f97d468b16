import json
import subprocess
import sys

from django.conf import settings

LOADED = """
import json, sys
from config.wsgi import application
import config.urls
print(json.dumps(sorted(name for name in sys.modules if name.startswith(("escrow.", "web3")))))
"""


class TestWebProcess:
    def test_loads_neither_what_signs_nor_what_speaks_to_the_chain(self):
        """Keys are the treasury's alone; and web3 takes a second to import."""
        run = subprocess.run(
            [sys.executable, "-c", LOADED], cwd=settings.BASE_DIR, capture_output=True, text=True, check=True
        )

        loaded = json.loads(run.stdout)
        assert "escrow.ledger" in loaded
        assert [name for name in loaded if name.startswith(("escrow.signing", "web3"))] == []

"""
`python -m bench`: complete jobs over HTTP.

(What the ledger alone costs: `python bench/ledger.py`; a scan: `python -m bench.scan`.)
"""

import sys

from bench.jobs import main

sys.exit(main())

"""`python -m bench`: complete jobs over HTTP. (What the ledger alone costs: `python bench/ledger.py`.)"""

import sys

from bench.jobs import main

sys.exit(main())

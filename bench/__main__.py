"""
`python -m bench`: complete jobs over HTTP; `python -m bench webhooks`: deliveries to receivers.

(What the ledger alone costs: `python bench/ledger.py`; a scan: `python -m bench.scan`.)
"""

import sys

if sys.argv[1:2] == ["webhooks"]:
    from bench.webhooks import main

    del sys.argv[1]
else:
    from bench.jobs import main

sys.exit(main())

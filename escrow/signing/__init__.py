"""
Keys that sign. The treasury process alone may import this: a stolen web server holds nothing that can pay.
"""

from django.conf import settings

if settings.BAILEE_PROCESS != "treasury":
    raise ImportError("only the treasury process (BAILEE_PROCESS=treasury) may import escrow.signing")

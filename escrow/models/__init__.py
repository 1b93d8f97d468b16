from .books import BooksCheckpoint
from .ledger import MAY_BE_NEGATIVE, Entry, Kind, LedgerAccount, Transfer

__all__ = [
    "MAY_BE_NEGATIVE",
    "BooksCheckpoint",
    "Entry",
    "Kind",
    "LedgerAccount",
    "Transfer",
]

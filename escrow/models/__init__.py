from .books import BooksCheckpoint
from .deposits import Deposit, DepositAddress, ScanCursor, ScannedBlock
from .ledger import MAY_BE_NEGATIVE, Entry, Kind, LedgerAccount, Transfer
from .treasury import RelayAttempt, Relayer, RelayTransaction, Treasury
from .withdrawals import AddressBookEntry, Authorization, Withdrawal, WithdrawalApproval

__all__ = [
    "MAY_BE_NEGATIVE",
    "AddressBookEntry",
    "Authorization",
    "BooksCheckpoint",
    "Deposit",
    "DepositAddress",
    "Entry",
    "Kind",
    "LedgerAccount",
    "RelayAttempt",
    "RelayTransaction",
    "Relayer",
    "ScanCursor",
    "ScannedBlock",
    "Transfer",
    "Treasury",
    "Withdrawal",
    "WithdrawalApproval",
]

from .books import BooksCheckpoint
from .deposits import Deposit, DepositAddress, ScanCursor, ScannedBlock
from .ledger import MAY_BE_NEGATIVE, Entry, Kind, LedgerAccount, Transfer
from .outflows import Outflow, PayoutGuard
from .treasury import RelayAttempt, Relayer, RelayTransaction, SweepFailure, Treasury
from .watch import TreasuryReading, WatchState
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
    "Outflow",
    "PayoutGuard",
    "RelayAttempt",
    "RelayTransaction",
    "Relayer",
    "ScanCursor",
    "ScannedBlock",
    "SweepFailure",
    "Transfer",
    "Treasury",
    "TreasuryReading",
    "WatchState",
    "Withdrawal",
    "WithdrawalApproval",
]

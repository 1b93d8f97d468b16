"""The money half of the contract."""

from django.urls import path

from escrow.api import address_book, deposits, fees, solvency, statement, wallet, withdrawals

urlpatterns = [
    # the ledger
    path("wallet", wallet.Wallet.as_view()),
    path("wallet/statement", statement.Statement.as_view()),
    path("fees", fees.Fees.as_view()),
    path("solvency", solvency.Solvency.as_view()),
    # deposits
    path("wallet/deposit-address", deposits.DepositAddress.as_view()),
    path("wallet/deposits", deposits.Deposits.as_view()),
    path("wallet/deposits/<uuid:deposit_id>", deposits.DepositById.as_view()),
    path("wallet/deposit-hints", deposits.DepositHints.as_view()),
    # address book and withdrawals
    path("wallet/addresses", address_book.Addresses.as_view()),
    path("wallet/addresses/<uuid:entry_id>", address_book.AddressById.as_view()),
    path("wallet/withdrawals", withdrawals.Withdrawals.as_view()),
    path("wallet/withdrawals/<uuid:withdrawal_id>", withdrawals.WithdrawalById.as_view()),
]

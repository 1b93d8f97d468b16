"""The money half of the contract."""

from django.urls import path

from escrow.api import fees, solvency, statement, wallet

urlpatterns = [
    # the ledger
    path("wallet", wallet.Wallet.as_view()),
    path("wallet/statement", statement.Statement.as_view()),
    path("fees", fees.Fees.as_view()),
    path("solvency", solvency.Solvency.as_view()),
    # deposits
    # address book and withdrawals
]

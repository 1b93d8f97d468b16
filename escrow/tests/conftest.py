"""A chain of the tests' own, put back to where it stood after each test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from escrow.tests.chain import UNITS, Chains, LocalChain
from escrow.tests.liar import Liar
from escrow.tests.liar import liar as lying_in_front_of


@pytest.fixture(scope="session")
def _chains(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chains]:
    chains = Chains(lambda: tmp_path_factory.mktemp("state"))
    yield chains
    chains.end()


@pytest.fixture
def chain(_chains: Chains, settings: Any) -> Iterator[LocalChain]:
    """The chain with its contracts, and settings that point at it."""
    chain = _chains.take()
    chain.point(settings)
    yield chain
    _chains.give_back()


@pytest.fixture
def liar(chain: LocalChain, settings: Any) -> Iterator[Liar]:
    """A node that may lie stands between us and the chain; `chain` itself still speaks to the real one."""
    with lying_in_front_of(chain.url) as proxy:
        settings.CHAIN_RPC_URL = proxy.url
        yield proxy


@pytest.fixture
def state_dir(chain: LocalChain) -> Path:
    return chain.state_dir


@pytest.fixture
def treasury_rows(chain: LocalChain, db: None) -> None:
    """What `deploy_contracts` records: the treasury and its relayers."""
    from escrow import treasury

    treasury.register(chain.treasury, chain_id=chain.chain_id)
    for relayer in chain.deployed["relayers"]:
        count = chain.node.transaction_count(relayer)
        treasury.register_relayer(relayer, chain_id=chain.chain_id, next_nonce=count)


@pytest.fixture
def pay_in(chain: LocalChain, treasury_rows: None) -> Any:
    """Send test USDC to an agent's deposit address; answers the transaction's hash."""
    from escrow import deposit_addresses
    from escrow.chain import rpc

    def pay_in(agent: Any, units: int) -> bytes:
        receipt = chain.mint(deposit_addresses.of(agent).address, units)
        return rpc.raw(receipt["transactionHash"])

    return pay_in


@pytest.fixture
def rich(chain: LocalChain, alice: Any, pay_in: Any) -> Any:
    """Alice with 100 USDC of final deposits that were swept into the treasury."""
    from escrow import deposits, scans, sweeps
    from escrow.tests.treasury import run

    pay_in(alice, 100 * UNITS)
    chain.finalize()
    scans.scan()
    deposits.credit_due()
    sweeps.sweep_due()
    run(chain, 1)
    assert chain.balance(chain.treasury) == 100 * UNITS
    return alice


@pytest.fixture
def ask(rich: Any) -> Any:
    """Ask for a payout of Alice's; answers the withdrawal."""

    from escrow import withdrawals
    from escrow.tests.treasury import entry_for

    def ask(units: int = 40 * UNITS, address: bytes | None = None) -> Any:
        return withdrawals.request(rich, amount_units=units, entry_id=entry_for(rich, address).pk)

    return ask


# --- the console ----------------------------------------------------------------------------------------------------
@pytest.fixture
def make_treasurer(chain: LocalChain, db: None) -> Any:
    from accounts import staff

    staff.prepare_groups()

    def make(name: str) -> Any:
        return staff.prepare_account(name, groups=["Treasurers"])

    return make


@pytest.fixture
def tess(make_treasurer: Any) -> Any:
    return make_treasurer("tess")


@pytest.fixture
def page(tess: Any) -> Any:
    """The console as the treasurer Tess sees it."""
    from escrow.tests.console import signed_in

    return signed_in(tess)


@pytest.fixture
def held(ask: Any, settings: Any) -> Any:
    """A payout of 40 USDC that waits for one treasurer."""
    settings.WITHDRAWAL_APPROVAL_THRESHOLD_UNITS = 30 * UNITS
    return ask()


@pytest.fixture
def nobodys(chain: LocalChain, rich: Any) -> Any:
    """A deposit of 7 USDC in suspense: it came straight to the treasury."""
    from escrow import deposits, scans
    from escrow.chain import usdc
    from escrow.models import Deposit

    chain.mint(chain.faucet, 7 * UNITS)
    chain.do(chain.usdc, usdc.transfer_call(chain.treasury, 7 * UNITS))
    chain.finalize()
    scans.scan()
    deposits.credit_due()
    return Deposit.objects.get(state="unattributed")


@pytest.fixture
def stolen(chain: LocalChain, rich: Any) -> Any:
    """60 USDC that left the treasury, and nothing explains why; alarmed."""
    from escrow import explanations, scans
    from escrow.models import Outflow

    chain.empty_treasury_of(60 * UNITS)
    chain.finalize()
    scans.scan()
    explanations.explain_due()
    return Outflow.objects.get(explanation="")

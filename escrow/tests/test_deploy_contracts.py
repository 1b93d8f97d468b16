"""`manage.py deploy_contracts`: once, and again without changing anything."""

import json
import secrets

import pytest
from django.core.management import CommandError, call_command

from escrow import treasury
from escrow.chain import addresses
from escrow.models import Relayer, ScanCursor, Treasury
from escrow.tests.chain import Chains


@pytest.fixture
def fresh(chain, settings, tmp_path):
    """A state directory in which nothing was deployed."""
    settings.STATE_DIR = tmp_path
    return tmp_path


def files(directory) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


def test_writes_down_what_it_deployed(chain, fresh, db):
    call_command("deploy_contracts", verbosity=0)

    told = json.loads((fresh / "chain.json").read_text())
    assert set(told) == {"rpc_url", "chain_id", "usdc", "factory", "treasury", "faucet_private_key"}
    assert told["rpc_url"] == chain.url
    assert all(chain.node.code(addresses.parse(told[name])) for name in ("usdc", "factory"))
    assert treasury.current(chain.chain_id).address == addresses.parse(told["treasury"])
    assert [chain.node.gas_balance(relayer.address) > 0 for relayer in Relayer.objects.all()] == [True, True]
    assert chain.node.gas_balance(addresses.parse(told["treasury"])) == 0


def test_a_second_run_changes_nothing(chain, fresh, db):
    call_command("deploy_contracts", verbosity=0)
    before, head = files(fresh), chain.head()

    call_command("deploy_contracts", verbosity=0)

    assert files(fresh) == before
    assert chain.head() == head
    assert (Treasury.objects.count(), Relayer.objects.count()) == (1, 2)


def test_on_a_chain_the_database_does_not_know_is_refused(chain, fresh, db):
    ScanCursor.objects.create(
        chain_id=chain.chain_id,
        block_number=1,
        block_hash=secrets.token_bytes(32),
        finalized_number=1,
        finalized_hash=secrets.token_bytes(32),
    )

    with pytest.raises(CommandError, match="not the one the database knows"):
        call_command("deploy_contracts", verbosity=0)

    assert not Treasury.objects.exists()


def test_in_production_is_refused(chain, fresh, db, settings):
    settings.LOCAL = False

    with pytest.raises(CommandError, match="by hand"):
        call_command("deploy_contracts", verbosity=0)


def test_on_the_same_chain_emptied_it_puts_the_contracts_where_they_were(chain, fresh, db, tmp_path_factory):
    """A chain that lost its state gets the same addresses again, because the faucet's key is kept."""
    chains = Chains(lambda: fresh)
    first = chains.take().deployed
    chains.end()

    again = chains.take().deployed
    chains.end()

    assert (again["usdc"], again["factory"]) == (first["usdc"], first["factory"])


class TestRegisterKeys:
    """`manage.py register_keys`: what a real chain has instead of `deploy_contracts`."""

    def test_records_the_addresses_of_the_keystores(self, chain, db):
        for _ in range(2):
            call_command("register_keys", verbosity=0)

        assert [row.address for row in Treasury.objects.all()] == [chain.treasury]
        assert {row.address for row in Relayer.objects.all()} == set(chain.deployed["relayers"])

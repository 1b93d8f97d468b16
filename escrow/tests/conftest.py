"""A chain of the tests' own, put back to where it stood after each test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from escrow.tests.chain import LocalChain, anvil


@pytest.fixture(scope="session")
def _deployed_chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalChain]:
    with anvil() as url:
        yield LocalChain(url, tmp_path_factory.mktemp("state"))


@pytest.fixture
def chain(_deployed_chain: LocalChain, settings: Any) -> Iterator[LocalChain]:
    """The chain with its contracts, and settings that point at it."""
    state = _deployed_chain.state_dir
    settings.STATE_DIR = state
    settings.CHAIN_RPC_URL = _deployed_chain.url
    settings.CHAIN_ID, settings.USDC_ADDRESS, settings.DEPOSIT_FACTORY_ADDRESS = 0, "", ""
    settings.TREASURY_KEYSTORE = str(state / "keys" / "treasury.json")
    settings.TREASURY_PASSPHRASE_FILE = str(state / "keys" / "passphrase")
    settings.TREASURY_PASSPHRASE_FD = -1
    settings.RELAYER_KEYSTORES = [str(state / "keys" / f"relayer-{n}.json") for n in (1, 2)]
    settings.BAILEE_PROCESS = "treasury"
    snapshot = _deployed_chain.snapshot()
    yield _deployed_chain
    _deployed_chain.automine(True)
    _deployed_chain.revert(snapshot)


@pytest.fixture
def state_dir(chain: LocalChain) -> Path:
    return chain.state_dir

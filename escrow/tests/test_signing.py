"""Keys: who may import them, what their files must look like, and that what they sign is what was asked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from eth_account import Account
from eth_hash.auto import keccak

ROOT = Path(__file__).resolve().parents[2]
IMPORT = "import django; django.setup(); import escrow.signing.keystore"


@pytest.mark.parametrize("process", ["", "web", "worker", "beat", "stream"])
def test_no_other_process_can_import_keys(process):
    outcome = imported_by(process)

    assert outcome.returncode == 1
    assert "only the treasury process" in outcome.stderr


def test_the_treasury_process_can():
    assert imported_by("treasury").returncode == 0


def test_a_web_process_loads_neither_web3_nor_keys():
    code = (
        "import django; django.setup(); import config.urls, escrow.tasks, sys;"
        "print([name for name in ('web3', 'eth_account', 'escrow.signing') if name in sys.modules])"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", "BAILEE_PROCESS": "web"}

    outcome = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )

    assert outcome.stdout.strip().splitlines()[-1] == "[]"


def imported_by(process: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", "BAILEE_PROCESS": process}
    return subprocess.run(
        [sys.executable, "-c", IMPORT], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def keystore(chain):
    """The module, with nothing opened yet."""
    from escrow.signing import keystore

    keystore._opened.clear()
    keystore._passphrases.clear()
    yield keystore
    keystore._opened.clear()
    keystore._passphrases.clear()


class TestSignDigest:
    def test_is_the_treasurys_signature_and_the_same_each_time(self, chain, keystore):
        digest = keccak(b"a payment")

        first = keystore.sign_digest(chain.treasury, digest)

        assert keystore.sign_digest(chain.treasury, digest) == first
        recovered = Account._recover_hash(digest, vrs=first)
        assert bytes.fromhex(recovered[2:]) == chain.treasury

    def test_for_another_address_is_refused(self, chain, keystore):
        with pytest.raises(keystore.KeyRefused):
            keystore.sign_digest(chain.faucet, keccak(b"a payment"))


class TestKeyFiles:
    def test_readable_by_others_are_refused(self, chain, keystore, settings, tmp_path):
        copy = tmp_path / "treasury.json"
        copy.write_bytes(Path(settings.TREASURY_KEYSTORE).read_bytes())
        copy.chmod(0o640)
        settings.TREASURY_KEYSTORE = str(copy)

        with pytest.raises(keystore.KeyRefused, match="readable by others"):
            keystore.treasury_address()

    def test_a_readable_passphrase_is_refused(self, chain, keystore, settings, tmp_path):
        copy = tmp_path / "passphrase"
        copy.write_bytes(Path(settings.TREASURY_PASSPHRASE_FILE).read_bytes())
        copy.chmod(0o604)
        settings.TREASURY_PASSPHRASE_FILE = str(copy)

        with pytest.raises(keystore.KeyRefused, match="readable by others"):
            keystore.treasury_address()

    def test_the_passphrase_may_come_by_a_file_descriptor(self, chain, keystore, settings):
        passphrase = Path(settings.TREASURY_PASSPHRASE_FILE).read_bytes()
        read, write = os.pipe()
        os.write(write, passphrase)
        os.close(write)
        settings.TREASURY_PASSPHRASE_FD, settings.TREASURY_PASSPHRASE_FILE = read, ""

        assert keystore.treasury_address() == chain.treasury
        os.close(read)

    def test_a_wrong_passphrase_is_told_without_the_key(self, chain, keystore, settings, tmp_path):
        wrong = tmp_path / "passphrase"
        wrong.write_text("not it")
        wrong.chmod(0o600)
        settings.TREASURY_PASSPHRASE_FILE = str(wrong)

        with pytest.raises(keystore.KeyRefused, match="passphrase is another"):
            keystore.treasury_address()

    def test_of_the_local_chain_are_private(self, chain):
        files = [chain.state_dir / "chain.json", *(chain.state_dir / "keys").iterdir()]

        assert [file.name for file in files if file.stat().st_mode & 0o077] == []

"""Keys: who may import them, what their files must look like, and that what they sign is what was asked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from eth_account import Account
from eth_hash.auto import keccak

ROOT = Path(__file__).resolve().parents[2]
OTHERS = ["", "web", "worker", "beat", "stream"]
MODULES = ["escrow.signing.keys", "escrow.signing.keystore", "escrow.signing.kms", "escrow.signing"]
IMPORT = f"""
import django, importlib, json
django.setup()
refused = {{}}
for name in {MODULES}:
    try:
        importlib.import_module(name)
    except ImportError as error:
        refused[name] = str(error)
print(json.dumps(refused))
"""
LOADED = """
import json, sys
print(json.dumps([n for n in sys.modules if n.startswith(("escrow.signing", "web3", "eth_account", "boto3"))]))
"""
WEB = "import config.wsgi, config.urls, escrow.tasks" + LOADED
CELERY = (
    """
from config.celery import app
app.finalize()
app.loader.import_default_modules()
import django; django.setup()
assert "escrow.tasks.authorize_withdrawals" in app.tasks
"""
    + LOADED
)


@pytest.mark.parametrize("process", OTHERS)
def test_no_other_process_can_import_keys(process):
    refused = said_by(process, IMPORT)

    assert sorted(refused) == sorted(MODULES)
    assert all("only the treasury process" in reason for reason in refused.values())


def test_the_treasury_process_can():
    assert said_by("treasury", IMPORT) == {}


@pytest.mark.parametrize(("process", "starting"), [("web", WEB), ("worker", CELERY), ("beat", CELERY)])
def test_the_others_load_neither_keys_nor_what_signs(process, starting):
    assert said_by(process, starting) == []


def said_by(process: str, code: str):
    """What a process of that name prints last, as JSON."""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", "BAILEE_PROCESS": process}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.strip().splitlines()[-1])


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

    def test_of_an_earlier_treasury_is_still_made(self, chain, keystore, settings):
        """Its payouts under way may need another transaction, with the same authorization signed again."""
        settings.TREASURY_EARLIER_KEYSTORES = [settings.TREASURY_KEYSTORE]
        settings.TREASURY_KEYSTORE = new_keystore(chain, "treasury-2")
        digest = keccak(b"owed by the earlier one")

        signature = keystore.sign_digest(chain.treasury, digest)

        assert keystore.treasury_address() != chain.treasury
        assert bytes.fromhex(Account._recover_hash(digest, vrs=signature)[2:]) == chain.treasury

    def test_of_an_earlier_treasury_does_not_need_the_present_ones_file(self, chain, keystore, settings):
        settings.TREASURY_EARLIER_KEYSTORES = [settings.TREASURY_KEYSTORE]
        settings.TREASURY_KEYSTORE = str(chain.state_dir / "keys" / "none.json")

        assert keystore.sign_digest(chain.treasury, keccak(b"owed"))
        with pytest.raises(keystore.KeyRefused, match=r"none\.json: No such file"):
            keystore.sign_digest(b"\x11" * 20, keccak(b"owed"))

    def test_with_a_relayers_key_is_refused(self, chain, keystore):
        with pytest.raises(keystore.KeyRefused):
            keystore.sign_digest(keystore.relayer_addresses()[0], keccak(b"a payment"))


class TestSignTransaction:
    def test_with_the_treasurys_key_is_refused(self, chain, keystore):
        with pytest.raises(keystore.KeyRefused, match="no keystore holds"):
            keystore.sign_transaction(chain.treasury, {"type": 2})


class TestOneDoor:
    def test_leads_to_the_files_unless_the_settings_say_otherwise(self, chain, keystore):
        from escrow.signing import keys

        digest = keccak(b"a payment")

        assert keys.treasury_address() == chain.treasury
        assert keys.relayer_addresses() == keystore.relayer_addresses()
        assert keys.sign_digest(chain.treasury, digest) == keystore.sign_digest(chain.treasury, digest)
        assert keys.KeyRefused is keystore.KeyRefused

    def test_opens_every_key_at_once(self, chain, keystore, settings):
        from escrow.signing import keys

        settings.TREASURY_EARLIER_KEYSTORES = [new_keystore(chain, "treasury-0")]

        keys.open_all()

        assert len(keystore._opened) == 4

    def test_opens_all_that_open_and_names_the_others(self, chain, keystore, settings):
        from escrow.signing import keys

        settings.TREASURY_EARLIER_KEYSTORES = [str(chain.state_dir / "keys" / "none.json")]

        with pytest.raises(keys.KeyRefused, match=r"^none\.json: No such file"):
            keys.open_all()

        assert len(keystore._opened) == 3

    def test_opens_earlier_keys_in_files_where_the_present_ones_are_in_kms(self, chain, keystore, settings):
        from escrow.signing import keys

        settings.TREASURY_SIGNER = "kms"
        settings.TREASURY_KMS_KEY = ""
        settings.TREASURY_EARLIER_KEYSTORES = [settings.TREASURY_KEYSTORE]
        settings.TREASURY_KEYSTORE, settings.RELAYER_KEYSTORES = "", []

        keys.open_all()

        assert len(keystore._opened) == 1


class TestRelayers:
    def test_one_that_does_not_open_stops_none_of_the_others(self, chain, keystore, settings):
        whole = keystore.relayer_addresses()
        settings.RELAYER_KEYSTORES = [str(chain.state_dir / "keys" / "none.json"), *settings.RELAYER_KEYSTORES]

        assert len(whole) == 2
        assert keystore.relayer_addresses() == whole

    def test_none_that_opens_is_a_refusal(self, chain, keystore, settings):
        settings.RELAYER_KEYSTORES = [str(chain.state_dir / "keys" / "none.json")]

        with pytest.raises(keystore.KeyRefused, match=r"none\.json"):
            keystore.relayer_addresses()


def new_keystore(chain, name: str) -> str:
    """A keystore of another key, under the passphrase of the others."""
    path = chain.state_dir / "keys" / f"{name}.json"
    passphrase = (chain.state_dir / "keys" / "passphrase").read_text().rstrip("\n")
    path.write_text(json.dumps(Account.encrypt(Account.create().key, passphrase, iterations=2**13)))
    path.chmod(0o600)
    return str(path)


class TestKeyFiles:
    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
    def test_open_to_others_are_refused(self, chain, keystore, settings, tmp_path, mode):
        copy = tmp_path / "treasury.json"
        copy.write_bytes(Path(settings.TREASURY_KEYSTORE).read_bytes())
        copy.chmod(mode)
        settings.TREASURY_KEYSTORE = str(copy)

        with pytest.raises(keystore.KeyRefused, match="readable by others"):
            keystore.treasury_address()

    @pytest.mark.parametrize("mode", [0o640, 0o604])
    def test_a_readable_passphrase_is_refused(self, chain, keystore, settings, tmp_path, mode):
        copy = tmp_path / "passphrase"
        copy.write_bytes(Path(settings.TREASURY_PASSPHRASE_FILE).read_bytes())
        copy.chmod(mode)
        settings.TREASURY_PASSPHRASE_FILE = str(copy)

        with pytest.raises(keystore.KeyRefused, match="readable by others"):
            keystore.treasury_address()

    @pytest.mark.parametrize("content", ["", "{}", "[]", "not JSON", '{"version": 9}', "\xff"])
    def test_of_something_else_are_refused(self, chain, keystore, settings, tmp_path, content):
        other = tmp_path / "treasury.json"
        other.write_bytes(content.encode("latin-1"))
        other.chmod(0o600)
        settings.TREASURY_KEYSTORE = str(other)

        with pytest.raises(keystore.KeyRefused, match="not a keystore"):
            keystore.treasury_address()

    def test_that_are_not_named_are_refused(self, chain, keystore, settings):
        settings.TREASURY_KEYSTORE = ""

        with pytest.raises(keystore.KeyRefused, match="TREASURY_KEYSTORE is not set"):
            keystore.treasury_address()

    def test_the_passphrase_may_come_by_a_file_descriptor(self, chain, keystore, settings):
        passphrase = Path(settings.TREASURY_PASSPHRASE_FILE).read_bytes()
        read, write = os.pipe()
        os.write(write, passphrase)
        os.close(write)
        settings.TREASURY_PASSPHRASE_FD, settings.TREASURY_PASSPHRASE_FILE = read, ""

        assert keystore.treasury_address() == chain.treasury
        os.close(read)

    def test_a_descriptor_that_is_not_open_is_refused(self, chain, keystore, settings):
        read, write = os.pipe()
        os.close(read)
        os.close(write)
        settings.TREASURY_PASSPHRASE_FD = read

        with pytest.raises(keystore.KeyRefused, match="TREASURY_PASSPHRASE_FD"):
            keystore.treasury_address()

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

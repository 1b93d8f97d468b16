"""Settings: local by default, and a production that refuses every single thing that is unsafe."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from config import guards
from config.devstack import production

SECRETS = {
    "SECRET_KEY": "k" * 60 + "0123456789-abcdef",
    "TOKEN_PEPPER": "pepper",
    "DEPOSIT_SALT_SECRET": "salt",
    "DOCUMENT_KEY": "Y2FzZSBwYWNrcyBhcmUgc2lnbmVkIGJ5IHRoaXMga2U",
    "WEBHOOK_KEY": "secrets of endpoints",
    "DATABASE_URL": "postgres://bailee@database.example/bailee",
    "REDIS_URL": "redis://redis.example/0",
    "CHAIN_RPC_URL": "https://node.example",
}
PRODUCTION = SECRETS | {
    "BAILEE_ENV": "production",
    "DOMAIN": "bailee.example",
    "ALLOWED_HOSTS": "bailee.example",
    "TRUSTED_PROXIES": "1",
}
TREASURY = {"BAILEE_PROCESS": "treasury", "TREASURY_KEYSTORE": "/keys/t.json", "RELAYER_KEYSTORES": ["/keys/r.json"]}
# From operations.md: seconds, counts and basis points; and amounts of USDC.
WINDOWS = {
    "OFFER_SECONDS": 259_200,
    "FUNDING_SECONDS": 86_400,
    "MIN_DELIVERY_SECONDS": 60,
    "MIN_REVIEW_SECONDS": 3_600,
    "MIN_REVISION_SECONDS": 3_600,
    "DISPUTE_ANSWER_SECONDS": 259_200,
    "DISPUTE_EVIDENCE_SECONDS": 172_800,
    "RULING_SLA_SECONDS": 259_200,
    "RULING_APPROVAL_SLA_SECONDS": 86_400,
    "APPEAL_SECONDS": 172_800,
    "APPEAL_SLA_SECONDS": 259_200,
    "WITHDRAWAL_COOLING_SECONDS": 86_400,
    "AUTHORIZATION_SECONDS": 7_200,
    "DISPUTE_QUESTION_SECONDS": 172_800,
    "DISPUTE_HARD_STOP_SECONDS": 2_592_000,
    "DISPUTE_DEPOSIT_BPS": 200,
    "REVIEW_WINDOW_SECONDS": 1_209_600,
    "EVIDENCE_RETENTION_SECONDS": 15_552_000,
    "MAX_DELIVERIES": 10,
    "FEE_BPS": 100,
    "STAKE_RELEASE_SECONDS": 604_800,
}
AMOUNTS = {
    "RULING_APPROVAL_THRESHOLD": "100",
    "WITHDRAWAL_FEE": "0.5",
    "WITHDRAWAL_APPROVAL_THRESHOLD": "1000",
    "WITHDRAWAL_DAILY_LIMIT": "50000",
    "WITHDRAWAL_PLATFORM_DAILY_LIMIT": "500000",
    "DEPOSIT_MINIMUM": "1",
    "WITHDRAWAL_MINIMUM": "1",
    "DISPUTE_DEPOSIT_MIN": "1",
    "DEPOSIT_SECOND_OPINION_ABOVE": "1000",
    "DEPOSIT_SAFE_LIMIT": "100",
}
SHOW = """
import json, config.settings as s
names = %r
print(json.dumps({name: getattr(s, name) for name in names}, default=str))
"""


def load(*names, **environment):
    """Import the settings in a process of its own; answer some of them, or what it died of."""
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | environment
    run = subprocess.run(
        [sys.executable, "-c", SHOW % (names,)],
        cwd=settings.BASE_DIR,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    return json.loads(run.stdout) if run.returncode == 0 else run.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def refuse():
    """Guard settings as a production process with this environment would have them, without starting one."""

    def refuse(changes=(), without=(), **overrides):
        environment = {name: value for name, value in (PRODUCTION | dict(changes)).items() if name not in without}
        values = {
            "BAILEE_ENV": "production",
            "DEBUG": False,
            "ALLOWED_HOSTS": ["bailee.example"],
            "OPEN_TRUST_LEVEL": None,
            "TREASURY_KEYSTORE": "",
            "RELAYER_KEYSTORES": [],
        }
        values |= {name: environment.get(name, "") for name in guards.SECRETS} | overrides
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "environ", environment)
            try:
                guards.refuse_unsafe_production(values)
            except guards.ImproperlyConfigured as error:
                return str(error)
        return ""

    return refuse


class TestProduction:
    def test_starts_with_a_complete_environment(self, refuse):
        assert refuse() == ""

    @pytest.mark.parametrize("name", [*SECRETS, "DOMAIN", "TRUSTED_PROXIES"])
    def test_refuses_what_is_missing(self, refuse, name):
        assert refuse(without=[name]) == f"production refuses to start: {name} (or {name}_FILE) is not set"

    @pytest.mark.parametrize("name", [*SECRETS, "DOMAIN"])
    def test_refuses_what_is_empty(self, refuse, name):
        assert f"{name} (or {name}_FILE) is not set" in refuse({name: ""})

    @pytest.mark.parametrize(
        ("settings", "reason"),
        [
            ({"DEBUG": True}, "DEBUG is on"),
            ({"ALLOWED_HOSTS": []}, "ALLOWED_HOSTS"),
            ({"ALLOWED_HOSTS": ["bailee.example", "*"]}, "ALLOWED_HOSTS"),
            ({"ALLOWED_HOSTS": ["*.bailee.example"]}, "ALLOWED_HOSTS"),
            ({"ALLOWED_HOSTS": [".bailee.example"]}, "ALLOWED_HOSTS"),
            ({"ALLOWED_HOSTS": ["."]}, "ALLOWED_HOSTS"),
            ({"OPEN_TRUST_LEVEL": 0}, "OPEN_TRUST_LEVEL"),
            ({"OPEN_TRUST_LEVEL": 3}, "OPEN_TRUST_LEVEL"),
            ({"SECRET_KEY": "local-secret-key-that-production-refuses"}, "SECRET_KEY"),
            ({"TOKEN_PEPPER": "local-token-pepper"}, "TOKEN_PEPPER"),
            ({"WEBHOOK_KEY": "local-webhook-key"}, "WEBHOOK_KEY"),
            ({"EGRESS_LOOPBACK": "on"}, "EGRESS_LOOPBACK"),
            (
                {"DOCUMENT_KEY": "local-document-key-that-production-refusesA"},
                "DOCUMENT_KEY has the value of the local",
            ),
            ({"DOCUMENT_KEY": "c2hvcnQ"}, "DOCUMENT_KEY is not the base64url of 32 bytes"),
            ({"DEPOSIT_SALT_SECRET": "local-deposit-salt"}, "DEPOSIT_SALT_SECRET"),
            ({"BAILEE_ENV": "staging"}, "BAILEE_ENV"),
            ({"CHAIN_SECOND_RPC_URL": SECRETS["CHAIN_RPC_URL"]}, "no second opinion"),
            ({"OPS_WEBHOOK_URL": "http://pager.example"}, "OPS_WEBHOOK_URL must be https"),
            ({"KMS_ENDPOINT_URL": "http://kms.example"}, "KMS_ENDPOINT_URL must be https"),
            ({"TREASURY_SIGNER": "paper"}, "TREASURY_SIGNER must be one of keystore, kms"),
            (TREASURY | {"TREASURY_KEYSTORE": ""}, "TREASURY_KEYSTORE is not set"),
            (TREASURY | {"RELAYER_KEYSTORES": []}, "RELAYER_KEYSTORES is not set"),
            (TREASURY | {"TREASURY_SIGNER": "kms", "RELAYER_KMS_KEYS": ["key/2"]}, "TREASURY_KMS_KEY is not set"),
            (TREASURY | {"TREASURY_SIGNER": "kms", "TREASURY_KMS_KEY": "key/1"}, "RELAYER_KMS_KEYS is not set"),
        ],
    )
    def test_refuses_what_is_unsafe(self, refuse, settings, reason):
        refusal = refuse(**settings)

        assert reason in refusal
        assert refusal.count(";") == 0

    def test_lets_a_treasury_sign_with_files_or_with_kms(self, refuse):
        kms = {"TREASURY_SIGNER": "kms", "TREASURY_KMS_KEY": "key/1", "RELAYER_KMS_KEYS": ["key/2"]}

        assert refuse(**TREASURY) == ""
        assert refuse(**kms, BAILEE_PROCESS="treasury") == ""
        assert refuse(**kms | {"TREASURY_KMS_KEY": ""}, BAILEE_PROCESS="web") == ""

    def test_refuses_to_go_without_rate_limits(self, refuse):
        assert "RATE_LIMITS" in refuse({"RATE_LIMITS": "off"})

    def test_says_everything_that_is_wrong_at_once(self, refuse):
        refusal = refuse(without=["DOMAIN", "TOKEN_PEPPER"], DEBUG=True)

        assert all(name in refusal for name in ("DOMAIN", "TOKEN_PEPPER", "DEBUG"))

    @pytest.mark.parametrize("name", SECRETS)
    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o601])
    def test_refuses_a_secret_file_that_others_may_open(self, refuse, tmp_path, name, mode):
        file = tmp_path / "secret"
        file.write_text("x")
        file.chmod(mode)

        refusal = refuse({f"{name}_FILE": str(file)}, without=[name])

        assert refusal == f"production refuses to start: {file} is readable by others: chmod 600"

    @pytest.mark.parametrize("mode", [0o600, 0o400])
    def test_takes_a_closed_secret_file(self, refuse, tmp_path, mode):
        file = tmp_path / "secret"
        file.write_text("x")
        file.chmod(mode)

        assert refuse({"TOKEN_PEPPER_FILE": str(file)}, without=["TOKEN_PEPPER"]) == ""

    @pytest.mark.parametrize(
        "name", ["TREASURY_KEYSTORE", "RELAYER_KEYSTORES", "TREASURY_EARLIER_KEYSTORES", "TREASURY_PASSPHRASE_FILE"]
    )
    def test_refuses_a_key_that_others_may_open(self, refuse, tmp_path, name):
        file = tmp_path / "key.json"
        file.write_text("{}")
        file.chmod(0o644)
        overrides = {} if name.endswith("_FILE") else {name: [str(file)] if name.endswith("S") else str(file)}

        assert "readable by others" in refuse({name: str(file)}, **overrides)

    def test_does_not_mind_files_that_are_no_secrets(self, refuse, tmp_path):
        file = tmp_path / "certificates"
        file.write_text("x")
        file.chmod(0o644)

        assert refuse({"SSL_CERT_FILE": str(file)}) == ""

    def test_local_may_be_anything(self, refuse):
        assert refuse(without=list(PRODUCTION), BAILEE_ENV="local", DEBUG=True, ALLOWED_HOSTS=["*"]) == ""


class TestProcess:
    """What only a process of its own shows: each of these imports the settings anew."""

    def test_of_production_dies_of_the_first_import(self):
        refusal = load("DEBUG", BAILEE_ENV="production")

        assert refusal.startswith("django.core.exceptions.ImproperlyConfigured: production refuses to start")
        for name in SECRETS:
            assert f"{name} (or {name}_FILE) is not set" in refusal

    def test_of_production_is_closed(self):
        names = ("DEBUG", "SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "SECURE_SSL_REDIRECT", "SECURE_HSTS_SECONDS")

        found = load(*names, **PRODUCTION)

        assert found == dict(zip(names, (False, True, True, True, 31_536_000), strict=True))

    def test_reads_every_secret_from_its_file(self, tmp_path):
        environment = {name: value for name, value in PRODUCTION.items() if name not in SECRETS}
        for name, value in SECRETS.items():
            file = Path(tmp_path, name)
            file.touch(mode=0o600)
            file.write_text(f"{value}\n")
            environment[f"{name}_FILE"] = str(file)

        found = load(*[name for name in SECRETS if name != "DATABASE_URL"], "DATABASES", **environment)

        assert {name: found[name] for name in SECRETS if name != "DATABASE_URL"} == {
            name: value for name, value in SECRETS.items() if name != "DATABASE_URL"
        }
        database = found["DATABASES"]["default"]
        assert (database["USER"], database["HOST"], database["NAME"]) == ("bailee", "database.example", "bailee")

    def test_of_the_local_stack_needs_nothing(self):
        found = load("BAILEE_ENV", "OPEN_TRUST_LEVEL", "WITHDRAWAL_COOLING_SECONDS", "FEE_BPS")

        assert found == {"BAILEE_ENV": "local", "OPEN_TRUST_LEVEL": 3, "WITHDRAWAL_COOLING_SECONDS": 5, "FEE_BPS": 100}

    def test_reads_every_window_and_threshold_of_the_design(self):
        defaults = WINDOWS | {f"{name}_UNITS": int(float(usdc) * 10**6) for name, usdc in AMOUNTS.items()}

        assert load(*defaults, **PRODUCTION) == defaults
        edited = {name.removesuffix("_UNITS"): "7" for name in defaults}
        expected = {name: 7_000_000 if name.endswith("_UNITS") else 7 for name in defaults}
        assert load(*defaults, **PRODUCTION, **edited) == expected

    def test_passes_djangos_own_checks_for_production(self):
        assert production.main() == 0

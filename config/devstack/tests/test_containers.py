import re
import shutil
import subprocess
from ipaddress import IPv4Network
from typing import Any

import pytest
import yaml
from django.conf import settings

from accounts.events import addresses, destinations
from config.devstack import applications
from config.devstack.state import PROJECT

APPLICATION = ("prepare", "web", "stream", "worker", "webhooks", "treasury", "beat")
KEYS = {
    *("treasury_keystore", "treasury_earlier_keystore", "relayer_1_keystore", "relayer_2_keystore"),
    *("treasury_passphrase", "aws_credentials"),
}
# Settings that say where keys are, or open them.
SIGNING = {
    *("TREASURY_SIGNER", "TREASURY_KEYSTORE", "TREASURY_EARLIER_KEYSTORES", "RELAYER_KEYSTORES"),
    *("TREASURY_PASSPHRASE_FILE", "TREASURY_KMS_KEY", "TREASURY_EARLIER_KMS_KEYS", "RELAYER_KMS_KEYS"),
    *("KMS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_SHARED_CREDENTIALS_FILE"),
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((PROJECT / "docker-compose.yml").read_text())


class TestCompose:
    def test_every_service_is_watched_and_bounded(self, compose: dict[str, Any]) -> None:
        for name, service in compose["services"].items():
            assert name == "prepare" or "healthcheck" in service, name
            assert {"cpus", "memory"} <= set(service["deploy"]["resources"]["limits"]), name

    def test_the_application_cannot_write_its_own_file_system_or_gain_rights(self, compose: dict[str, Any]) -> None:
        for name in APPLICATION:
            service = compose["services"][name]
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name

    def test_only_the_treasury_is_given_keys(self, compose: dict[str, Any]) -> None:
        holders = {name for name, service in compose["services"].items() if KEYS & set(service.get("secrets", []))}

        assert holders == {"treasury"}

    def test_only_the_treasury_is_told_where_keys_are(self, compose: dict[str, Any]) -> None:
        told = {name: SIGNING & set(compose["services"][name]["environment"]) for name in APPLICATION}

        assert {name: names for name, names in told.items() if names} == {"treasury": SIGNING}

    def test_what_is_not_set_is_as_in_the_settings(self, compose: dict[str, Any]) -> None:
        """A list given as an empty text would be an empty list, not the default."""
        given = compose["services"]["worker"]["environment"]

        for name in ("TREASURY_PAUSE_ON", "METRICS_NETWORKS"):
            default = given[name].partition("-")[2].removeprefix(":-").rstrip("}").replace(" ", "")
            assert default.split(",") == getattr(settings, name), name

    def test_every_setting_can_be_set(self, compose: dict[str, Any]) -> None:
        page = (PROJECT / "docs" / "settings.md").read_text().partition("The local stack alone")[0]
        rows = "".join(re.findall(r"^\| .*$", page, re.MULTILINE))
        listed = set(re.findall(r"`([A-Z_]{5,})`", rows)) - {"SIGN_VERIFY"}
        given = set(compose["services"]["treasury"]["environment"])

        missing = {name for name in listed if not {name, f"{name}_FILE"} & given}

        # the image's own; never wanted; a secret, which wants a file; another way to say the same
        assert missing == {"STATIC_ROOT", "DEBUG", "SECRET_KEY_FALLBACKS", "TREASURY_PASSPHRASE_FD"}

    def test_every_secret_is_a_file_and_none_stands_in_the_environment(self, compose: dict[str, Any]) -> None:
        assert all(list(secret) == ["file"] for secret in compose["secrets"].values())
        for name in APPLICATION:
            assert not {"SECRET_KEY", "TOKEN_PEPPER", "DATABASE_URL", "REDIS_URL"} & set(
                compose["services"][name]["environment"]
            ), name

    @pytest.mark.parametrize("name", ["worker", "webhooks", "treasury"])
    def test_a_worker_serves_the_queues_it_serves_locally(self, compose: dict[str, Any], name: str) -> None:
        local = next(application.command for application in applications.table(port=1) if application.name == name)

        command = compose["services"][name]["command"]

        assert command[command.index("--queues") + 1] == local[local.index("--queues") + 1]

    def test_webhooks_alone_are_on_the_way_to_strangers(self, compose: dict[str, Any]) -> None:
        ways = {name: service["networks"] for name, service in compose["services"].items()}

        assert [name for name, networks in ways.items() if "strangers" in networks] == ["webhooks"]
        assert ways["webhooks"] == ["inside", "strangers"]
        assert compose["networks"]["inside"] == {"internal": True}

    def test_the_policy_of_the_network_blocks_what_the_code_blocks(self, compose: dict[str, Any]) -> None:
        policy = (PROJECT / "deploy" / "egress-policy.nft").read_text()
        bridge = compose["networks"]["strangers"]["driver_opts"]["com.docker.network.bridge.name"]

        elements = policy.partition("set blocked {")[2].partition("elements = {")[2].partition("}")[0]
        ports = policy.partition("tcp dport {")[2].partition("}")[0]

        assert {IPv4Network(element.strip()) for element in elements.split(",")} == set(addresses.BLOCKED_4)
        assert {int(port) for port in ports.split(",")} == destinations.PORTS
        assert set(re.findall(r'[io]ifname "([^"]+)"', policy)) == {bridge}
        assert compose["networks"]["strangers"]["enable_ipv6"] is False

    @pytest.mark.skipif(not shutil.which("nft"), reason="needs nftables")
    def test_the_policy_of_the_network_is_well_formed(self) -> None:
        subprocess.run(["nft", "--check", "--file", PROJECT / "deploy" / "egress-policy.nft"], check=True)

    def test_the_event_stream_alone_goes_to_the_stream_process(self) -> None:
        rules = (PROJECT / "deploy" / "nginx.conf").read_text()

        stream = rules.partition("location = /v1/events/stream {")[2].partition("}")[0]
        assert "proxy_pass http://stream;" in stream
        assert rules.count("proxy_pass http://stream;") == 1

    def test_the_counters_are_not_for_the_outside(self) -> None:
        rules = (PROJECT / "deploy" / "nginx.conf").read_text()

        counters = rules.partition("location = /metrics {")[2].partition("}")[0]
        assert counters.split() == ["return", "404;"]

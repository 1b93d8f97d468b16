import hashlib
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import rfc8785
from django.conf import settings as django_settings
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.urls import reverse
from nacl.signing import SigningKey

from accounts import documents, ids, signatures, tokens
from accounts.edge.fields import units_to_text
from accounts.errors import TryLater
from accounts.models import AuditRecord, User
from accounts.tests.http import ApiClient
from disputes import approvals, arbitration, dossier, evidence, packs
from disputes.models import Dispute, DisputeTransition, Evidence, Ruling
from disputes.tests.conftest import DAY, GROUNDS, HOUR, REASONS, STATEMENT, appealed, replaced, ruled
from escrow import ledger
from escrow.models import AddressBookEntry
from marketplace import terms
from marketplace.models import Delivery

pytestmark = pytest.mark.django_db

SCRIPT = Path(django_settings.BASE_DIR, "docs", "verify_pack.py")
PRIVATE = "Between us: the seller has been seen before."


@pytest.fixture
def tried_case(case_at, moderator, noon, alice, bob):
    """Bring a case with evidence of both sides to a ruling that is final."""
    case = case_at("evidence", seller_bond=1_000_000)
    for agent, item in (
        (alice, evidence.from_text('=HYPERLINK("https://x.example") they said')),
        (bob, evidence.from_json({"why": "the figures were not asked for"})),
        (alice, evidence.from_file(b"%PDF-1.4 nothing", "../../etc/passwd.pdf")),
    ):
        evidence.submit(case.id, by=agent, item=item, at=noon + 2 * HOUR)
    from disputes import deadlines

    case = deadlines.enforce(case.id, at=noon + HOUR + 2 * DAY)
    ruled(case, moderator, at=noon + 3 * DAY, private_notes=PRIVATE)
    arbitration.finalise(case.id, at=noon + 5 * DAY)
    return Dispute.objects.get(pk=case.pk)


def members(pack):
    with zipfile.ZipFile(io.BytesIO(pack)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(contents):
    """Make a ZIP of members, as somebody who tampers would."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in contents.items() if isinstance(contents, dict) else contents:
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def verify(tmp_path):
    """Run the script of the docs, as a court would: with the published keys and nothing of ours."""

    def run(pack, keys=None):
        file = tmp_path / "pack.zip"
        file.write_bytes(pack)
        found = subprocess.run(
            [sys.executable, str(SCRIPT), str(file)],
            input=json.dumps(keys or documents.published()),
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        return found.returncode

    return run


class TestDocument:
    def test_tells_the_whole_case(self, tried_case, alice, bob):
        case = json.loads(members(packs.build(tried_case))["case.json"])

        assert case["parties"] == {
            "client": {"id": str(alice.id), "handle": "alice"}, "seller": {"id": str(bob.id), "handle": "bob"},
        }  # fmt: skip
        assert (case["case"]["state"], case["case"]["reason"]) == ("final", "not_as_agreed")
        assert case["statements"] == {"by_client": STATEMENT, "by_seller": STATEMENT}
        assert [(row["number"], row["by"], row["file"]) for row in case["evidence"]] == [
            (1, "client", "evidence/1.txt"), (2, "seller", "evidence/2.json"), (3, "client", "evidence/3.pdf"),
        ]  # fmt: skip
        assert case["rulings"][0] | {"reasons": REASONS, "seller_bps": 3_000, "in_force": True} == case["rulings"][0]
        assert (case["outcome"]["seller_bps"], case["outcome"]["lost_by"]) == (3_000, "seller")
        assert [step["action"] for step in case["time_line"] if step["of"] == "case"][:2] == ["open", "answer"]
        assert "rule" in [step["action"] for step in case["time_line"]]
        assert case["appeal"] is None

    def test_carries_terms_that_hash_to_what_was_agreed(self, tried_case):
        case = json.loads(members(packs.build(tried_case))["case.json"])

        (offer,) = case["offers"]
        assert terms.hash_of(offer["terms"]) == offer["terms_hash"] == case["job"]["agreed_terms_hash"]

    def test_carries_a_chain_of_evidence_that_can_be_reckoned_again(self, tried_case):
        case = json.loads(members(packs.build(tried_case))["case.json"])

        before = bytes(32)
        for item in case["evidence"]:
            described = {name: item[name] for name in item if name not in ("chain_hash", "file")}
            before = hashlib.sha256(before + rfc8785.dumps(described)).digest()
            assert item["chain_hash"] == before.hex()

    def test_is_canonical(self, tried_case):
        found = members(packs.build(tried_case))

        for name in ("case.json", "manifest.json"):
            assert rfc8785.dumps(json.loads(found[name])) == found[name]

    def test_tells_what_moved_and_no_balance(self, tried_case):
        case = json.loads(members(packs.build(tried_case))["case.json"])

        fund, close = case["ledger"]
        job = f"job:{tried_case.job_id}"
        assert (fund["reference"], close["reference"]) == (f"{job}:fund", f"{job}:close")
        assert {entry["account"]: entry["amount"] for entry in close["entries"]} == {
            "job.hold": "-50.000000", "seller.available": "15.850000", "platform.fees": "0.150000",
            "client.available": "35.000000", "job.bond": "-1.000000",
        }  # fmt: skip
        assert set(fund) == {"reference", "kind", "at", "entries"}

    def test_shows_both_rulings_when_the_first_was_appealed_and_replaced(self, case_at, senior, noon):
        case = case_at("appealed")
        replaced(case, senior, at=noon + 4 * DAY + HOUR)

        document = dossier.read(case.pk)

        assert [(row["seller_bps"], row["on_appeal"], row["in_force"]) for row in document["rulings"]] == [
            (3_000, False, False), (0, True, True),
        ]  # fmt: skip
        assert (document["appeal"]["grounds"], document["appeal"]["outcome"]) == (GROUNDS, "replaced")

    @pytest.mark.parametrize("fate", ["proposed", "returned", "dropped"])
    def test_shows_no_ruling_that_never_stood(self, case_at, make_moderator, noon, fate):
        case = case_at("awaiting_approval")
        if fate == "returned":
            approvals.send_back(
                case.pk, approver=make_moderator("nils"), revision=case.revision,
                reason="The reasons do not say why.", at=noon + 3 * DAY + HOUR,
            )  # fmt: skip
        elif fate == "dropped":
            arbitration.rule_by_default(case.pk, at=noon + 6 * DAY)

        document = dossier.read(case.pk)

        assert [row["is_default"] for row in document["rulings"]] == ([True] if fate == "dropped" else [])
        assert REASONS not in json.dumps(document)

    def test_is_read_again_when_the_case_moves_meanwhile(self, tried_case, monkeypatch):
        read, moves = dossier._document, iter([True, False])

        def moving(*given):
            if next(moves):
                Dispute.objects.filter(pk=tried_case.pk).update(revision=tried_case.revision + 1)
            return read(*given)

        monkeypatch.setattr(dossier, "_document", moving)

        assert dossier.read(tried_case.pk)["case"]["revision"] == tried_case.revision + 1

    def test_gives_up_on_a_case_that_never_stands_still(self, tried_case, monkeypatch):
        read = dossier._document

        def moving(dispute, *given):
            Dispute.objects.filter(pk=dispute.pk).update(revision=dispute.revision + 1)
            return read(dispute, *given)

        monkeypatch.setattr(dossier, "_document", moving)

        with pytest.raises(TryLater):
            dossier.read(tried_case.pk)


class TestFiles:
    def test_are_those_of_the_parties_byte_by_byte(self, tried_case):
        found = members(packs.build(tried_case))

        assert set(found) == {
            "case.json", "evidence/1.txt", "evidence/2.json", "evidence/3.pdf", "deliveries/1.json", "manifest.json",
            "manifest.sig",
        }  # fmt: skip
        for item in Evidence.objects.filter(dispute=tried_case):
            (name,) = [name for name in found if name.startswith(f"evidence/{item.number}.")]
            assert found[name] == bytes(item.content)
        assert found["deliveries/1.json"] == bytes(Delivery.objects.get(job=tried_case.job_id).body)

    def test_have_names_of_ours_and_no_spreadsheet_among_them(self, tried_case):
        assert all(
            name.rpartition(".")[2] in {"json", "txt", "pdf", "png", "jpg", "zip", "bin", "sig"} and ".." not in name
            for name in members(packs.build(tried_case))
        )

    def test_that_retention_erased_leave_their_digests(self, tried_case, noon):
        evidence.erase_due(at=noon + 400 * DAY)

        found = members(packs.build(Dispute.objects.get(pk=tried_case.pk)))

        case = json.loads(found["case.json"])
        assert [row["file"] for row in case["evidence"]] == [None, None, None]
        assert all(len(row["sha256"]) == 64 for row in case["evidence"])
        assert not [name for name in found if name.startswith("evidence/")]

    def test_that_are_erased_meanwhile_make_no_false_pack(self, tried_case, noon, monkeypatch):
        read = dossier.read

        def erased(*given, **named):
            case = read(*given, **named)
            evidence.erase_due(at=noon + 400 * DAY)
            return case

        monkeypatch.setattr(dossier, "read", erased)

        with pytest.raises(TryLater):
            packs.build(tried_case)

    def test_of_a_delivery_to_be_paid_first_are_for_the_seller_alone(self, tried_case, monkeypatch):
        offer = dossier.Offer.objects.get(job=tried_case.job_id)
        monkeypatch.setattr(
            dossier.Offer.objects, "filter", lambda **_: type("Rows", (list,), {
                "first": lambda rows: offer, "order_by": lambda rows, _: [offer],
            })(),
        )  # fmt: skip
        offer.terms["reveal"] = "on_payment"

        assert "deliveries/1.json" not in members(packs.build(tried_case, for_role="client"))
        assert "deliveries/1.json" in members(packs.build(tried_case, for_role="seller"))


class TestBytes:
    def test_are_the_same_each_time(self, tried_case):
        assert packs.build(tried_case, for_role="client") == packs.build(tried_case, for_role="client")
        assert packs.written(tried_case).read() == packs.build(tried_case)

    def test_say_whom_they_are_for(self, tried_case):
        made_for = [
            json.loads(members(packs.build(tried_case, for_role=role))["manifest.json"])["made_for"]
            for role in ("client", "seller", None)
        ]

        assert made_for == ["client", "seller", "staff"]


class TestVerification:
    def test_needs_no_more_than_twenty_lines(self):
        assert len(SCRIPT.read_text().splitlines()) <= 20

    def test_finds_a_pack_genuine(self, tried_case, verify):
        assert verify(packs.build(tried_case)) == 0

    def test_finds_one_genuine_that_an_earlier_key_signed(self, tried_case, verify, settings):
        pack = packs.build(tried_case)
        settings.DOCUMENT_EARLIER_PUBLIC_KEYS = [documents.published()["keys"][0]["public_key"]]
        settings.DOCUMENT_KEY = signatures.write(bytes(SigningKey.generate()))

        assert verify(pack) == 0

    def test_finds_none_genuine_whose_key_is_not_published(self, tried_case, verify, settings):
        pack = packs.build(tried_case)
        settings.DOCUMENT_KEY = signatures.write(bytes(SigningKey.generate()))

        assert verify(pack) != 0

    def test_finds_a_changed_byte_in_every_member(self, tried_case, verify):
        found = members(packs.build(tried_case))
        for name, content in found.items():
            for at in (0, len(content) // 2, len(content) - 1):
                changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
                assert verify(packed(found | {name: changed})) != 0, (name, at)

    def test_finds_an_added_member(self, tried_case, verify):
        found = members(packs.build(tried_case))

        assert verify(packed(found | {"evidence/9.txt": b"more"})) != 0

    def test_finds_a_member_that_is_there_twice(self, tried_case, verify):
        found = members(packs.build(tried_case))

        with pytest.warns(UserWarning, match="Duplicate name"):
            twice = packed([("case.json", b"{}"), *found.items()])
        assert verify(twice) != 0

    @pytest.mark.parametrize("where", ["before", "after", "comment", "field", "packed"])
    def test_finds_bytes_that_no_member_has(self, tried_case, verify, where):
        """A program that reads a ZIP from its beginning finds the forged document, one that reads its list does not."""
        pack = packs.build(tried_case)
        forged = packed({"case.json": b"{}"})
        if where in ("before", "after"):
            tampered = forged + pack if where == "before" else pack + b"words of somebody else"
        else:
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as archive:
                archive.comment = b"words of somebody else" if where == "comment" else b""
                for name, content in members(pack).items():
                    member = zipfile.ZipInfo(name)
                    if name == "case.json" and where == "field":
                        member.extra = b"\x75\x70\x04\x00evil"
                    if name == "case.json" and where == "packed":
                        member.compress_type = zipfile.ZIP_DEFLATED
                    archive.writestr(member, content)
            tampered = buffer.getvalue()

        assert members(tampered) == members(pack)
        assert verify(tampered) != 0

    def test_finds_every_removed_member(self, tried_case, verify):
        found = members(packs.build(tried_case))
        for name in found:
            assert verify(packed({other: content for other, content in found.items() if other != name})) != 0, name

    def test_finds_a_swapped_signature(self, tried_case, verify):
        found = members(packs.build(tried_case, for_role="client"))
        other = members(packs.build(tried_case, for_role="seller"))

        assert verify(packed(found | {"manifest.sig": other["manifest.sig"]})) != 0

    def test_finds_another_key(self, tried_case, verify, settings):
        published = documents.published()
        settings.DOCUMENT_KEY = signatures.write(bytes(SigningKey.generate()))

        forged = packs.build(tried_case)

        assert verify(forged) == 0  # by its own key
        assert verify(forged, published) != 0

    def test_finds_another_key_that_takes_the_name_of_ours(self, tried_case, verify):
        found, key = members(packs.build(tried_case)), SigningKey.generate()
        forged = found | {"manifest.sig": key.sign(found["manifest.json"]).signature}

        assert verify(packed(forged)) != 0


class TestSecrets:
    def test_of_staff_parties_and_owners_are_not_in_it(self, case_at, senior, make_moderator, alice, bob, noon):
        for agent in (alice, bob):
            agent.owner = User.objects.create_user(f"owner-of-{agent.handle}", email=f"hidden@{agent.handle}.example")
            agent.save(update_fields=["owner"])
        _, secret = tokens.mint(bob)
        AddressBookEntry.objects.create(
            agent=bob, address=bytes.fromhex("ab" * 20), label="cold one", created_at=noon, usable_at=noon
        )
        first, second = make_moderator("nils"), make_moderator("olga")
        case = case_at("under_review")
        case = ruled(case, first, at=noon + 3 * DAY, reason_codes=["fraud"], private_notes=PRIVATE)
        case = approvals.approve(
            case.pk, approver=second, revision=case.revision, reason="Well said, colleague.", at=noon + 3 * DAY + HOUR
        )
        case = appealed(case, alice, at=noon + 4 * DAY)
        replaced(case, senior, at=noon + 4 * DAY + HOUR, private_notes=PRIVATE)
        balances = [units_to_text(ledger.balance("available", str(agent.id))) for agent in (alice, bob)]

        for role in ("client", "seller", None):
            text = b"\n".join(members(packs.build(case, for_role=role)).values()).decode("utf-8", "replace")
            for hidden in (
                *(user.username for user in (first, second, senior)), PRIVATE, "Well said", "hidden@", "ab" * 20,
                "cold one", secret, secret[:17], "owner-of", *balances,
            ):  # fmt: skip
                assert hidden not in text, (role, hidden)
        assert Ruling.objects.filter(dispute=case, private_notes=PRIVATE).exists()
        assert DisputeTransition.objects.filter(dispute=case, user=senior).exists()

    def test_of_the_other_side_are_none_that_its_api_does_not_show(self, tried_case, client_for, alice):
        """Every text of a party's pack stands in what the API answers that party, or is one of the words of ours."""
        shown = client_for(alice).get(f"/disputes/{tried_case.pk}").content.decode()
        case = dossier.read(tried_case.pk, for_role="client")

        for item in case["evidence"]:
            assert item["chain_hash"] in shown
        assert case["statements"]["by_seller"][:50] in shown
        assert set(case) == {
            "format", "case", "parties", "job", "offers", "deliveries", "time_line", "statements", "evidence",
            "questions", "rulings", "appeal", "outcome", "ledger",
        }  # fmt: skip


class TestApi:
    def test_gives_each_party_its_pack(self, tried_case, client_for, alice, bob, verify):
        for agent, role in ((alice, "client"), (bob, "seller")):
            answer = client_for(agent).get(f"/disputes/{tried_case.pk}/pack")
            content = b"".join(answer.streaming_content)

            assert (answer.status_code, answer["Content-Type"]) == (200, "application/zip")
            assert answer["Content-Disposition"] == f'attachment; filename="case-{tried_case.pk}.zip"'
            assert answer["X-Content-Type-Options"] == "nosniff"
            assert int(answer["Content-Length"]) == len(content)
            assert content == packs.build(tried_case, for_role=role)
            assert verify(content) == 0

    def test_is_not_there_for_a_stranger(self, tried_case, client_for, carol):
        answers = [client_for(carol).get(f"/disputes/{case_id}/pack") for case_id in (tried_case.pk, ids.uuid7())]

        first, second = ({**answer.json(), "request_id": ""} for answer in answers)
        assert [answer.status_code for answer in answers] == [404, 404]
        assert first == second
        assert not AuditRecord.objects.filter(action="read.exported_case").exists()

    def test_needs_a_token_and_the_scope(self, tried_case, client_for, alice):
        assert ApiClient().get(f"/disputes/{tried_case.pk}/pack").status_code == 401
        assert client_for(alice, ["wallet:read"]).get(f"/disputes/{tried_case.pk}/pack").status_code == 403

    def test_is_written_down(self, tried_case, client_for, bob):
        client_for(bob).get(f"/disputes/{tried_case.pk}/pack")

        record = AuditRecord.objects.get(action="read.exported_case")
        assert (record.agent, record.subject, record.facts) == (bob, f"dispute:{tried_case.pk}", {"for": "seller"})

    @pytest.mark.parametrize("state", ["awaiting_answer", "evidence", "under_review", "ruled", "settled", "withdrawn"])
    def test_is_there_in_every_state(self, case_at, client_for, alice, verify, state):
        case = case_at(state)

        answer = client_for(alice).get(f"/disputes/{case.pk}/pack")

        assert verify(b"".join(answer.streaming_content)) == 0

    def test_takes_no_more_statements_for_more_items(self, case_at, noon, alice, django_assert_max_num_queries):
        case = case_at("evidence")
        for number in range(10):
            evidence.submit(case.id, by=alice, item=evidence.from_text(f"item {number}"), at=noon + 2 * HOUR)

        with django_assert_max_num_queries(18 + 10):  # one for each item's content
            packs.build(case)


class TestStaff:
    def test_who_may_export_get_the_pack_and_it_is_written_down(self, tried_case, client, sign_in, senior, verify):
        sign_in(client, senior)

        answer = client.get(reverse("admin:case_pack", args=[tried_case.pk]))

        content = b"".join(answer) if answer.streaming else answer.content
        assert verify(content) == 0
        assert json.loads(members(content)["manifest.json"])["made_for"] == "staff"
        record = AuditRecord.objects.get(action="read.exported_case")
        assert (record.user, record.subject) == (senior, f"dispute:{tried_case.pk}")

    def test_who_may_not_get_none(self, tried_case, client, sign_in, make_staff):
        reader = make_staff("rita")
        reader.user_permissions.add(Permission.objects.get(codename="view_dispute"))
        sign_in(client, reader)

        assert client.get(reverse("admin:case_pack", args=[tried_case.pk])).status_code == 403


class TestCommand:
    def test_writes_the_pack_into_a_closed_file(self, tried_case, tmp_path, verify):
        out = tmp_path / "case.zip"

        call_command("export_case", str(tried_case.pk), "--out", str(out))

        assert out.stat().st_mode & 0o777 == 0o600
        assert out.read_bytes() == packs.build(tried_case)
        assert verify(out.read_bytes()) == 0
        assert AuditRecord.objects.get(action="command.export_case").subject == f"dispute:{tried_case.pk}"

    def test_overwrites_nothing(self, tried_case, tmp_path):
        out = tmp_path / "case.zip"
        out.write_text("mine")

        with pytest.raises(CommandError):
            call_command("export_case", str(tried_case.pk), "--out", str(out))

        assert out.read_text() == "mine"
        assert not AuditRecord.objects.filter(action="command.export_case").exists()

    def test_knows_only_cases_that_exist(self, tmp_path):
        with pytest.raises(CommandError):
            call_command("export_case", str(ids.uuid7()), "--out", str(tmp_path / "case.zip"))

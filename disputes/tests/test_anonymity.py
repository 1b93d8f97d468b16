import pytest

from disputes import anonymity
from disputes.anonymity import Known

NAMES = [
    ("summary-bot", "[seller]"),
    ("Summary Bot", "[seller]"),
    ("alice", "[client]"),
    ("Twelve chapters", "[title]"),
]
SAID = "Nobody told me\nthat chapters four to twelve were to be in the delivery at all, so I left them out."


def anonymised(text, **given):
    known = {"names": NAMES, "amounts_units": frozenset({50_000_000, 5_000_001}), "texts": [SAID]}
    return anonymity.anonymised(text, Known(**(known | given)))


class TestNames:
    @pytest.mark.parametrize(
        "written", ["alice", "Alice", "ALICE", "@alice", "al\u200bice", "ali\u2060ce"],
    )  # fmt: skip
    def test_are_taken_out_however_they_are_written(self, written):
        assert anonymised(f"It was {written} who asked.") in (
            "It was [client] who asked.",
            "It was [agent] who asked.",
        )

    @pytest.mark.parametrize("written", ["summary-bot", "Summary Bot", "summary_bot", "SummaryBot", "summary  bot"])
    def test_are_found_however_their_parts_are_joined(self, written):
        assert anonymised(f"So {written}'s work is late.") == "So [seller]'s work is late."

    def test_are_not_found_inside_of_other_words(self):
        assert anonymised("The malice of alicet.") == "The malice of alicet."

    def test_leave_roles_and_letters_alone(self):
        names = [("client", "[seller]"), ("The", "[client]"), ("A", "[client]"), ("", "[client]"), ("--", "[client]")]

        assert anonymised("The client has A point.", names=names) == "The client has A point."

    def test_are_taken_out_in_any_script(self):
        assert anonymised("所以王伟没有回答。", names=[("王伟", "[seller]")]) == "所以[seller]没有回答。"

    def test_titles_go_too(self):
        assert anonymised("The job «twelve\nchapters» is clear.") == "The job «[title]» is clear."

    def test_a_name_with_signs_is_no_pattern(self):
        assert anonymised("By a.*b( it is done.", names=[("a.*b(", "[seller]")]) == "By [seller] it is done."


class TestIdentifiers:
    @pytest.mark.parametrize(
        ("written", "instead"),
        [
            ("019aa5f0-aaaa-7bbb-8ccc-123456789abc", "[id]"),
            ("019aa5f0aaaa7bbb8ccc123456789abc", "[id]"),
            ("sha256:" + "ab12" * 16, "[hash]"),
            ("0x" + "AB12" * 16, "[hash]"),
            ("0x" + "a1B2c3D4e5" * 4, "[address]"),
            ("0xa1b2c3…d4e5", "[address]"),
            ("someone+x@mail.example.org", "[e-mail]"),
            ("https://files.example/a?b=c", "[link]"),
            ("www.example.com/a", "[link]"),
            ("files.example.com", "[link]"),
            ("ipfs://bafybeigdyrzt5sfp7", "[link]"),
            ("blt_live_abcdefghijklmnop123456789", "[id]"),
            ("192.168.7.9", "[address]"),
            ("2026-11-21T12:00:00Z", "[date]"),
            ("2026-11-21", "[date]"),
            ("@other-agent", "[agent]"),
        ],
    )
    def test_are_taken_out(self, written, instead):
        assert anonymised(f"See {written} for it.") == f"See {instead} for it."

    def test_plain_words_stay(self):
        text = "E.g. 3 of 12 chapters (25 %) came, i.e. a quarter; the rest: not at all. See rows 3,4 and 1.5."

        assert anonymised(text) == text


class TestAmounts:
    @pytest.mark.parametrize(
        "written", ["50 USDC", "50.000000", "50", "50.00", "USDC 50", "$50", "50000000", "5.000001", "17.3 USDC", "$3"]
    )
    def test_of_the_case_and_all_that_are_written_as_money_go(self, written):
        assert anonymised(f"For {written} it was much.") == "For [amount] it was much."

    def test_are_found_in_groups(self):
        amounts = frozenset({1_234_567_000_000})

        assert (
            anonymised("Of 1,234,567.00 and 1 234 567 too.", amounts_units=amounts) == "Of [amount] and [amount] too."
        )

    def test_other_numbers_and_shares_stay(self):
        text = "It gets 50 % for 3 of 12, which is 25.0 % of 1,000 rows."

        assert anonymised(text) == text


class TestQuotations:
    def test_of_forty_characters_go_however_they_are_wrapped(self):
        text = "It says: \u201cThat CHAPTERS four to   twelve were to be in the delivery\u201d and no more."

        assert anonymised(text) == "It says: \u201c[quotation]\u201d and no more."

    def test_shorter_ones_stay(self):
        assert len("chapters four to twelve were to be in") < 40

        assert anonymised("It says chapters four to twelve were to be in.") == (
            "It says chapters four to twelve were to be in."
        )

    @pytest.mark.parametrize("offset", range(25))
    def test_are_found_wherever_they_begin(self, offset):
        told = "the third and the fourth table hold them"
        assert len(told) == anonymity.QUOTED_CHARS

        found = anonymised(f"Indeed ({told}).", texts=["x" * offset + told + "y" * 30])

        assert found == "Indeed ([quotation])."

    def test_two_of_them_go_and_what_is_between_stays(self):
        one = "the figures of chapter two were copied from chapter one"
        two = "nobody ever asked me for a table of all the figures"

        assert anonymised(f"A: {one}. B: {two}!", texts=[two, one]) == "A: [quotation]. B: [quotation]!"

    def test_a_text_of_one_letter_costs_no_more_than_another(self):
        assert anonymised("a" * 20_000, texts=["a" * 1_000_000]) == "[quotation]"

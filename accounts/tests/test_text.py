import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts import text


class TestVisible:
    @pytest.mark.parametrize(
        ("written", "shown"),
        [
            ("plain words", "plain words"),
            ("two\nlines\tand a tab", "two\nlines\tand a tab"),
            ("Zoë 株式会社 \N{GRINNING FACE}", "Zoë 株式会社 \N{GRINNING FACE}"),
            ("pay\u202eeerf", "pay\\u{202E}eerf"),
            ("zero\u200bwidth\u200d", "zero\\u{200B}width\\u{200D}"),
            ("bell\x07", "bell\\u{0007}"),
            ("\r\n", "\\u{000D}\n"),
            ("\u2028\u2029", "\\u{2028}\\u{2029}"),
            ("\u2066isolate\u2069", "\\u{2066}isolate\\u{2069}"),
            ("\ue000\ufeff", "\\u{E000}\\u{FEFF}"),
            ("tag\U000e0041", "tag\\u{E0041}"),
            ("", ""),
        ],
    )
    def test_shows_what_hides(self, written, shown):
        assert text.visible(written) == shown

    @given(st.text())
    def test_leaves_nothing_to_show(self, written):
        shown = text.visible(written)

        assert text.visible(shown) == shown
        assert all(character.isprintable() or character in "\n\t" or character.isspace() for character in shown)

"""The report in a real browser: choose days, read the figures, take them away."""

import pytest

from disputes import assignment
from disputes.tests.browsing import sign_in_page
from disputes.tests.chromium import *  # noqa: F403 (fixtures)
from disputes.tests.chromium import judged, watched
from disputes.tests.conftest import HOUR, ruled

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


class TestReport:
    def test_is_read_and_taken_away(self, live_server, browser, axe, case_at, make_moderator, make_senior, noon):
        ann, sue = make_moderator("ann"), make_senior("sue")
        review = noon + 49 * HOUR
        case = assignment.take(case_at("under_review").pk, moderator=ann, at=review)
        ruled(case, ann, at=review + 5 * HOUR)
        page = watched(browser)
        sign_in_page(page, live_server, sue, "a long password", path="/admin/report/")

        page.fill("#id_since", f"{noon:%Y-%m-%d}")
        page.fill("#id_until", f"{review:%Y-%m-%d}")
        page.click("text=Show")

        row = page.locator("tr", has=page.locator("th", has_text="ann")).first
        assert row.inner_text().split()[:4] == ["ann", "1", "1", "5"]
        assert judged(page, axe) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280
        with page.expect_download() as download:
            page.click("text=Export as CSV")
        assert '"ann","1","1","18000","18000","1"' in download.value.path().read_text()
        assert page.evaluate("window.refused") == []
        assert page.wrong == []

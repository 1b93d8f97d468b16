"""A person's browser, as far as the demo needs one: a session, pages, and the forms on them."""

from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import httpx2


class Form:
    """A form with what it would send."""

    def __init__(self, attributes: dict[str, str | None]) -> None:
        self.action = attributes.get("action") or ""
        self.fields: list[tuple[str, str]] = []

    def filled(self, **values: str | list[str]) -> list[tuple[str, str]]:
        """Fill it in: what is not named stays as the page says."""
        kept = [(name, value) for name, value in self.fields if name not in values]
        return kept + [
            (name, one) for name, value in values.items() for one in (value if isinstance(value, list) else [value])
        ]


class Page(HTMLParser):
    """What a page holds: its words, its forms, and the rows of the table of entries that a ruling would post."""

    def __init__(self, answer: httpx2.Response) -> None:
        super().__init__()
        self.url = str(answer.url)
        self.status = answer.status_code
        self.forms: list[Form] = []
        self.entries: list[tuple[str, str]] = []
        self.errors: list[str] = []
        self._said: list[str] = []
        self._in_entries = False
        self._select = ""
        self._area = ""
        self._cells: list[str] | None = None
        self._inside = ""
        self._text = ""
        self.feed(answer.text)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self._said).split())

    def form(self, ending: str) -> Form | None:
        """Find the form whose action ends so."""
        return next((form for form in self.forms if urljoin(self.url, form.action).endswith(ending)), None)

    # --- reading ----------------------------------------------------------------------------------------------------
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes: dict[str, Any] = dict(attrs)
        name = attributes.get("name") or ""
        if tag == "form":
            self.forms.append(Form(attributes))
        elif tag == "input" and name and self.forms:
            kind = attributes.get("type", "text")
            ticked = kind not in ("checkbox", "radio") or "checked" in attributes
            if ticked and kind not in ("submit", "button", "file"):
                self.forms[-1].fields.append((name, attributes.get("value") or ""))
        elif tag == "select":
            self._select = name
        elif tag == "option" and self._select and "selected" in attributes:
            self.forms[-1].fields.append((self._select, attributes.get("value") or ""))
        elif tag == "textarea":
            self._area, self._text = name, ""
        elif tag == "table":
            self._in_entries = "entries" in (attributes.get("class") or "").split()
        elif tag == "tbody" and self._in_entries:
            self._cells = []
        elif tag in ("th", "td") and self._cells is not None:
            self._inside, self._text = tag, ""
        elif tag == "ul" and "errorlist" in (attributes.get("class") or ""):
            self._inside, self._text = "ul", ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = ""
        elif tag == "textarea" and self._area:
            self.forms[-1].fields.append((self._area, self._text.strip()))
            self._area = ""
        elif tag in ("th", "td") and self._cells is not None:
            self._cells.append(" ".join(self._text.split()))
        elif tag == "tr" and self._cells:
            self.entries.append((self._cells[0], self._cells[-1]))
            self._cells = []
        elif tag == "tbody":
            self._cells = None
        if tag == self._inside:
            if tag == "ul":
                self.errors.append(" ".join(self._text.split()))
            self._inside = ""

    def handle_data(self, data: str) -> None:
        self._said.append(data)
        if self._area or self._inside:
            self._text += data


class Browser:
    """A session with cookies."""

    def __init__(self, web_url: str) -> None:
        self.http = httpx2.Client(base_url=web_url, timeout=15, follow_redirects=True)

    def open(self, path: str) -> Page:
        return self._read(self.http.get(path))

    def send(self, page: Page, form: Form, **values: str | list[str]) -> Page:
        """Fill a form in and send it, with the token the page gave against forgery."""
        fields: dict[str, list[str]] = {}
        for name, value in form.filled(**values):
            fields.setdefault(name, []).append(value)
        return self._read(self.http.post(urljoin(page.url, form.action), data=fields, headers={"Referer": page.url}))

    def _read(self, answer: httpx2.Response) -> Page:
        if answer.is_server_error:  # worth another try, like a line that broke
            raise httpx2.RemoteProtocolError(f"{answer.url}: {answer.status_code}")
        return Page(answer)

"""What a page shows, read with the standard library: the cells of its tables, its links, its text."""

from __future__ import annotations

from html.parser import HTMLParser

EMPTY = {"meta", "link", "input", "br", "img", "hr"}


class PageReader(HTMLParser):
    """`rows`: the cells of each row of a table body; `links`: addresses, `named_links` the first of each text; `text`: all text; `tags`: every element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self._rows: list[list[str]] = []
        self.links: list[str] = []
        self.named_links: dict[str, str] = {}
        self.texts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self._link_text = ""
        self.feed(html)
        assert self._open == [], f"not closed: {self._open}"

    @property
    def rows(self) -> list[list[str]]:
        return [[" ".join(cell.split()) for cell in row] for row in self._rows]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def column(self, name: str) -> list[str]:
        """Return the cells of a column of the first table."""
        head = [cell.rstrip(" ↑↓") for cell in self.rows[0]]
        return [row[head.index(name)] for row in self.rows[1:] if len(row) == len(head)]

    def handle_starttag(self, tag, attrs) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag == "a":
            self.links.append(given["href"])
            self._link_text = ""
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th"):
            self._rows[-1].append("")
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag) -> None:
        if tag == "a":
            self.named_links.setdefault(" ".join(self._link_text.split()), self.links[-1])
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data) -> None:
        self.texts.append(data)
        self._link_text += data
        if self._rows and {"td", "th"} & set(self._open):
            self._rows[-1][-1] += data

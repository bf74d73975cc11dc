"""What a page shows, read by the parser of the standard library."""

from __future__ import annotations

from html.parser import HTMLParser


class _Text(HTMLParser):
    """Collects the text of a page, the cells of its tables, its links and the names of its elements."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.rows: list[list[str]] = []
        self.links: dict[str, str] = {}
        self.elements: list[str] = []
        self.parts: list[str] = []
        self._href: str | None = None
        self._link = ""
        self._in_cell = False

    def handle_starttag(self, tag: str, attrs) -> None:
        self.elements.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True
        elif tag == "a":
            self._href, self._link = dict(attrs).get("href"), ""

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False
        if tag == "a" and self._href is not None:
            self.links.setdefault(" ".join(self._link.split()), self._href)
            self._href = None

    def handle_data(self, data: str) -> None:
        self.parts.append(data)
        self._link += data
        if self._in_cell:
            self.rows[-1][-1] += data


class PageText:
    """A page as its reader has it: `text`, `rows` of tables as lists of cells, `links` by their text, the first of each."""

    def __init__(self, html: str) -> None:
        parser = _Text()
        parser.feed(html)
        parser.close()
        self.text = " ".join("".join(parser.parts).split())
        self.rows = [[" ".join(cell.split()) for cell in row] for row in parser.rows]
        self.links = parser.links
        self.elements = parser.elements

    def column(self, name: str) -> list[str]:
        """Return the cells of a column of the first table."""
        head = [cell.rstrip(" ↑↓") for cell in self.rows[0]]
        return [row[head.index(name)] for row in self.rows[1:] if len(row) == len(head)]

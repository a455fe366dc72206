"""Check the built pages: no dead link or anchor, nothing loaded from elsewhere, titles.

    python docs/tools/check_site.py build/site

Prints each fault in a line, and exits with 1 if there are any. Links that lead to other hosts are
only counted: nobody is asked whether they exist.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "object": "data"}
_LINK_KINDS = {"stylesheet", "icon", "preload", "preconnect", "dns-prefetch", "modulepreload"}


@dataclass
class _Page(HTMLParser):
    """What one page has and names."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    images_without_text: list[str] = field(default_factory=list)
    title: str = ""
    headings: int = 0
    _in_title: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        have = {name: value or "" for name, value in attrs}
        self.ids |= {have[key] for key in ("id", "name") if key in have and tag != "meta"}
        self._in_title = tag == "title" and not self.title
        self.headings += tag == "h1"
        if tag == "a" and "href" in have:
            self.links.append(have["href"])
        if tag in _LOADED and _LOADED[tag] in have:
            self.loaded.append(have[_LOADED[tag]])
        if tag == "link" and set(have.get("rel", "").split()) & _LINK_KINDS:
            self.loaded.append(have.get("href", ""))
        if tag == "img" and not have.get("alt"):
            self.images_without_text.append(have.get("src", ""))

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data.strip()

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False


def _read(site: Path) -> dict[Path, _Page]:
    pages = {}
    for file in sorted(site.rglob("*.html")):
        pages[file] = _Page()
        pages[file].feed(file.read_text(encoding="utf-8"))
    return pages


def faults(site: Path) -> list[str]:
    """Return what is wrong with the pages of a site.

    Args:
        site: Its folder.

    Returns:
        One line per fault, with the page.
    """
    pages = _read(site)
    found = []
    for file, page in pages.items():
        name = file.relative_to(site).as_posix()
        if not page.title:
            found.append(f"{name}: no title")
        if page.headings != 1 and name != "404.html":
            found.append(f"{name}: {page.headings} headings of the first level, expected 1")
        found += [f"{name}: an image without a text: {src}" for src in page.images_without_text]
        for address in [*page.loaded, *page.links]:
            parts = urlsplit(address)
            if parts.scheme in ("http", "https", "mailto") or parts.netloc:
                if address in page.loaded:
                    found.append(f"{name}: loads {address}")
                continue
            if name == "404.html" or parts.scheme:  # its links count from the root of a server
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not target.is_file():
                found.append(f"{name}: {address} leads nowhere")
            elif parts.fragment and target in pages:
                ids = pages[target].ids
                if unquote(parts.fragment) not in ids and not parts.fragment.startswith("__"):
                    found.append(f"{name}: {address} leads to no anchor")
    for style in sorted(site.rglob("*.css")):
        for address in re.findall(r"(?:url\(|@import\s*)[\"']?(https?:)?//", style.read_text()):
            found.append(f"{style.relative_to(site)}: loads from {address}//")
    return found


def main(site: Path) -> int:
    """Print the faults of a site.

    Args:
        site: Its folder.

    Returns:
        The exit status.
    """
    found = faults(site.resolve())
    print(*found, sep="\n", end="\n" if found else "")
    count = len(list(site.rglob("*.html")))
    print(f"{count} pages, {len(found)} faults")
    return 1 if found or not count else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

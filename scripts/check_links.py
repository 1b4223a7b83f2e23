"""Check that no link inside the built site, or inside a page of the repository, is dead.

    python scripts/check_links.py build/docs

Links to other sites are not followed. Only the standard library is needed.
"""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent


class Page(HTMLParser):
    """The links of a page, and the anchors that can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: "list[tuple[str, str | None]]") -> None:
        """Collect the links and the anchors of a tag."""
        for name, value in attrs:
            if value and name in ("href", "src"):
                self.links.append(value)
            if value and name in ("id", "name"):
                self.anchors.add(value)


def dead(folder: Path) -> Iterator[str]:
    """The dead links of a folder of HTML files."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}
    for path, page in pages.items():
        for link in page.links:
            to = urlsplit(link)
            if to.scheme or to.netloc:
                continue
            file = (path.parent / unquote(to.path)).resolve() if to.path else path
            scripted = "articles" in path.parent.parts  # their script makes the anchors
            if not file.exists() or (
                file in pages and not scripted and unquote(to.fragment) not in pages[file].anchors
            ):
                yield f"{path.relative_to(folder.resolve())}: {link}"


def dead_in_repository() -> Iterator[str]:
    """The dead links of the Markdown files that are read in the repository itself."""
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob(".github/**/*.md")]:
        text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            to = urlsplit(link)
            made = to.path.startswith("pictures/")  # drawn when the site is built
            if not (to.scheme or made or not to.path or (path.parent / unquote(to.path)).exists()):
                yield f"{path.relative_to(ROOT)}: {link}"


def main(folder: str) -> None:
    """Print the dead links, and exit with status 1 if there are any."""
    found = [*dead(Path(folder)), *dead_in_repository()]
    sys.exit("\n".join(["dead links:", *found]) if found else 0)


if __name__ == "__main__":
    main(sys.argv[1])

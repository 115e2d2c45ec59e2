"""The navigation in mkdocs.yml, as far as it lists generated pages, and the list of how-tos on the home page."""

import re
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parent
END = "# end"

_PAGE = re.compile(r"^\s+- (?:(?P<title>.+): )?(?P<page>\S+\.md)$")


def navigation(pages: list[str]) -> str:
    """Return mkdocs.yml with the generated pages in the place of those that are between its marks.

    A mark is a comment that names a folder, `# reference/methods/`, and ends with `# end`.
    """
    lines: list[str] = []
    skipping = False
    for line in (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8").splitlines():
        words = line.strip()
        if words == END:
            skipping = False
        if not skipping:
            lines.append(line)
        if words.startswith("# reference/"):
            skipping = True
            indent = line[: line.index("#")]
            listed = [page for page in pages if page.startswith(words.removeprefix("# "))]
            lines += [f"{indent}- {_titled(page)}" for page in listed]
    return "\n".join(lines) + "\n"


def _titled(page: str) -> str:
    """Return a page as the navigation lists it. An index has its section's title."""
    name = Path(page).stem
    if name == "index":
        return page
    return f"cuvee {name}: {page}" if "/commands/" in page else f"{name}: {page}"


def home_page() -> str:
    """Return the home page with the how-tos of the navigation between its marks."""
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    rows = "\n".join(f"- [{title}]({page})" for title, page in section("how-to/"))
    mark = "<!-- how-tos: written by docs/generate.py from mkdocs.yml -->"
    before, _, rest = text.partition(mark)
    _, end, after = rest.partition("<!-- end -->")
    assert end, "docs/index.md lacks the marks of its list of how-tos"
    return f"{before}{mark}\n\n{rows}\n\n{end}{after}"


def section(folder: str) -> Iterator[tuple[str, str]]:
    """Yield title and page of everything that the navigation lists from a folder."""
    for line in (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8").splitlines():
        entry = _PAGE.match(line)
        if entry and entry["title"] and entry["page"].startswith(folder):
            yield entry["title"], entry["page"]

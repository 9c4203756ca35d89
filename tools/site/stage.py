"""The source tree of the site: the repository's pages in their places, linked files as pages, and a table of contents.

The pages keep their paths, so that their links lead to the same files. README.md becomes the first page. A link to any
other file of the repository leads to a page that shows this file.
"""

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIRST = "README.md"
INDEX = "docs/README.md"
OUTSIDE_DOCS = (
    FIRST, "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "slurm/README.md", "src/ict_ref/verify/data/VECTORS.md",
)  # fmt: skip
# A block of code, a link or inline code, whichever begins first: a link may have code in its label.
LINK = re.compile(
    r"^```.*?^```$|(?P<label>!?\[(?:[^\]\[]|\[[^\]]*\])*\]\()(?P<target>[^)\s]+)\)|`[^`\n]+`", re.MULTILINE | re.DOTALL
)
LANGUAGES = {".py": "python", ".toml": "toml", ".js": "javascript", ".md": "markdown", ".cff": "yaml", ".json": "json"}


def repository_pages() -> list[str]:
    """Return the Markdown pages of the repository that the site has, as paths from its root."""
    docs = (path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md")))
    return [*OUTSIDE_DOCS, *(page for page in docs if not page.startswith("docs/_"))]


def name_of(page: str) -> str:
    """Return the path of a page in the source tree."""
    return "index.md" if page == FIRST else page


def stage(folder: Path, generated: Mapping[str, str], captions: Mapping[str, Iterable[str]]) -> None:
    """Write the source tree.

    `generated` maps paths to the text of further pages; `captions` lists them by the section of the table of contents.
    """
    shutil.rmtree(folder, ignore_errors=True)
    pages = {page: (ROOT / page).read_text(encoding="utf-8") for page in repository_pages()} | dict(generated)
    sections = table_of_contents(captions)
    shown: set[str] = set()
    for page, text in pages.items():
        linked = with_links(page, text, pages, shown)
        contents = "".join(toctree(*section) for section in sections.items()) if page == FIRST else ""
        write(folder / name_of(page), linked + contents)
    for file in sorted(shown):
        show(folder, file)
    for picture in (ROOT / "docs").rglob("*.png"):
        place = folder / picture.relative_to(ROOT)
        place.parent.mkdir(exist_ok=True)
        shutil.copy(picture, place)


def table_of_contents(captions: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Return the pages of each section of docs/README.md, with the generated ones behind them."""
    sections: dict[str, list[str]] = {}
    for title, body in re.findall(r"^\*\*([^*\n]+)\*\*\n(.*?)(?=^\*\*|\Z)", (ROOT / INDEX).read_text(), re.M | re.S):
        targets = [link["target"].partition("#")[0] for link in LINK.finditer(body) if link["target"]]
        places = (os.path.normpath(f"docs/{target}") for target in targets)
        sections[title] = [*(name_of(place) for place in places if place != FIRST), *captions.get(title, ())]
    listed = {page for pages in sections.values() for page in pages}
    sections["All pages"] = [INDEX, *sorted(set(map(name_of, repository_pages())) - listed - {INDEX, "index.md"})]
    return sections


def toctree(title: str, pages: Iterable[str]) -> str:
    """Return the directive for a section of the table of contents."""
    return "\n".join(["\n```{toctree}", ":hidden:", f":caption: {title}\n", *pages, "```\n"])


def with_links(page: str, text: str, pages: Iterable[str], shown: set[str]) -> str:
    """Return the text with links that lead to the site's pages, and equations as MyST has them.

    Files that need a page are added to `shown`.
    """
    known = set(pages)

    def replaced(link: re.Match[str]) -> str:
        target, _, anchor = (link["target"] or "").partition("#")
        if not target or ":" in target:
            return link[0]
        place = os.path.normpath(Path(page).parent / target)
        if place not in known:
            if link["label"].startswith("!") or Path(place).suffix in (".html", ".png"):
                return link[0]
            shown.add(place)
            place += ".md"
        relative = os.path.relpath(name_of(place), Path(name_of(page)).parent)
        return f"{link['label']}{relative}{'#' * bool(anchor)}{anchor})"

    return LINK.sub(replaced, text).replace("\n```math\n", "\n```{math}\n")


def show(folder: Path, file: str) -> None:
    """Write a page that shows a file, or lists a folder's files."""
    path = ROOT / file
    content = (
        path.read_text(encoding="utf-8") if path.is_file() else "\n".join(sorted(one.name for one in path.iterdir()))
    )
    head = f"---\norphan: true\nnosearch: true\n---\n\n# `{file}`\n\n"
    language = LANGUAGES.get(path.suffix, "text")
    write(folder / f"{file}.md", f"{head}~~~~{{code-block}} {language}\n:linenos:\n\n{content.strip(chr(10))}\n~~~~\n")


def write(path: Path, text: str) -> None:
    """Write a file, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")

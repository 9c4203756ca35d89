"""The source tree of the site: its links, its pages and its table of contents."""

import json
import re
from pathlib import Path

import pytest
from tools.site.reference import deviations, documentation, ledger
from tools.site.stage import repository_pages, show, table_of_contents, with_links

from ict_ref.equations import BOOKS, formulas

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "docs/README.md", "docs/verify.md", "slurm/README.md", "reference/ledger-ict.md"]


@pytest.mark.parametrize(
    ("page", "text", "expected"),
    [
        ("README.md", "[a](docs/verify.md)", "[a](docs/verify.md)"),
        ("docs/verify.md", "[a](../README.md#start)", "[a](../index.md#start)"),
        ("docs/verify.md", "[`a`](../src/a.py) and [b](x.toml)", "[`a`](../src/a.py.md) and [b](x.toml.md)"),
        ("slurm/README.md", "[a](../docs/verify.md)", "[a](../docs/verify.md)"),
        ("reference/ledger-ict.md", "[a \\[b\\]](../tools)", "[a \\[b\\]](../tools.md)"),
        ("docs/verify.md", "![a](b.png) [c](https://d.e) [f](#g)", "![a](b.png) [c](https://d.e) [f](#g)"),
        ("docs/radam.md", "a\n```math\nx^2\n```\n", "a\n```{math}\nx^2\n```\n"),
        ("docs/verify.md", "`[a](b.py)`\n```\n[a](b.py)\n```\n", "`[a](b.py)`\n```\n[a](b.py)\n```\n"),
    ],
)
def test_links_lead_to_pages_of_the_site(page: str, text: str, expected: str) -> None:
    assert with_links(page, text, PAGES, set()) == expected


def test_files_that_are_linked_are_named() -> None:
    shown: set[str] = set()
    with_links("docs/verify.md", "[a](../src/a.py) [b](../README.md)", PAGES, shown)
    assert shown == {"src/a.py"}


def test_a_file_and_a_folder_are_shown_as_they_are(tmp_path: Path) -> None:
    show(tmp_path, "LICENSE")
    assert "MIT License" in (tmp_path / "LICENSE.md").read_text()
    show(tmp_path, "requirements")
    assert "ci.txt\ndocs.txt\nnox.txt\n" in (tmp_path / "requirements.md").read_text()


def test_the_table_of_contents_has_every_page_once_and_the_generated_ones_in_their_section() -> None:
    sections = table_of_contents({"Reference": ["reference/commands.md"]})
    assert sections["Reference"][-1] == "reference/commands.md"
    listed = [page for pages in sections.values() for page in pages]
    expected = {*repository_pages(), "reference/commands.md"} - {"README.md"}
    assert sorted(listed) == sorted(expected)


def test_every_formula_has_an_entry_with_its_equation_and_its_laws_in_one_ledger() -> None:
    pages = [ledger(book) for book in BOOKS]
    headings = [line.removeprefix("## ") for page in pages for line in page.splitlines() if line.startswith("## ")]
    assert sorted(headings) == sorted(formula.name for formula in formulas())
    entry = pages[0].split("## pseudo_huber\n")[1].split("\n## ")[0]
    assert r"\lVert x - y \rVert_2^2" in entry
    assert "return torch.sqrt(_norm(x - y) ** 2 + c**2) - c" in entry
    assert entry.count("\n- [") >= 4  # three laws and an oracle


def test_every_known_deviation_has_a_row_with_its_effect_and_fix() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", deviations(), re.MULTILINE))
    stored = json.loads((ROOT / "src/ict_ref/verify/data/v3/deviations.json").read_text())["deviations"]
    assert sorted(rows) == sorted(stored)
    assert rows["MeanSign"].startswith("[lognormal_pmf](ledger-ict.md#lognormal_pmf) | P\\_mean is +1.1 | ")
    assert "on 8x8 digits: Frechet distance 10.23" in rows["NoInputScaling"]
    assert all(len(re.findall(r" \| (?=\S)", row)) == 4 for row in rows.values())


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("Return ||x_i||* of `x_i`.", r"Return \|\|x\_i\|\|\* of `x_i`." + "\n\n\n"),
        ("A.\n\n>>> 1 + 1\n2", "A.\n\n```pycon\n>>> 1 + 1\n2\n```\n\n\n"),
        (
            "A.\n\nRaises:\n    OSError: b\n        c.\n    ValueError: d.",
            "A.\n\nRaises:\n\n- OSError: b c.\n- ValueError: d.\n\n\n",
        ),
    ],
)
def test_a_docstring_is_shown_as_it_is(docstring: str, expected: str) -> None:
    assert documentation(docstring) == expected

"""The page that reads the paper beside the code has every equation of the paper, in its order, as it is printed."""

from pathlib import Path

import pytest
from tools.site.reading import entry, placed, write

from ict_ref.equations import literal_forms

PAGE = Path(__file__).parents[2] / "docs" / "reading.md"


def test_the_page_has_every_function_of_the_paper_in_its_order() -> None:
    assert list(placed(PAGE.read_text())) == [name for name in literal_forms() if not name.startswith("_")]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pseudo_huber", [r"\lVert x - y \rVert_2^2", "\nreturn torch.sqrt(_norm(x - y) ** 2 + c**2) - c\n"]),
        ("pseudo_huber", ["Eq. (8), Table 1 · [function, ", "row A1 of [the paper and this code](paper_and_code.md)"]),
        ("c_noise", ["```python\nreturn torch.log(sigma) / 4\n```", "(../reference/ledger-ict.md#c_noise)"]),
        ("multistep_sample", ["for k in range(1, len(sigmas)):\n    x = renoise("]),
    ],
)
def test_an_entry_has_the_equation_the_literal_code_and_the_function(name: str, expected: list[str]) -> None:
    for part in expected:
        assert part in entry(name)


def test_comments_are_replaced_by_entries(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Before.\n\n<!-- literal: c_in, c_noise -->\n\nAfter. <!-- literal -->\n")
    write(page)
    text = page.read_text()
    assert text.startswith("Before.\n\n### c_in\n")
    assert text.index("### c_in") < text.index("### c_noise") < text.index("After. <!-- literal -->")

"""Notebooks of the site: their blocks run in one namespace, and their outputs are those of the blocks."""

import io
import json
from base64 import b64decode
from pathlib import Path

import pytest
from PIL import Image
from tools.site.notebook import as_notebook, executed, write

PAGE = """# Title

First text.

```python
import sys
a = 2
print("seen")
print("dropped", file=sys.stderr)
a + 1
```

```sh
not run
```

```python
from PIL import Image

Image.new("L", (3, 2), a)
```

```python
a = None
a
```
"""


def test_code_runs_in_order_and_its_outputs_follow_it() -> None:
    cells = executed(PAGE)
    assert [cell.is_code for cell in cells] == [False, True, False, True, True]
    assert [cell.printed for cell in cells] == ["", "seen\n3\n", "", "", ""]
    picture = Image.open(io.BytesIO(cells[3].picture))
    assert (picture.size, picture.getpixel((0, 0))) == ((3, 2), 2)
    assert "not run" in cells[2].source


def test_code_runs_in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    executed("```python\nfrom pathlib import Path\n\nPath('a').touch()\n```\n")
    assert not [*tmp_path.iterdir()]
    assert Path.cwd() == tmp_path


def test_an_error_of_a_block_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        executed("```python\n1 / 0\n```\n")


def test_the_page_has_outputs_and_pictures_and_a_file_for_jupyter(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    write(page, "Two pixels")
    text = page.read_text()
    assert "a + 1\n```\n\n```{code-block} text\n:class: output\n\nseen\n3\n```" in text
    assert "![Two pixels](page-3.png)" in text
    assert "{download}`This page as a notebook, with its outputs <page.ipynb>`" in text
    assert (tmp_path / "page-3.png").is_file()
    assert json.loads((tmp_path / "page.ipynb").read_text())["nbformat"] == 4


def test_a_notebook_has_the_cells_and_outputs_of_the_format() -> None:
    # https://nbformat.readthedocs.io/en/latest/format_description.html
    cells = json.loads(as_notebook(executed(PAGE)))["cells"]
    assert [cell["cell_type"] for cell in cells] == ["markdown", "code", "markdown", "code", "code"]
    assert [cell["execution_count"] for cell in cells if cell["cell_type"] == "code"] == [1, 2, 3]
    assert cells[1]["outputs"] == [{"output_type": "stream", "name": "stdout", "text": "seen\n3\n"}]
    (picture,) = cells[3]["outputs"]
    assert Image.open(io.BytesIO(b64decode(picture["data"]["image/png"]))).size == (3, 2)
    assert cells[4]["outputs"] == []
    assert len({cell["id"] for cell in cells}) == 5

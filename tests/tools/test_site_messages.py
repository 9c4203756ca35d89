"""The page of error messages has the messages that commands print."""

import re

import pytest
from tools.site.messages import of_module, page

from ict_ref.sample.__main__ import main

CODE = """
ADVICE = "Give another"


def f(path, n):
    expect(n > 0, "--count", "1 or more", n)
    if n > MOST:
        raise ValueError(f"{path}: expected a file, got {kind(path)}. " + ADVICE)
    raise ValueError(str(error))
    raise LookupError("no file")
    expect(n > 1, option("count"), f"{n + 1} or more", "a very long expression".replace("a", "b").upper(), ADVICE)
    refuse("a name", name, ADVICE)
"""


def test_messages_are_in_the_order_of_lines_with_names_for_values() -> None:
    assert of_module(CODE) == [
        "--count: expected 1 or more, got {n}",
        "{path}: expected a file, got {kind(path)}. Give another",
        "no file",
        "{option('count')}: expected {n + 1} or more, got {...}. Give another",
        "expected a name, got {name}. Give another",
    ]


@pytest.mark.parametrize(
    "arguments", [["runs/missing"], ["a.safetensors", "--count", "0"], ["a.safetensors", "--ema", "2"]]
)
def test_a_message_of_a_command_is_on_the_page(
    arguments: list[str], tmp_path: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(str(tmp_path))
    assert main(arguments) == 2
    printed = capsys.readouterr().err.strip().partition(": ")[2]
    templates = [line for line in page().splitlines() if re.search(r"\w{4}", re.sub(r"\{[^}]*\}", "", line))]
    patterns = [".+".join(map(re.escape, re.split(r"\{[^}]*\}", line))) for line in templates]
    assert any(re.fullmatch(pattern, printed) for pattern in patterns), printed

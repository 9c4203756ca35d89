"""Each shell block of the documentation runs, on small runs, unless a comment right above it says why it cannot."""

import importlib
import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import pytest
from tests.support.runs import short_run, unchecked
from tests.test_docs import FENCE, NOT_RUN, PAGES, blocks, named

# The commands take minutes with the numbers of the page. Later options replace earlier ones.
SMALLER = (
    (r"--config digits\b(?!.*--train\.steps)", "--config digits --train.steps 8"),
    (r"--config digits\b", "--config minimal"),
    (r"--train\.steps \d+", "--train.steps 8"),
    (r"--count \d+", "--count 20"),
    (r"^RUN=.*", ""),
    (r"\$RUN\b", "runs/digits-1234abcd"),
)
COMMAND = re.compile(r"-m (ict_ref\S*) *(.*)")


def small(line: str) -> str:
    for pattern, replacement in SMALLER:
        line = re.sub(pattern, replacement, line)
    return line


def to_run() -> list[object]:
    """Return the lines of all blocks of each page that has a block without a reason against it."""
    found: list[object] = []
    for page in PAGES:
        text = page.read_text()
        code = [
            line
            for block in FENCE.finditer(text)
            if block[1] in ("sh", "console") and not NOT_RUN.search(text[: block.start()])
            for line in blocks(block[0] + "\n", "sh", "console")[0].splitlines()
        ]
        if code:
            found.append(pytest.param(code, id=named(page)))
    return found


def run(line: str) -> None:
    """Run a command of ict_ref in this process; `--help` ends with SystemExit."""
    command = COMMAND.search(line)
    assert command, f"only commands of ict_ref are run here: {line}"
    name = command[1]
    package = importlib.util.find_spec(name)
    assert package is not None
    module = importlib.import_module(f"{name}.__main__" if package.submodule_search_locations else name)
    try:
        status = module.main(shlex.split(command[2], comments=True))
    except SystemExit as ended:
        status = ended.code
    assert not status, line


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return short_run(tmp_path_factory.mktemp("trained") / "run", "--train.steps", "8")


@pytest.mark.parametrize("lines", to_run())
def test_a_block_without_a_reason_has_commands_of_ict_ref_alone(lines: list[str]) -> None:
    for line in filter(None, map(small, lines)):
        assert COMMAND.search(line), f"write why it is not run above the block: {line}"


@pytest.mark.slow
@pytest.mark.parametrize("lines", to_run())
def test_the_commands_of_a_page_run(
    lines: list[str], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path / "runs" / "digits-1234abcd")
    with unchecked():
        for line in filter(None, map(small, lines)):
            run(line)


def test_numbers_become_small_and_the_rest_of_a_command_stays() -> None:
    launch = "python -m ict_ref.launch --config"
    assert small(f"{launch} digits --out a") == f"{launch} minimal --train.steps 8 --out a"
    assert small(f"{launch} digits --train.steps 400") == f"{launch} minimal --train.steps 8"
    assert small(f"{launch} imagenet64 --dry-run") == f"{launch} imagenet64 --dry-run"
    assert (
        small("python -m ict_ref.search $RUN --count 2000")
        == "python -m ict_ref.search runs/digits-1234abcd --count 20"
    )
    assert small("RUN=$(ls -d runs/digits-*)") == ""


def test_a_command_that_fails_fails_the_test() -> None:
    with pytest.raises(AssertionError, match="eq 99"):
        run("python -m ict_ref eq 99")
    with pytest.raises(AssertionError, match="only commands of ict_ref"):
        run("make everything")

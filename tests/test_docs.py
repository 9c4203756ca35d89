"""Links, commands, options, paths, Python examples, counts and the length of sentences in the documentation."""

import ast
import contextlib
import functools
import importlib
import importlib.util
import io
import re
import shlex
from pathlib import Path

import pytest
from tools.prose import LONGEST, WORDS

from ict_ref.verify.laws import LAWS
from ict_ref.verify.options import COMMANDS
from ict_ref.verify.vectors.load import functions, vectors

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
VECTORS = ROOT / "src" / "ict_ref" / "verify" / "data" / "VECTORS.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "slurm" / "README.md", VECTORS, *DOCS]
NOTEBOOK = ROOT / "docs" / "notebook.md"
README_LINES, README_BYTES, LONGEST_LINE = 120, 8_000, 120

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run: \S.*? -->\n+\Z")
INLINE_CODE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
OPTION = re.compile(r"--[a-z][\w.-]*\w")
COMMAND = re.compile(r"-m (ict_ref(?:\.\w+)*)((?: [^\n|;&>`]*)?)")
# Options of pip, nox, pytest, torchrun, sbatch and node.
FOREIGN_OPTIONS = {
    "--extra",
    "--nproc-per-node",
    "--kill-on-bad-exit",
    "--no-install-recommends",
    "--torch-backend",
    "--fix",
    "--resume",
    "--strict",
}
ABBREVIATION = re.compile(r"\b(Eqs?|Figs?|App|Sec|e\.g|i\.e|et al|vs|cf)\.$")
# Words of STYLE that have a plainer one, and the words that a sentence does not begin with.
AVOIDED = re.compile("|".join(WORDS), re.IGNORECASE)
BEGINNINGS = re.compile(r"(What|Who|Of|Beside)\b")


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


every_page = pytest.mark.parametrize("page", PAGES, ids=named)


def without_comments(text: str) -> str:
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def without_code(text: str) -> str:
    """Return the text with each block of code left out and each piece of inline code as one word."""
    return INLINE_CODE.sub("Code", FENCE.sub("", without_comments(text)))


def blocks(text: str, *languages: str) -> list[str]:
    """Return the blocks of code in these languages, each with its continued lines joined."""
    return [code.replace("\\\n", " ") for language, code in FENCE.findall(text) if language in languages]


def inline(text: str) -> list[str]:
    return [" ".join(code.split()) for code in INLINE_CODE.findall(FENCE.sub("", text))]


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives to a heading."""
    plain = LINK.sub(r"\2", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def anchors(text: str) -> set[str]:
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)}


def sentences(text: str) -> list[str]:
    """Return the sentences of a page's prose: headings, tables, code and images are not prose."""
    found = []
    prose = LINK.sub(lambda link: "" if link[1] else link[2], without_code(text)).replace("*", "")
    lines = [
        "" if line.startswith(("#", "|")) else re.sub(r"^\s*(- |\d+\. )", "\n\n", line) for line in prose.split("\n")
    ]
    for paragraph in re.split(r"\n\s*\n", "\n".join(lines)):
        words: list[str] = []
        for word in paragraph.split():
            words.append(word)
            if re.search(r"[.!?][\"')]*$", word) and not ABBREVIATION.search(word):
                found.append(" ".join(words))
                words = []
        if words:
            found.append(" ".join(words))
    return found


def length(sentence: str) -> int:
    return sum(any(character.isalnum() for character in word) for word in sentence.split())


# Commands within a command: each has options of its own.
WITHIN = {"ict_ref": [["eq"]], "ict_ref.verify": [[name] for name in COMMANDS]}


@functools.cache
def options_of(command: str) -> set[str]:
    """Return every option in the help of a command."""
    package = importlib.util.find_spec(command)
    assert package is not None, f"there is no {command}"
    module = importlib.import_module(f"{command}.__main__" if package.submodule_search_locations else command)
    out = io.StringIO()
    for words in WITHIN.get(command, [[]]):
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            module.main([*words, "--help"])
    assert "usage: python -m ict_ref" in out.getvalue()
    return set(OPTION.findall(out.getvalue()))


def commands(text: str) -> list[tuple[str, list[str]]]:
    """Return each command of ict_ref in blocks of code and in inline code, with the options that it is given."""
    found = []
    for code in blocks(text, "sh", "console", "") + inline(text):
        for command, arguments in COMMAND.findall(code):
            words = shlex.split(arguments.split(" # ")[0], posix=False)
            found.append((command, [option[0] for word in words if (option := OPTION.match(word))]))
    return found


def nox_sessions() -> set[str]:
    tree = ast.parse((ROOT / "noxfile.py").read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list}


@every_page
def test_every_relative_link_and_anchor_leads_to_something(page: Path) -> None:
    for _, _, target in LINK.findall(INLINE_CODE.sub("", FENCE.sub("", page.read_text()))):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), f"{target} is not there"
        assert not anchor or anchor in anchors(there.read_text()), f"{target}: there is no such heading"


@every_page
def test_every_command_exists_and_has_the_options_that_it_is_given(page: Path) -> None:
    for command, options in commands(page.read_text()):
        assert not set(options) - options_of(command), f"python -m {command}"


@every_page
def test_every_option_named_by_itself_is_one_of_a_command(page: Path) -> None:
    known = FOREIGN_OPTIONS.union(*(options_of(command) for each in PAGES for command, _ in commands(each.read_text())))
    given = {option for code in inline(page.read_text()) for option in OPTION.findall(code)}
    assert not given - known


@every_page
def test_every_nox_session_exists(page: Path) -> None:
    text = page.read_text()
    for code in blocks(text, "sh", "console", "") + inline(text):
        for given in re.findall(r"nox -s ((?:[a-z_]+ ?)+)", code):
            assert set(given.split()) <= nox_sessions()


@every_page
def test_every_path_named_in_code_is_there(page: Path) -> None:
    for code in inline(page.read_text()):
        if re.fullmatch(r"(src|tests|tools|docs|slurm|properties|benchmarks)/(?!JOB)[\w./-]*", code):
            assert (ROOT / code).exists(), code


def test_every_page_is_listed_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    listed = {(index.parent / target).resolve() for _, _, target in LINK.findall(index.read_text())}
    assert set(DOCS) - {index} <= listed


def test_the_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= README_LINES
    assert (ROOT / "README.md").stat().st_size <= README_BYTES
    assert max(map(len, lines)) <= LONGEST_LINE


@every_page
def test_no_sentence_is_long(page: Path) -> None:
    assert not [sentence for sentence in sentences(page.read_text()) if length(sentence) > LONGEST]


@every_page
def test_words_that_have_a_plainer_one_are_not_used(page: Path) -> None:
    text = LINK.sub(r"\2", without_code(page.read_text()))
    assert not AVOIDED.findall(text)
    assert not [sentence for sentence in sentences(page.read_text()) if BEGINNINGS.match(sentence)]


def python_blocks() -> list[object]:
    """Return each Python block of each page, unless a comment right above excepts it; those of a notebook are one."""
    found: list[object] = []
    for page in PAGES:
        text = page.read_text()
        if page == NOTEBOOK:
            assert '"train.steps": 800' in text
            shorter = "".join(blocks(text, "python")).replace('"train.steps": 800', '"train.steps": 16')
            found.append(pytest.param(shorter, id=named(page)))
            continue
        for block in FENCE.finditer(text):
            if block[1] == "python" and not NOT_RUN.search(text[: block.start()]):
                line = text.count("\n", 0, block.start()) + 2
                found.append(pytest.param(block[2], id=f"{named(page)}:{line}"))
    return found


@pytest.mark.parametrize("code", python_blocks())
def test_every_python_example_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "<example>", "exec"), {"__name__": "example"})  # noqa: S102


@every_page
def test_the_numbers_of_vectors_and_laws_are_today_s(page: Path) -> None:
    text = " ".join(without_code(page.read_text()).split())
    count = sum(len(vectors(function)) for function in functions())
    assert set(re.findall(r"(\d+) vectors\b", text)) <= {str(count)}
    assert set(re.findall(r"(\d+) laws\b", text)) <= {str(len(LAWS))}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two!\nThree? Four", ["One.", "Two!", "Three?", "Four"]),
        ("See Fig. 3a and Eq. (5). It is.", ["See Fig. 3a and Eq. (5).", "It is."]),
        ("Do this:\n\n```sh\nnox. Now.\n```\n\nThen `a. b c`\nends.", ["Do this:", "Then Code ends."]),
        ("# A. B.\n\n| a. | b. |\n\n- One\n- **Two.** Three", ["One", "Two.", "Three"]),
        ("![No. Prose.](a.png) [A link](b.md). <!-- c. d. -->", ["A link."]),
    ],
)
def test_sentences_are_split_where_they_end(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_code_is_left_out_of_a_page_s_anchors_and_commands_are_read_across_lines() -> None:
    assert anchors("# A `b` (c), d\n```sh\n# e\n```\n") == {"a-b-c-d"}
    text = "```sh\npython -m ict_ref.sample $RUN --count 3 \\\n    --out a.npz  # --not-one\n```\n"
    assert commands(text) == [("ict_ref.sample", ["--count", "--out"])]

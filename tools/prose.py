"""Find words and sentences that STYLE keeps out: `python -m tools.prose`, a part of `nox -s lint`.

Words are searched for in all code and documentation, in identifiers too. Sentences of more than 25 words
are searched for in the documentation, outside code and tables.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LONGEST = 25
# A word that is kept out, and what to write instead.
WORDS = {
    r"(?-i:is none\b)": "is not a ..., is missing",
    r"\bso many\b": "the number, `count`",
    r"\bslips?\b": "known deviation",
    r"(?<!progress )\bbars\b": "acceptance thresholds",
    r"\blanes?\b|_lanes?\b": "noise shard",
    r"\bheard\b|\binnocent\b|\btold\b|\btells?\b": "a plain verb: is given, gets, returns",
    r"\bjudges?\b|\bjudged\b|\breferee\b|\byardsticks?\b": "evaluator, scored, baselines",
    r"\bgoes on\b|\bgo on\b": "continues, resumes",
    r"\bmends?\b": "fix",
    r"\bnewcomers?\b": "new users",
}
# The word list, and the tests of the names of earlier versions.
EXEMPT = ("prose.py", "test_old_names.py")
# Lines that name the words themselves, or keep them for the files of earlier versions.
ALLOWED = re.compile(r"# word list: allowed|<!-- word list: allowed -->")


def files(root: Path) -> Iterator[Path]:
    """Yield the files that are checked for words."""
    for folder in ("src", "tools", "tests", "properties", "benchmarks"):
        yield from (path for path in sorted((root / folder).rglob("*.*")) if path.suffix in (".py", ".js", ".md"))
    yield from (root / name for name in ("noxfile.py", "CHANGELOG.md"))
    yield from documents(root)


def documents(root: Path) -> Iterator[Path]:
    """Yield the files that are checked for long sentences too."""
    yield from (root / name for name in ("README.md", "CONTRIBUTING.md"))
    yield from sorted((root / "docs").rglob("*.md"))
    yield from sorted((root / "slurm").rglob("*.md"))


def words(path: Path, text: str) -> Iterator[str]:
    """Yield a line for each word that is kept out; code blocks of Markdown show what programs print."""
    if path.suffix == ".md":
        text = re.sub(r"```.*?```", lambda block: "\n" * block[0].count("\n"), text, flags=re.DOTALL)
    for number, line in enumerate(text.splitlines(), start=1):
        if path.name in EXEMPT or ALLOWED.search(line):
            continue
        for pattern, instead in WORDS.items():
            if found := re.search(pattern, line, re.IGNORECASE):
                yield f"{path}:{number}: {found[0]!r}: write {instead}"


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of Markdown, without code, tables, headings and the addresses of links."""
    text = re.sub(r"```.*?```", "\n\n", text, flags=re.DOTALL)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("**", "")
    kept = [line for line in text.splitlines() if not line.lstrip().startswith(("|", "#", "<"))]
    for paragraph in re.split(r"\n\s*\n|\n\s*(?:[-*]|\d+\.) ", "\n".join(kept)):
        yield from (part for part in re.split(r"(?<=[.?!:;])\s+", " ".join(paragraph.split())) if part)


def long_sentences(path: Path, text: str) -> Iterator[str]:
    """Yield a line for each sentence of more than LONGEST words."""
    for sentence in sentences(text):
        if (count := len(sentence.split())) > LONGEST:
            yield f"{path}: {count} words: {sentence}"


def main() -> int:
    """Print what is found, and return 1 if anything is."""
    found = [line for path in files(ROOT) for line in words(path.relative_to(ROOT), path.read_text(encoding="utf-8"))]
    for path in documents(ROOT):
        found += long_sentences(path.relative_to(ROOT), path.read_text(encoding="utf-8"))
    print("".join(f"{line}\n" for line in found), end="")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

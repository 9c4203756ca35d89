"""The table of audited public code: verdicts, the audit of a checkout, and the page."""

import json
import re
import subprocess
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tools.peers import audit, page
from tools.peers.audit import Audited, audited, joined
from tools.peers.book import ADAPTERS, BOOK, Book, Peer, load
from tools.peers.verdict import Row, rows

from ict_ref.verify.report.finding import seen_in

PEER = Peer(
    name="owner/code",
    commit="",
    date="2024-01-02",
    licence="MIT",
    claim="iCT",
    says="README.md:1",
    adapter="code.py",
    functions=("c_in", "c_noise", "sigma_grid"),
    dtype="float64",
    lines={"c_in": "code.py:3"},
)
READINGS = {"ScaledNoise": "1000 times | as the authors' own code"}


def result(function: str, status: str, **others: Any) -> dict[str, Any]:
    made = {"id": f"{function}#1", "kind": "wrong", "deviation": None, "counterexample": None, "message": ""}
    return {**made, "function": function, "status": status, **others}


def finding(function: str, cause: str, **others: Any) -> dict[str, Any]:
    return {"functions": [function], "cause": cause, "example": "", "fails": True, "kind": "wrong", **others}


LAW = {"id": "c_in:a_law", "counterexample": {"sigma": 1.0}}


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([result("c_in", "pass"), result("c_in", "pass")], "right"),
        ([result("c_in", "pass"), result("c_in", "note", kind="precision")], "right to float32"),
        ([result("c_in", "pass"), result("c_in", "note", kind="note")], "authors' variant"),
        ([result("c_in", "pass"), result("c_in", "note", kind="type")], "right"),
        ([result("c_in", "pass"), result("c_in", "note", kind="accepts")], "right"),
        ([result("c_in", "pass"), result("c_in", "fail")], "differs at the paper's settings"),
        ([result("c_in", "pass"), result("c_in", "fail", kind="elsewhere")], "differs elsewhere"),
        # A law with examples of its own is about other settings than the paper's.
        ([result("c_in", "pass"), result("c_in", "fail", **LAW)], "differs elsewhere"),
        # A law that does not hold to the last bit.
        ([result("c_in", "pass"), result("c_in", "note", kind="precision", **LAW)], "right"),
        ([result("c_in", "fail", deviation="ScaledNoise")], "reading"),
        ([result("c_in", "fail", deviation="ScaledNoise"), result("c_in", "fail", **LAW)], "reading"),
        ([result("c_in", "fail", deviation="ScaledNoise and NoInputScaling")], "differs at the paper's settings"),
        ([result("c_in", "fail", deviation="ScaledNoise"), result("c_in", "fail")], "differs at the paper's settings"),
        ([result("c_in", "missing")], "not there"),
        ([result("c_in", "skipped")], "not checked"),
    ],
)
def test_the_verdict_of_a_function(results: list[dict[str, Any]], expected: str) -> None:
    [row] = rows("formulas", {"results": results, "findings": []}, READINGS)
    assert (row.item, row.verdict) == ("c_in", expected)


def test_a_law_alone_does_not_decide_about_a_code_in_float32() -> None:
    results = [result("c_in", "pass"), result("c_in", "fail", **LAW), result("c_out", "fail", kind="elsewhere")]
    made = rows("formulas", {"results": results, "findings": []}, READINGS, laws_decide=False)
    assert [(row.item, row.verdict) for row in made] == [("c_in", "right"), ("c_out", "differs elsewhere")]


def test_a_row_has_the_numbers_of_checks_the_cause_and_an_example() -> None:
    results = [result("c_in", status) for status in ("pass", "fail", "fail", "skipped")]
    found = [
        finding("c_in", "c_in: the root is missing", example="at #2: 0.1, should be 0.3"),
        finding("c_out", "another"),
    ]
    [row] = rows("formulas", {"results": results, "findings": found}, {})
    assert (row.checks, row.differing) == (3, 2)
    assert (row.remark, row.example) == ("the root is missing", "at #2: 0.1, should be 0.3")


def test_the_notes_of_an_audit_are_observations_and_not_variants() -> None:
    results = [result("step:levels", "note", kind="note"), result("step:loss", "pass")]
    found = [finding("step:levels", "step:levels", fails=False, kind="note", example="they are continuous")]
    made = rows("step", {"results": results, "findings": found}, {})
    assert [(row.item, row.verdict, row.remark) for row in made] == [
        ("levels", "observed", "they are continuous"),
        ("loss", "right", ""),
    ]


def written(peer: Peer, made: list[Row], **others: Any) -> str:
    head = {"ict_ref": "1", "vectors": 3, "vectors_sha256": "abcdef0123", "torch": "2", "date": "2026-01-02"}
    return page.as_markdown([Audited(peer, "c0ffee" * 6, made, head=head, **others)], Book([peer], READINGS))


def test_the_page_shows_what_is_right_first_and_links_the_lines() -> None:
    made = [
        Row("formulas", "c_in", "differs at the paper's settings", 9, 4, "a | b", "at #1: 2, should be 1"),
        Row("formulas", "sigma_grid", "right to float32", 19),
        Row("formulas", "c_noise", "reading", 8, 8, "1000 times"),
        Row("step", "loss", "right", 3),
        Row("step", "p(i)", "differs at the paper's settings", 1, 1, "uniform"),
    ]
    text = written(PEER, made)
    summary = next(line for line in text.splitlines() if line.startswith("| [owner/code]"))
    assert summary == (
        "| [owner/code](#ownercode) | iCT | `sigma_grid` | `c_noise` | `c_in` | - | 1 of 2 right; differs: `p(i)` |"
    )
    section = text[text.index("### owner/code") :]
    assert re.findall(r"^\| (\S+|step: \S+) \|", section, re.MULTILINE)[2:] == [
        "`sigma_grid`",
        "`c_noise`",
        "`c_in`",
        "step: loss",
        "step: p(i)",
    ]
    assert "4 of 9 differ | a \\| b. E.g. at #1: 2, should be 1" in section
    assert "/owner/code/blob//code.py#L3" in section
    assert "wrong" not in re.sub(r"it may be wrong", "", text).lower()
    assert "have not been asked yet" in text
    assert "- Audited: 2026-01-02 by ict_ref 1, vectors 3 (sha256 abcdef01), torch 2" in section


def test_the_page_says_what_could_not_be_run() -> None:
    assert "- Not run: it needs jax, which is not installed" in written(
        PEER, [], not_run=["it needs jax, which is not installed"]
    )


def test_the_json_has_the_rows_with_their_lines() -> None:
    made = [Row("formulas", "c_in", "right", 9)]
    text = page.as_json([Audited(PEER, "c0ffee", made, head={"vectors": 3})], Book([PEER], READINGS))
    found = json.loads(text)
    assert (found["schema"], found["readings"]) == (page.SCHEMA, READINGS)
    [peer] = found["peers"]
    assert peer["audited"] == {"vectors": 3}
    # An audit of other codes keeps these rows.
    again = page.from_json(text, PEER)
    assert again is not None
    assert (again.rows, again.head, again.commit) == (made, {"vectors": 3}, "c0ffee")
    assert page.from_json(text, replace(PEER, commit="beef")) is None
    assert (peer["name"], peer["commit"], peer["rows"][0]["where"]) == ("owner/code", "c0ffee", "code.py:3")
    assert peer["rows"][0]["verdict"] == "right"


def test_the_book_names_each_code_once_with_its_licence_commit_and_adapter() -> None:
    book = load()
    names = [peer.name for peer in book.peers]
    assert len(names) == len(set(names)) >= 13
    assert names[0] == "ict_ref"
    for peer in book.peers[1:]:
        assert re.fullmatch("[0-9a-f]{40}", peer.commit), peer.name
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", peer.date), peer.name
        assert peer.licence
        assert peer.says
        assert (ADAPTERS / peer.adapter).is_file(), peer.name
        assert all(re.fullmatch(r"[\w./ -]+:\d+", place) for place in peer.lines.values()), peer.name
    assert {"ScaledNoise", "RatioNotFloored", "ClampedSamples"} <= set(book.readings)


ENTRY = {
    "name": "owner/code",
    "commit": "c0ffee",
    "date": "2024-01-02",
    "licence": "MIT",
    "claim": "iCT",
    "says": "README.md",
    "adapter": "code.py",
    "functions": ["c_in"],
    "dtype": "float32",
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"licence": None}, "owner/code: .*missing.*licence"),
        ({"strange": "x"}, "owner/code: .*strange"),
        ({"functions": ["c_inn"]}, "owner/code: functions: expected names of ict_ref.formulas, got c_inn"),
        ({"dtype": "float16"}, "owner/code: dtype: expected float64 or float32, got float16"),
        ({"date": 3}, "owner/code: date: expected a string, got 3"),
    ],
)
def test_a_wrong_entry_of_the_book_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    def written_entry(entry: dict[str, Any]) -> Path:
        # Strings, numbers and lists are written in TOML as in JSON.
        lines = [f"{name} = {json.dumps(value)}" for name, value in entry.items() if value is not None]
        (tmp_path / "peers.toml").write_text("\n".join(["[[peer]]", *lines]))
        return tmp_path / "peers.toml"

    assert load(written_entry(ENTRY)).peers[0].functions == ("c_in",)
    with pytest.raises(ValueError, match=message):
        load(written_entry(ENTRY | change))


CODE = """
def scale(sigma, data=0.5):
    return 1 / (sigma**2 + data**2) ** 0.5

def embed(sigma):
    return 250 * sigma.log()

def main(loader, network):
    for x in loader:
        loss = network(x).square().mean()
"""
ADAPTER = """
from code_of_a_test import embed, scale

def c_in(sigma, *, sigma_data=0.5):
    return scale(sigma, sigma_data)

def c_noise(sigma):
    return embed(sigma)

def step(network, x, *, step, total_steps):
    raise RuntimeError("the step needs a GPU")
"""


def git(place: Path, *words: str) -> str:
    command = ["git", "-C", str(place), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a checkout of owner/code at a commit, and its adapter."""
    place = tmp_path / "owner+code"
    place.mkdir()
    (place / "code_of_a_test.py").write_text(CODE)
    for words in (("init", "-q"), ("add", "."), ("commit", "-qm", "code")):
        git(place, "-c", "user.name=a", "-c", "user.email=a@b.c", *words)
    adapters = tmp_path / "adapters"
    adapters.mkdir()
    (adapters / "code.py").write_text(textwrap.dedent(ADAPTER))
    monkeypatch.setattr("tools.peers.book.ADAPTERS", adapters)
    return tmp_path


def test_a_checkout_is_audited_by_the_command_in_its_folder(checkouts: Path) -> None:
    peer = replace(PEER, commit=git(checkouts / "owner+code", "rev-parse", "HEAD"), step=())
    found = audited(peer, Book([peer], READINGS), checkouts)
    assert found.commit == peer.commit
    verdicts = {row.item: row.verdict for row in found.rows}
    assert verdicts == {"c_in": "right", "c_noise": "reading", "sigma_grid": "not there"}
    # A step that fails is not one that differs.
    [line] = found.not_run
    assert line.startswith("step: ")
    assert "the step needs a GPU" in line
    assert found.head["vectors"] == 3


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"commit": "f" * 40}, "the checkout is at commit .*, expected ffffffffffff"),
        ({"name": "owner/other"}, r"there is no checkout owner\+other"),
        ({"needs": ("a_package_that_is_missing",)}, "it needs a_package_that_is_missing, which is not installed"),
        ({"adapter": "none.py"}, "formulas: none.py is not a file; give a module, or the path of a Python file"),
        (
            {"functions": (), "lines": {}, "step": ("--no-such-option", "3")},
            "step: .* not have --no-such-option 3",
        ),
    ],
)
def test_what_cannot_be_audited_is_a_line_and_not_an_error(change: dict[str, Any], line: str, checkouts: Path) -> None:
    peer = replace(PEER, **change)
    found = audited(peer, Book([peer], READINGS), checkouts)
    assert found.rows == []
    assert re.search(line, "; ".join(found.not_run).replace(f"{checkouts}/adapters/", ""))


def test_a_command_that_does_not_end_is_stopped(checkouts: Path) -> None:
    (checkouts / "adapters" / "code.py").write_text("while True: pass")
    found = audited(PEER, Book([PEER], READINGS), checkouts, seconds=1.0)
    assert found.not_run == ["formulas: it did not end within 1 s"]


def test_every_function_of_the_book_exists_in_the_reference() -> None:
    assert audit.unknown(["check", "x", "--only", "c_in"]) == ""
    assert audit.unknown(["audit", "nothing", "x"]) == "audit nothing"
    assert BOOK.is_file()


def test_the_places_of_known_deviations_are_those_of_the_book() -> None:
    commits = {peer.name: peer.commit for peer in load().peers}
    for deviation in ("RawSigmaNoise", "Elementwise", "ScaledNoise", "NoPlusOne"):
        for place in seen_in(deviation):
            assert place.line or place.repository not in commits, place


def test_rows_of_other_groups_are_kept() -> None:
    peer = replace(PEER, name="owner/code")
    old = [Row("formulas", "c_in", "right"), Row("step", "loss", "right"), Row("model", "c_in", "right")]
    earlier = Audited(peer, "abc", old, ["formulas: slow", "step: a GPU"], {"torch": "1"})
    new = Audited(peer, "abc", [Row("step", "loss", "differs elsewhere")], ["model: none"], {"torch": "2"})
    found = joined(earlier, new, ("step", "model"))
    assert found.rows == [Row("formulas", "c_in", "right"), Row("step", "loss", "differs elsewhere")]
    assert found.not_run == ["formulas: slow", "model: none"]
    assert found.head == {"torch": "2"}
    assert joined(None, new, ("step",)) == new
    assert joined(earlier, Audited(peer, "abc"), ("step",)).head == {"torch": "1"}

"""The table of audited public code: docs/peers.md and docs/peers.json."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from tools.peers.audit import Audited
from tools.peers.book import Book, Peer
from tools.peers.verdict import DIFFERS, ORDER, RIGHT, Row, Verdict

SCHEMA = 1
"""Number of the format of docs/peers.json."""
INTRODUCTION = """# Public code, audited

These tables are written by a command; nothing in them is typed by hand:

```sh
python3 -m nox -s peers -- --checkouts DIR
```

DIR has a checkout of each code, in a folder named OWNER+NAME:

```sh
git clone https://github.com/OWNER/NAME DIR/OWNER+NAME
git -C DIR/OWNER+NAME checkout COMMIT
```

None of their code is in this repository.
An [adapter](../tools/peers/adapters) of a few lines imports a code from its checkout, or cuts lines out of it.
[peers.toml](../tools/peers/peers.toml) lists the commits, the claims and the settings.
[peers.json](peers.json) has the same tables for programs.
The commands execute the codes with your rights, so read a code before you run it.

## Rules of fairness

1. A code is checked only for what its authors claim. A code that claims CT is not compared with iCT.
2. It runs at its authors' defaults and in its own dtype. A value that is right to float32 is right.
   The random examples of laws decide only about codes in float64.
3. Right functions come first, and count as much as others.
4. A deviation is called "differs from the paper", never an error: authors may have their reasons.
5. Where the paper is silent or ambiguous there is no verdict, but a reading.
6. Settings other than the paper's are a verdict of their own, "differs elsewhere".
7. Nobody but ict_ref promises to reject arguments outside the domain, so rejections do not count.
8. The same command checks ict_ref, which has the first row.
9. A newer commit without a deviation replaces the row.

**The authors have not been asked yet.** No issue has been filed at any of these repositories.
Until the authors had a fortnight to answer, "differs" is the result of a program, and it may be wrong.
Corrections are welcome.
"""
MEANINGS: dict[Verdict, str] = {
    "right": "every value and every law, up to the last bit of float64",
    "right to float32": "every value, to the precision of float32",
    "authors' variant": "the form of the paper's own code, such as N - 1 in place of N",
    "observed": "a fact about the code without a formula to compare",
    "reading": "a form that the paper does not exclude",
    "differs elsewhere": "right at the paper's settings, another value at others",
    "differs at the paper's settings": "another value at the paper's settings",
    "not claimed": "another form, which the authors do not claim to be the paper's",
    "not there": "claimed, and there is no such function to call",
    "not checked": "no check could be made",
}


def as_json(found: Sequence[Audited], book: Book) -> str:
    """Return the tables for programs."""
    peers = [
        {
            **{key: value for key, value in asdict(one.peer).items() if key not in ("lines", "repository")},
            "commit": one.commit,
            "audited": one.head,
            "not_run": one.not_run,
            "rows": [{**asdict(row), "where": one.peer.lines.get(_line_of(row), "")} for row in one.rows],
        }
        for one in found
    ]
    head = {"schema": SCHEMA, "readings": dict(book.readings)}
    return json.dumps({**head, "peers": peers}, indent=1, ensure_ascii=False) + "\n"


def from_json(text: str, peer: Peer) -> Audited | None:
    """Return what an earlier report has about a code, if it has the same commit; None if it has nothing."""
    for stored in json.loads(text)["peers"]:
        if stored["name"] == peer.name and stored["commit"].startswith(peer.commit):
            made = [Row(**{key: value for key, value in row.items() if key != "where"}) for row in stored["rows"]]
            return Audited(peer, stored["commit"], made, stored["not_run"], stored["audited"])
    return None


def as_markdown(found: Sequence[Audited], book: Book) -> str:
    """Return the page."""
    parts = [INTRODUCTION, "## Verdicts\n", *_meanings(book), "## Summary\n", _summary(found), "## Each code\n"]
    parts += [_section(one, book) for one in found]
    return "\n".join(parts).rstrip("\n") + "\n"


def _meanings(book: Book) -> list[str]:
    readings = [f"| {name} | {_cell(text)} |" for name, text in book.readings.items()]
    return [
        _table(("verdict", "meaning"), [(name, MEANINGS[name]) for name in ORDER]),
        "Readings, which have no verdict:\n",
        "\n".join(["| deviation | reading |", "|---|---|", *readings, ""]),
    ]


def _summary(found: Iterable[Audited]) -> str:
    titles = ("code", "claims", "right", "reading", "differs from the paper", "f(x, sigma)", "training step")
    return _table(titles, [_summary_of(one) for one in found])


def _summary_of(one: Audited) -> tuple[str, ...]:
    formulas = [row for row in one.rows if row.group == "formulas"]
    return (
        f"[{one.peer.name}](#{_anchor(one.peer)})",
        one.peer.claim,
        _names(formulas, RIGHT),
        _names(formulas, ("reading",)),
        _names(formulas, DIFFERS),
        _properties([row for row in one.rows if row.group == "model"], one.peer.model is not None),
        _properties([row for row in one.rows if row.group == "step"], one.peer.step is not None),
    )


def _properties(rows: Sequence[Row], claimed: bool) -> str:
    """Return how many properties of a step or of a model are right, and which differ."""
    if not rows:
        return "not checked" if claimed else "-"
    compared = [row for row in rows if row.verdict in (*RIGHT, "reading", *DIFFERS)]
    differing = [row.item for row in compared if row.verdict in DIFFERS]
    text = f"{sum(row.verdict in RIGHT for row in compared)} of {len(compared)} right"
    return f"{text}; differs: {', '.join(f'`{name}`' for name in differing)}" if differing else text


def _names(rows: Iterable[Row], verdicts: Sequence[Verdict]) -> str:
    return ", ".join(f"`{row.item}`" for row in rows if row.verdict in verdicts) or "-"


def _anchor(peer: Peer) -> str:
    """Return the anchor of a code's heading."""
    return "".join(letter for letter in peer.name.lower() if letter.isalnum() or letter in "-_")


def _section(one: Audited, book: Book) -> str:
    peer = one.peer
    facts = [
        "- Commit: this checkout" if peer.is_ours else f"- Commit: [{one.commit[:7]}]({peer.address()}) of {peer.date}",
        f"- Licence: {peer.licence}",
        f"- Claim: {peer.claim} ({peer.says})",
        f"- Settings: {peer.settings or 'the defaults'}; dtype {peer.dtype}",
    ]
    if one.head:
        head = {**one.head, "vectors_sha256": str(one.head["vectors_sha256"])[:8]}
        versions = "ict_ref {ict_ref}, vectors {vectors} (sha256 {vectors_sha256}), torch {torch}".format_map(head)
        facts.append(f"- Audited: {head['date']} by {versions}")
    facts += [f"- Not run: {_cell(line)}" for line in one.not_run]
    rows = sorted(one.rows, key=lambda row: (row.group, ORDER.index(row.verdict)))
    titles = ("item", "verdict", "checks", "remark", "where")
    table = _table(titles, [_row(row, peer, book) for row in rows]) if rows else ""
    return "\n".join([f"### {peer.name}\n", *facts, "", table])


def _row(row: Row, peer: Peer, book: Book) -> tuple[str, ...]:
    item = f"`{row.item}`" if row.group == "formulas" else f"{row.group}: {row.item}"
    count = f"{row.differing} of {row.checks} differ" if row.verdict in DIFFERS else str(row.checks)
    remark = row.remark + (f". E.g. {row.example}" if row.example and row.example not in row.remark else "")
    where = peer.lines.get(_line_of(row), "")
    link = f"[{where.rpartition('/')[2]}]({peer.address(_line_of(row))})" if where else ""
    return item, row.verdict, count, _cell(remark), link


def _line_of(row: Row) -> str:
    """Return the name of the lines that a row is about."""
    return row.item if row.group == "formulas" else row.group


def _cell(text: str) -> str:
    """Return text for a cell of a table."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_").split())


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)

"""Write docs/peers.md and docs/peers.json: `python -m tools.peers --checkouts DIR [--only NAME ...]`."""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

from tools.peers.audit import ROOT, SECONDS, Audited, audited
from tools.peers.book import BOOK, Peer, load
from tools.peers.page import as_json, as_markdown


def main(arguments: Sequence[str] | None = None) -> int:
    """Audit every code and write the page; return 0. Verdicts about others do not change the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.peers", description=__doc__)
    parser.add_argument("--checkouts", type=Path, required=True, metavar="DIR", help="folder of the checkouts")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="names in peers.toml, such as sony/vct")
    parser.add_argument("--book", type=Path, default=BOOK, help="another peers.toml")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of peers.md and peers.json")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="time limit of each command")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="number of codes to audit at once")
    options = parser.parse_args(arguments)
    book = load(options.book)
    chosen = [peer for peer in book.peers if not options.only or peer.name in options.only]

    def audit(peer: Peer) -> Audited:
        print(peer.name, file=sys.stderr, flush=True)
        return audited(peer, book, options.checkouts.resolve(), options.seconds)

    # Each audit is a process, for which a thread waits.
    with ThreadPoolExecutor(options.jobs) as pool:
        found = list(pool.map(audit, chosen))
    today = date.today().isoformat()
    for name, text in (("peers.md", as_markdown(found, book, today)), ("peers.json", as_json(found, book, today))):
        (options.out / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Write docs/peers.md and docs/peers.json: `python -m tools.peers --checkouts DIR [--only NAME ...]`."""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.peers.audit import GROUPS, ROOT, SECONDS, Audited, audited, joined
from tools.peers.book import BOOK, Peer, load
from tools.peers.page import as_json, as_markdown, from_json


def main(arguments: Sequence[str] | None = None) -> int:
    """Audit every code and write the page; return 0. Verdicts about others do not change the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.peers", description=__doc__)
    parser.add_argument("--checkouts", type=Path, required=True, metavar="DIR", help="folder of the checkouts")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="audit these, such as sony/vct; keep others"
    )
    parser.add_argument(
        "--groups", nargs="+", default=GROUPS, choices=GROUPS, help="make the rows of these groups; keep others"
    )
    parser.add_argument("--book", type=Path, default=BOOK, help="another peers.toml")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of peers.md and peers.json")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="time limit of each command")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="number of codes to audit at once")
    options = parser.parse_args(arguments)
    book = load(options.book)
    stored = options.out / "peers.json"
    is_partial = options.only or set(options.groups) != set(GROUPS)
    earlier = stored.read_text(encoding="utf-8") if is_partial and stored.is_file() else '{"peers": []}'

    def audit(peer: Peer) -> Audited | None:
        if options.only and peer.name not in options.only:
            return from_json(earlier, peer)
        print(peer.name, file=sys.stderr, flush=True)
        found = audited(peer, book, options.checkouts.resolve(), options.seconds, options.groups)
        return joined(from_json(earlier, peer), found, options.groups)

    # Each audit is a process, for which a thread waits.
    with ThreadPoolExecutor(options.jobs) as pool:
        found = [one for one in pool.map(audit, book.peers) if one is not None]
    for name, text in (("peers.md", as_markdown(found, book)), ("peers.json", as_json(found, book))):
        (options.out / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

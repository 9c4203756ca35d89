"""The public codes that are audited: `peers.toml`, with what each one claims."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ict_ref.utils.command_line import expect
from ict_ref.utils.json_file import as_fields
from ict_ref.verify.vectors.load import functions

HERE = Path(__file__).parent
BOOK = HERE / "peers.toml"
ADAPTERS = HERE / "adapters"
OURS = "."
"""The repository of our own entry."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A public code at a commit, and what its authors claim; peers.toml documents the fields."""

    name: str
    commit: str
    date: str
    licence: str
    claim: str
    says: str
    adapter: str
    functions: tuple[str, ...]
    dtype: str
    repository: str = ""
    folder: str = ""
    settings: str = ""
    step: tuple[str, ...] | None = None
    step_from: str = ""
    model: tuple[str, ...] | None = None
    unclaimed: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    lines: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = [name for name in self.functions if name not in functions()]
        expect(not unknown, f"{self.name}: functions", "names of ict_ref.formulas", ", ".join(unknown))
        stray = [name for name in self.lines if name not in (*self.functions, "step", "model")]
        expect(not stray, f"{self.name}: lines", "functions that are claimed", ", ".join(stray))
        expect(self.dtype in ("float64", "float32"), f"{self.name}: dtype", "float64 or float32", self.dtype)

    @property
    def is_ours(self) -> bool:
        """Whether this is this repository."""
        return self.repository == OURS

    @property
    def target(self) -> str:
        """The target of `python -m ict_ref.verify`: a module, or the path of an adapter."""
        return str(ADAPTERS / self.adapter) if self.adapter.endswith(".py") else self.adapter

    def address(self, item: str = "") -> str:
        """Return the address of the code at its commit, or of the lines of a function."""
        path, _, line = self.lines.get(item, "").partition(":")
        where = f"/blob/{self.commit}/{path}#L{line}" if path else f"/tree/{self.commit}"
        return f"https://github.com/{self.name}{where}"


@dataclass(frozen=True)
class Book:
    """All public codes, and the deviations on which the paper is silent with what they are."""

    peers: Sequence[Peer]
    readings: Mapping[str, str]


def load(path: Path = BOOK) -> Book:
    """Return the book in a TOML file.

    Raises:
        ValueError: An entry lacks a field, or has one that does not exist or is of another type.
        OSError: The file cannot be read.
    """
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    return Book([_peer(entry) for entry in content.get("peer", [])], content.get("readings", {}))


def _peer(entry: dict[str, object]) -> Peer:
    name = str(entry.get("name", "a peer without a name"))
    try:
        return Peer(**as_fields(Peer, entry, lambda key: f"{name}: {key}"))
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from error

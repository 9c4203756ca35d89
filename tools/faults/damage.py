"""Damage every file that a command reads, and compare what the command does then with what it did before.

A point is right if the command refuses the file by one line and status 2, or if its results have the same bytes: the
damage was repaired or has no effect. Files that users write by hand may also be read as what they say now.
"""

import contextlib
import hashlib
import json
import os
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.faults.calls import of_ended
from tools.faults.library import fault
from tools.faults.results import Point
from tools.faults.scenarios import BATCHES, DATA, NET, SIZE, Inputs, Scenario, named
from tools.faults.server import HANG_S, Ended, Server
from tools.faults.session import Found
from tools.faults.trees import Tree, difference, overwritten, tree, write_tree

PART = "damage"
"""Name of this part of the session."""
FLIPS, CUTS, FIELDS = 24, 4, 60
"""Number of bit flips, cuts and wrong values of JSON for each file."""
HEAD = 4
"""Number of first bytes that are made wrong one by one."""
SPECIAL = ("empty", "garbage", "zeros", "folder", "FIFO", "/dev/zero", "dangling link", "loop of links", "text")
KEEPS_LINES = ("bit flip", "wrong head", "wrong value")
VALUES = (
    "null", "true", '""', '"x"', "[]", "{}", "-1", "0", "0.5", "1e400", "-1e400", "NaN", str(2**63), str(2**64),
    "1" + "0" * 5000, '"\\u001b[31m\\n"', "[" * 5000 + "]" * 5000, '"' + "a" * 100_000 + '"', "[[[1]]]", "1e999999999",
)  # fmt: skip
"""Values, in JSON, that replace one value of a file."""


@dataclass(frozen=True)
class Case:
    """A file, and the command that reads it."""

    file: str
    scenario: Scenario
    stopped: str = ""
    """Pattern of a call, as OPERATION PATH: the command is killed there, and the file damaged before it resumes."""
    earlier: int = 0
    """Number of such calls before that one."""
    is_log: bool = False
    """Whether the file is a log without checksums: a changed value in it stays, but lost lines must be named."""
    by_hand: bool = False
    """Whether users write such files, so that another valid content is another wish."""

    @property
    def name(self) -> str:
        """Return the name of the case."""
        return f"{self.file} of {self.scenario.name}"


def _reading(
    name: str, command: str, *arguments: str, inputs: tuple[str, ...], statuses: tuple[int, ...] = (0,)
) -> Scenario:
    return Scenario(name, f"ict_ref.{command}", arguments, inputs=inputs, statuses=statuses)


SAMPLE = named("sample to .npz")
MANY = Scenario(
    "sample, many", "ict_ref.sample", (NET, "--count", "2050", "--device", "cpu", "--out", "o.npz"), inputs=(NET,)
)
EXPORT = named("export_checkpoint")
LAUNCH = named("launch, scored")
EVALUATE = _reading(
    "evaluate", "evaluate", "s.npz", "--reference", "images", "--json", "j.json", inputs=("s.npz", "images")
)
OF_STATISTICS = _reading(
    "evaluate, statistics", "evaluate", "images", "--reference", "stats.npz", "--k", "1", "--json", "j.json",
    inputs=("images", "stats.npz"),
)  # fmt: skip
SCRIPT = _reading(
    "evaluate, features", "evaluate", "few", "--reference", "images", "--features", "features.pt", "--k", "1", "--json",
    "j.json", inputs=("few", "images", "features.pt"),
)  # fmt: skip
PROGRAM = _reading(
    "evaluate, torch.export", "evaluate", "few", "--reference", "images", "--features", "features.pt2", "--k", "1",
    "--json", "j.json", inputs=("few", "images", "features.pt2"),
)  # fmt: skip
POST_HOC = _reading(
    "export_checkpoint --ema-sigma", "export_checkpoint", "profiled", "--ema-sigma", "0.08", "--out", "e.safetensors",
    inputs=("profiled",),
)  # fmt: skip
INIT = _reading("launch --train.init", "launch", *SIZE, *DATA, "--train.init", NET, "--out", "run",
                inputs=("data", NET))  # fmt: skip
BATCH = named("prepare, batches")
PIPELINE = named("import_checkpoint, diffusers")
CHECK = _reading("prepare --check", "prepare", "--check", "data", inputs=("data",))
PROFILE = _reading(
    "launch --profile",
    "launch",
    "--config",
    "minimal",
    "--profile",
    "profile.toml",
    "--dry-run",
    inputs=("profile.toml",),
)
TRACE = _reading(
    "verify trace", "verify", "trace", "trace.json", "--json", "v.json", inputs=("trace.json",), statuses=(0, 1)
)
WAIVERS = _reading(
    "verify --waivers", "verify", "ict_ref.formulas", "--only", "c_in", "--waivers", "waivers.toml",
    inputs=("waivers.toml",), statuses=(0, 1),
)  # fmt: skip
MASK = _reading(
    "edit --mask", "edit", NET, "few", "--task", "inpaint", "--labels", "1", "--sigmas", "5", "1", "--mask",
    "few/000.png", "--out", "edited", inputs=(NET, "few"),
)  # fmt: skip
CASES = (
    Case("run/config.json", EXPORT),
    Case("run/checkpoint-00000004.safetensors", EXPORT),
    Case(NET, SAMPLE),
    Case("data/data.json", CHECK),
    Case("data/labels.npy", CHECK),
    Case("data/images.npy", CHECK),
    Case("data/data.json", LAUNCH),
    Case("data/labels.npy", LAUNCH),
    Case("data/images.npy", LAUNCH),
    Case("images/c0/000.png", named("prepare"), by_hand=True),
    Case("made/journal.partial", named("prepare"), stopped="data.json"),
    Case("made/images.npy", named("prepare"), stopped="data.json"),
    Case("run/metrics.jsonl", named("launch"), stopped="checkpoint-00000003", is_log=True),
    Case("run/config.json", named("launch"), stopped="checkpoint-00000003"),
    Case("run/checkpoint-00000002.safetensors", named("launch"), stopped="checkpoint-00000003"),
    Case("run/scores.json", LAUNCH, stopped="scores.json"),
    Case("o.npz.parts/about.json", MANY, stopped="batch-000002"),
    Case("o.npz.parts/batch-000000.npy", MANY, stopped="batch-000002"),
    Case("s.npz", EVALUATE),
    Case("stats.npz", OF_STATISTICS),
    Case("features.pt", SCRIPT),
    Case("features.pt2", PROGRAM),
    Case("profiled/checkpoint-00000002.safetensors", POST_HOC),
    Case("profiled/config.json", POST_HOC),
    Case(NET, INIT),
    Case(f"{BATCHES}/train_data_batch_1.npz", BATCH),
    Case("data/images.npy", named("edit, prepared data")),
    Case("for-diffusers/model_index.json", PIPELINE, by_hand=True),
    Case("profile.toml", PROFILE, by_hand=True),
    Case("trace.json", TRACE, by_hand=True),
    Case("waivers.toml", WAIVERS, by_hand=True),
    Case("few/000.png", MASK, by_hand=True),
    Case("published.pt", named("import_checkpoint")),
    Case("run/curve.json", named("evaluate, every checkpoint"), stopped=r"rename .*curve\.json$", earlier=1),
    Case("found/scores.csv", named("search"), stopped=r"rename .*scores\.csv$", earlier=1),
)


@dataclass
class Damage:
    """The part of the session that damages files."""

    server: Server
    inputs: Inputs
    folder: Path
    seed: str = ""
    files: tuple[Case, ...] = CASES
    references: dict[str, tuple[Tree, Tree, float]] = field(default_factory=dict)

    def cases(self) -> list[str]:
        """Return the names of the cases."""
        return [case.name for case in self.files]

    def points(self, case: str) -> Iterator[Point]:
        """Yield the points of a file; positions depend on the seed."""
        one = self._named(case)
        content = self.reference(one)[0].get(one.file, b"")
        choose = random.Random(f"{self.seed}{case}")  # noqa: S311 (positions)
        for _ in range(FLIPS if content else 0):
            yield Point(PART, case, "bit flip", f"byte {choose.randrange(len(content))} bit {choose.randrange(8)}")
        for number in range(min(HEAD, len(content))):
            yield Point(PART, case, "wrong head", f"byte {number}")
        for _ in range(CUTS if content else 0):
            yield Point(PART, case, "cut", f"after byte {choose.randrange(len(content))}")
        for special in SPECIAL:
            yield Point(PART, case, special, "all")
        if one.file.endswith((".json", ".jsonl", ".partial")):
            leaves = list(_leaves(_json(content)))
            for _ in range(FIELDS if leaves else 0):
                yield Point(PART, case, "wrong value", f"{choose.choice(leaves)} = {choose.randrange(len(VALUES))}")

    def reference(self, case: Case) -> tuple[Tree, Tree, float]:
        """Return the folder before the command reads the file, the folder after it, and its time in seconds.

        Raises:
            RuntimeError: The command fails with whole files.
        """
        if case.name not in self.references:
            scenario = case.scenario
            before = self.inputs.of(scenario)
            if case.stopped:
                before = self._stopped(case, before)
            write_tree(self.folder, before)
            ended = self._run(scenario, 120)
            if ended.status not in scenario.statuses:
                raise RuntimeError(f"{case.name} ended with {ended.status} without damage: {ended.err}")
            self.references[case.name] = (before, tree(self.folder), ended.seconds)
        return self.references[case.name]

    def _stopped(self, case: Case, before: Tree) -> Tree:
        """Return the folder in which the command was killed at the call that the case names."""
        scenario = case.scenario
        write_tree(self.folder, before)
        calls = self._run(scenario, 120).log.calls
        pattern = re.compile(case.stopped)
        numbers = [one.number for one in calls if pattern.search(f"{one.operation} {one.path} {one.second}")]
        if len(numbers) <= case.earlier:
            raise RuntimeError(f"{case.name}: expected a call such as {case.stopped}, got {len(numbers)}")
        write_tree(self.folder, before)
        chosen = fault("kill -9", numbers[case.earlier])
        self.server.run(scenario.command, scenario.arguments, self.folder, chosen=chosen, seconds=120)
        return tree(self.folder)

    def check(self, point: Point) -> Found:
        """Return the findings of a point."""
        case = self._named(point.case)
        before, expected, seconds = self.reference(case)
        write_tree(self.folder, before)
        apply(self.folder / case.file, point)
        given = of_user(tree(self.folder), self.inputs.of(case.scenario))
        damaged = tree(self.folder).get(case.file, b"")
        ended = self._run(case.scenario, HANG_S + 5 * seconds)
        after = with_checksum_of(before.get(case.file, b""), damaged, tree(self.folder))
        found: Found = [("overwritten", name) for name in overwritten(given, after)]
        if ended.hung or ended.status not in case.scenario.statuses:
            return found + of_ended(ended)
        if ended.traceback:
            found.append(("traceback", ended.last_line))
        if case.is_log and point.kind in KEEPS_LINES:
            expected = {name: content for name, content in expected.items() if name != case.file}
        return found + ([] if case.by_hand else _of_results(ended, case, after, expected))

    def _named(self, name: str) -> Case:
        return next(one for one in self.files if one.name == name)

    def _run(self, scenario: Scenario, seconds: float) -> Ended:
        return self.server.run(scenario.command, scenario.arguments, self.folder, seconds=seconds)


def of_user(found: Tree, inputs: Tree) -> Tree:
    """Return the part of a folder that was there before the first command: neither its locks, journals nor results."""
    names = {name.rstrip("/") for name in inputs}  # the damage may have put a folder in the place of a file
    return {name: content for name, content in found.items() if name.rstrip("/") in names}


def with_checksum_of(whole: bytes, damaged: bytes, found: Tree) -> Tree:
    """Return a tree whose files of JSON name the whole file by its SHA-256 instead of the damaged one.

    A result with the SHA-256 of what it was made with is right if a changed bit has no other effect, as in the date of
    a member of an archive.
    """
    ours, theirs = (hashlib.sha256(content).hexdigest().encode() for content in (damaged, whole))
    return {name: data.replace(ours, theirs) if name.endswith(".json") else data for name, data in found.items()}


def _of_results(ended: Ended, case: Case, after: Tree, expected: Tree) -> Found:
    """Return a finding if an accepted file changed the results in silence; it may be named, or set aside."""
    results = {name: content for name, content in expected.items() if name != case.file or case.stopped}
    differs = difference({name: after[name] for name in after if name in results}, results)
    if Path(case.file).name in ended.err:
        return []  # a line names the damaged file
    return [("lost", f"status {ended.status}, but {differs} ({ended.last_line})")] if differs else []


def apply(path: Path, point: Point) -> None:
    """Damage a file as the point says."""
    content = path.read_bytes() if path.is_file() else b""
    numbers = [int(word) for word in point.place.split() if word.isdecimal()]
    match point.kind:
        case "bit flip":
            byte, bit = numbers
            path.write_bytes(content[:byte] + bytes([content[byte] ^ 1 << bit]) + content[byte + 1 :])
        case "wrong head":
            path.write_bytes(content[: numbers[0]] + bytes([content[numbers[0]] ^ 0xFF]) + content[numbers[0] + 1 :])
        case "cut":
            path.write_bytes(content[: numbers[0]])
        case "wrong value":
            place, _, number = point.place.rpartition(" = ")
            path.write_bytes(_with_value(content, place, VALUES[int(number)], lines=path.suffix == ".jsonl"))
        case _:
            _make_special(path, point.kind, len(content))


def _make_special(path: Path, kind: str, size: int) -> None:
    """Put something else in the place of a file."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    made: dict[str, Callable[[], object]] = {
        "empty": lambda: path.write_bytes(b""),
        "garbage": lambda: path.write_bytes(random.Random(0).randbytes(1000)),  # noqa: S311
        "zeros": lambda: path.write_bytes(bytes(size)),
        "text": lambda: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
        "folder": path.mkdir,
        "FIFO": lambda: os.mkfifo(path),
        "/dev/zero": lambda: path.symlink_to("/dev/zero"),
        "dangling link": lambda: path.symlink_to("nowhere"),
        "loop of links": lambda: path.symlink_to(path.name),
    }
    made[kind]()


def _json(content: bytes) -> Any:
    try:
        return json.loads(content.splitlines()[0] if content.count(b"\n{") else content)
    except (ValueError, IndexError):
        return None


def _leaves(value: Any, place: str = "") -> Iterator[str]:
    """Yield the place of each value of JSON, such as /config/train/steps."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield f"{place}/{key}"
            yield from _leaves(one, f"{place}/{key}")
    elif isinstance(value, list):
        for number, one in enumerate(value[:3]):
            yield f"{place}/{number}"
            yield from _leaves(one, f"{place}/{number}")


def _with_value(content: bytes, place: str, value: str, *, lines: bool) -> bytes:
    """Return JSON with another value at a place; of several lines, in the first."""
    first, rest = content.split(b"\n", 1) if lines else (content, b"")
    book = json.loads(first)
    inner, words = book, place.split("/")[1:]
    for word in words[:-1]:
        inner = inner[int(word)] if isinstance(inner, list) else inner[word]
    mark = "3f1c the place of the value"
    if isinstance(inner, list):
        inner[int(words[-1])] = mark
    else:
        inner[words[-1]] = mark
    changed = json.dumps(book, indent=None if lines else 2).replace(f'"{mark}"', value).encode()
    return changed + b"\n" + rest if lines else changed

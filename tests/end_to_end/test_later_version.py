"""A later version, whose dataclasses have one more field, and some of whose defaults differ, uses today's files.

The later version is a copy of the package. It runs in processes of its own, on a run of this version and on the files
of version 0.1.0.
"""

import ast
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.runs import short_run

import ict_ref
from ict_ref.checkpoint.run_dir import read_run
from ict_ref.config import Config
from ict_ref.sample.__main__ import main as sample

FIXTURES = Path(__file__).parents[1] / "fixtures"
OLD = FIXTURES / "version_0_1"
FIELD = "later_field: int = dataclasses.field(default=0, kw_only=True)"
CHANGED_DEFAULTS = {
    "config/schema.py": [
        ("ema_decay: tuple[float, ...] | float = 0.99997", "ema_decay: tuple[float, ...] | float = 0.9"),
    ],
    "config/network.py": [("dropout: float = 0.2", "dropout: float = 0.1")],
}  # fmt: skip


def with_one_more_field(text: str) -> str:
    """Return a module in which each dataclass has one more field, with a default."""
    lines = text.splitlines()
    classes = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(one) for one in node.decorator_list)
    ]
    for node in sorted(classes, key=lambda node: node.lineno, reverse=True):
        fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
        if fields:
            at = fields[-1].end_lineno or 0
            following = node.body[node.body.index(fields[-1]) + 1 :]
            if following and isinstance(following[0], ast.Expr):  # the field's docstring
                at = following[0].end_lineno or 0
            lines.insert(at, " " * fields[-1].col_offset + FIELD)
    if not classes:
        return text
    future = max((node.end_lineno or 0 for node in ast.parse(text).body[:1] if isinstance(node, ast.Expr)), default=0)
    lines.insert(future, "import dataclasses")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the later version of the package."""
    source, place = Path(ict_ref.__file__).parent, tmp_path_factory.mktemp("later")
    shutil.copytree(source, place / "ict_ref", ignore=shutil.ignore_patterns("__pycache__"))
    changed = 0
    for path in (place / "ict_ref").rglob("*.py"):
        before = path.read_text()
        after = with_one_more_field(before)
        for old, new in CHANGED_DEFAULTS.get(str(path.relative_to(place / "ict_ref")), []):
            assert old in after
            after = after.replace(old, new)
        path.write_text(after)
        changed += before != after
    assert changed > 40
    return place


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run of this version."""
    return short_run(tmp_path_factory.mktemp("today") / "run", "--record.milestone-every", "10")


def by(later: Path, folder: Path, *command: str) -> str:
    """Run a command of the later version in a folder and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(later), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_copy_is_another_version(later: Path, tmp_path: Path) -> None:
    code = "import dataclasses, ict_ref.config as c; print(len(dataclasses.fields(c.Config)), c.Train().ema_decay)"
    environment = {**os.environ, "PYTHONPATH": str(later)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == f"{len(dataclasses.fields(Config)) + 1} 0.9\n"


@pytest.mark.slow
def test_a_later_version_samples_scores_and_exports_a_run_of_today(later: Path, run: Path, tmp_path: Path) -> None:
    options = ["--count", "10", "--sigmas", "80", "0.8"]
    assert sample([str(run), *options, "--out", str(tmp_path / "today.npz")]) == 0
    by(later, tmp_path, "ict_ref.sample", str(run), *options, "--out", "later.npz")
    assert (tmp_path / "later.npz").read_bytes() == (tmp_path / "today.npz").read_bytes()
    by(later, tmp_path, "ict_ref.evaluate", "later.npz", "--reference", "digits:held-out", "--json", "scores.json")
    reference = ["--reference", "digits:held-out", "--count", "8"]
    by(later, tmp_path, "ict_ref.evaluate", str(run), *reference, "--every-milestone", "--json", "curve.json")
    assert [point["step"] for point in json.loads((tmp_path / "curve.json").read_text())["points"]] == [10, 20, 30]
    by(later, tmp_path, "ict_ref.export_checkpoint", str(run), "--step", "20", "--out", "network.safetensors")
    by(later, tmp_path, "ict_ref.sample", "network.safetensors", "--count", "4")


@pytest.mark.slow
def test_a_later_version_resumes_a_run_of_today(later: Path, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    for step in (20, 30):
        (tmp_path / "run" / f"checkpoint-{step:08d}.safetensors").unlink()
    command = ["ict_ref.launch", "--config", "minimal", "--train.steps", "30", "--out", "run"]
    assert "resumed after step 10 of 30" in by(later, tmp_path, *command)
    resumed, whole = (folder / "checkpoint-00000030.safetensors" for folder in (tmp_path / "run", run))
    assert tensors(resumed) == tensors(whole)
    assert read_run(run).identities[0] in (tmp_path / "run" / "config.json").read_text()


@pytest.mark.slow
def test_a_later_version_uses_files_of_version_0_1_0(later: Path, tmp_path: Path) -> None:
    shutil.copytree(OLD / "run", tmp_path / "run")
    by(later, tmp_path, "ict_ref.sample", "run", "--count", "4", "--out", "before.npz")
    out = by(later, tmp_path, "ict_ref.launch", "--config", "minimal", "--out", "run")
    assert "resumed after step 20 of 40" in out
    by(later, tmp_path, "ict_ref.sample", str(OLD / "network.safetensors"), "--count", "4")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["format_1", "format_2"])
def test_a_later_version_resumes_the_golden_run_of_each_format(later: Path, name: str, tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / name / "run", tmp_path / "run")
    by(later, tmp_path, "ict_ref.sample", "run", "--count", "4", "--out", "before.npz")
    assert "resumed after step 20 of 40" in by(later, tmp_path, "ict_ref.launch", "--config", "minimal", "--out", "run")


def tensors(path: Path) -> bytes:
    """Return the numbers of a safetensors file, without its description."""
    content = path.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]

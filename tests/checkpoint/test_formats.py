"""Format numbers: every stored file has one, and a file of a later format is rejected and stays as it is."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
from tests.support.datasets import prepared, random_images
from tests.support.files import contents
from tests.support.one_line import rejection
from tests.support.stored import read_stored

from ict_ref import export_checkpoint
from ict_ref.evaluate.__main__ import main as evaluate
from ict_ref.launch.__main__ import main as launch
from ict_ref.sample import make as making
from ict_ref.sample.__main__ import main as sample
from ict_ref.search.__main__ import main as search

LATER = {"format": 99, "ict_ref": "9.0.0", "written_by": "9.0.0"}
MESSAGE = "expected format {newest} or lower, got 99. Version 9.0.0 of ict_ref wrote it. Install that version."
FORMAT_1 = Path(__file__).parents[1] / "fixtures" / "format_1"
RESUMED = ["--config", "minimal", "--train.steps", "30", "--out"]


pytestmark = pytest.mark.usefixtures("copied_run")


def with_later_format(path: Path) -> None:
    """Give a file the number of a later format."""
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | LATER))
    elif path.suffix == ".npz":
        with np.load(path) as archive:
            arrays = dict(archive)
        arrays["ict_ref"] = np.array(json.dumps(json.loads(str(arrays["ict_ref"])) | LATER))
        np.savez(path, allow_pickle=False, **arrays)
    else:
        about, tensors = read_stored(path)
        path.write_bytes(safetensors.torch.save(tensors, {"ict_ref": json.dumps(about | LATER)}))


def stopped_sampling() -> None:
    """Leave the parts of a stopped command."""

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(making, "_make_missing", stopped)
        assert sample(["run", "--count", "4", "--out", "s.npz"]) == 130


def exported() -> None:
    assert export_checkpoint.main(["run", "--out", "n.safetensors"]) == 0


def statistics() -> None:
    assert evaluate(["--reference", "digits:held-out", "--save-stats", "s.npz"]) == 0


def scored() -> None:
    assert evaluate(["run", "--reference", "digits:held-out", "--count", "9", "--every-milestone"]) == 0


def searched() -> None:
    assert search(["run", "--reference", "digits:held-out", "--count", "9", "--nodes", "3", "--out", "found"]) == 0


def nothing() -> None:
    pass


Main = Callable[[list[str]], int]
CASES: dict[str, tuple[Callable[[], None], str, Main, list[str], int]] = {
    "config.json, resumed": (nothing, "run/config.json", launch, [*RESUMED, "run"], 2),
    "config.json, sampled": (nothing, "run/config.json", sample, ["run"], 2),
    "checkpoint, resumed": (nothing, "run/checkpoint-00000030.safetensors", launch, [*RESUMED, "run"], 2),
    "checkpoint, sampled": (nothing, "run/checkpoint-00000030.safetensors", sample, ["run"], 2),
    "checkpoint, by its step": (nothing, "run/checkpoint-00000030.safetensors", sample, ["run", "--step", "30"], 2),
    "network": (exported, "n.safetensors", sample, ["n.safetensors"], 2),
    "scores of a run, resumed": (nothing, "run/scores.json", launch, [*RESUMED, "run"], 2),
    "statistics": (statistics, "s.npz", evaluate, ["run", "--reference", "s.npz", "--count", "9"], 2),
    "curve": (
        scored, "run/curve.json", evaluate,
        ["run", "--reference", "digits:held-out", "--count", "9", "--every-milestone"], 2,
    ),
    "search": (
        searched, "found/search.json", search,
        ["run", "--reference", "digits:held-out", "--count", "9", "--nodes", "3", "--out", "found"], 2,
    ),
    "parts of samples": (
        stopped_sampling, "s.npz.parts/about.json", sample, ["run", "--count", "4", "--out", "s.npz"], 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_file_of_a_later_format_is_rejected_as_such_and_stays(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    make, file, main, command, newest = CASES[case]
    make()
    with_later_format(Path(file))
    before = contents(Path())
    capsys.readouterr()
    assert main(command) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].endswith(f"{file}: {MESSAGE.format(newest=newest)}")
    changed = {name for name, content in contents(Path()).items() if before.get(name) != content}
    assert changed <= {name for name in changed if "lock" in name}


def test_the_later_format_of_prepared_data_is_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = prepared(tmp_path / "data", random_images(4, 1, 8, 8))
    with_later_format(folder / "data.json")
    capsys.readouterr()
    assert evaluate(["run", "--reference", str(folder), "--count", "9"]) == 2
    assert MESSAGE.format(newest=1) in rejection(capsys, "ict_ref.evaluate")


@pytest.mark.parametrize("number", [0, -1, "2", None, 1.5, True])
def test_what_is_not_a_format_number_is_rejected(number: object, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(Path("run/config.json").read_text())
    Path("run/config.json").write_text(json.dumps(content | {"format": number}))
    assert sample(["run"]) == 2
    assert "config.json" in rejection(capsys, "ict_ref.sample")


def test_every_file_has_its_format_number() -> None:
    exported()
    assert sample(["run", "--count", "4", "--out", "s.npz"]) == 0
    assert evaluate(["s.npz", "--reference", "digits:held-out", "--json", "scores.json", "--save-stats", "t.npz"]) == 0
    scored()
    searched()
    files = ("run/config.json", "run/scores.json", "run/curve.json", "s.npz.json", "scores.json", "found/search.json")
    assert {file: json.loads(Path(file).read_text())["format"] for file in files} == dict.fromkeys(files, 2)
    for file in ("run/checkpoint-00000030.safetensors", "n.safetensors"):
        assert read_stored(file)[0]["format"] == 2
    with np.load("t.npz") as archive:
        assert json.loads(str(archive["ict_ref"]))["format"] == 2


DTYPES = {"F32": "torch.float32", "F64": "torch.float64", "BF16": "torch.bfloat16", "I64": "torch.int64"}


@pytest.mark.parametrize("file", ["run/checkpoint-00000030.safetensors", "n.safetensors"])
def test_the_checksum_is_the_one_that_the_documentation_describes(file: str) -> None:
    """docs/file_formats.md, by its words alone: a header's length, JSON, and SHA-256 over texts and bytes."""
    exported()
    content = Path(file).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    described = json.loads(header.pop("__metadata__")["ict_ref"])
    assert list(described)[-1] == "sha256"
    expected = described.pop("sha256")
    digest = hashlib.sha256(json.dumps(described).encode())
    for name in sorted(header):
        start, end = header[name]["data_offsets"]
        digest.update(f"{name} {DTYPES[header[name]['dtype']]} {tuple(header[name]['shape'])}".encode())
        digest.update(content[8 + length + start : 8 + length + end])
    assert digest.hexdigest() == expected


def test_the_entries_of_the_documentation_are_those_of_the_files() -> None:
    exported()
    entries = {}
    for file in ("run/checkpoint-00000030.safetensors", "n.safetensors"):
        entries[file] = list(read_stored(file)[0])
    assert entries == {
        "run/checkpoint-00000030.safetensors": [
            "format", "ict_ref", "config", "step", "skipped", "milestone", "options", "images", "sha256",
        ],
        "n.safetensors": [
            "format", "ict_ref", "network", "channels", "size", "classes", "sigma_min", "sigma_data", "sigma_max",
            "rho", "s1", "clip", "class_names", "source", "sha256",
        ],
    }  # fmt: skip
    content = json.loads(Path("run/config.json").read_text())
    assert list(content) == [
        "format",
        "written_by",
        "ict_ref",
        "identities",
        "config",
        "files",
        "images",
        "environment",
    ]
    assert list(content["images"]) == ["channels", "size", "classes", "class_names", "source"]


def test_statistics_and_a_search_of_format_1_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(["run", "--reference", str(FORMAT_1 / "statistics.npz"), "--count", "9"]) == 0
    shutil.copytree(FORMAT_1 / "search", "found")
    capsys.readouterr()
    # Its model is another one, and is not mixed with it.
    command = ["run", "--reference", "digits:held-out", "--count", "50", "--nodes", "5", "--out", "found"]
    assert search(command) == 2
    assert "expected network_sha256" in rejection(capsys, "ict_ref.search")

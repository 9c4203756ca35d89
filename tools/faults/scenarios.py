"""The commands that the session runs, with their inputs; every result is small and has the same bytes each time."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

from tools.faults.library import FOLDER, ROOT
from tools.faults.results import checksum
from tools.faults.server import Server
from tools.faults.trees import Tree, tree, write_tree

NET, ADM, DIFFUSERS, BATCHES = "net.safetensors", "adm", "for-diffusers", "batches"
SIZE = ("--config", "minimal", "--train.steps", "4", "--record.save-every", "1", "--record.keep", "2")
CURRICULUM = ("--method.s1", "20")
"""A curriculum that fits into four steps."""
DATA = ("--data.name", "folder", "--data.path", "data", "--train.batch-size", "4", *CURRICULUM)
PROFILES = ("--train.ema-sigmas", "0.05", "0.1", "--record.ema-snapshots", "2")
NOTES = b"notes of the user, which no command may touch\n"

TEXTS = {
    "profile.toml": '[job]\npartition = "gpu"\nminutes = 60\nsetup = ["module load cuda"]\n\n[machine]\nthreads = 2\n',
    "waivers.toml": '[[waiver]]\nid = "c_in#1"\nreason = "ours divides by N - 1"\n',
}
"""Files that users write."""


@dataclass(frozen=True)
class Scenario:
    """A command with its inputs in an empty folder."""

    name: str
    command: str
    arguments: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    """Names of files and folders of `Inputs`."""
    beside: tuple[str, ...] = ()
    """Files of the user with names that a command might take for temporary ones."""
    statuses: tuple[int, ...] = (0,)
    """Exit statuses of a command that has done its work."""
    seconds: float = 60.0
    """Time limit of one run."""
    resumes: tuple[str, ...] = field(default=())
    """Arguments that are added to run the command again."""


SCENARIOS = (
    Scenario(
        "launch",
        "ict_ref.launch",
        (*SIZE, *DATA, "--record.milestone-every", "2", "--record.sample-every", "3", "--out", "run"),
        inputs=("data",),
        beside=("run.tmp", ".run.tmp"),
    ),
    Scenario(
        "launch, scored",
        "ict_ref.launch",
        (*SIZE[:3], "2", *SIZE[4:], *DATA, "--data.held-out", "held-out", "--out", "run"),
        inputs=("data", "held-out"),
    ),
    Scenario(
        "launch, EMA profiles",
        "ict_ref.launch",
        (*SIZE, *DATA, *PROFILES, "--out", "run"),
        inputs=("data",),
    ),
    Scenario(
        "prepare",
        "ict_ref.prepare",
        ("images", "--grey", "--workers", "1", "--out", "made"),
        inputs=("images",),
        beside=("made.tmp/thesis.txt", "made.partial"),
    ),
    Scenario(
        "prepare, batches",
        "ict_ref.prepare",
        (BATCHES, "--workers", "1", "--out", "made"),
        inputs=(BATCHES,),
    ),
    Scenario(
        "sample to .npz",
        "ict_ref.sample",
        (NET, "--count", "6", "--device", "cpu", "--out", "o.npz"),
        inputs=(NET,),
        beside=("o.npz.tmp", "o.npz.json.tmp", "o.tmp"),
    ),
    Scenario(
        "sample to a folder",
        "ict_ref.sample",
        (NET, "--count", "3", "--device", "cpu", "--out", "pics"),
        inputs=(NET,),
        beside=("pics.tmp/thesis.txt",),
    ),
    Scenario(
        "sample to .png",
        "ict_ref.sample",
        (NET, "--count", "6", "--device", "cpu", "--out", "grid.png"),
        inputs=(NET,),
        beside=("grid.png.tmp", "grid.tmp"),
    ),
    Scenario(
        "edit",
        "ict_ref.edit",
        (NET, "few", "--task", "inpaint", "--labels", "1", "--sigmas", "5", "1", "--out", "edited"),
        inputs=(NET, "few"),
        beside=("edited.tmp/thesis.txt",),
    ),
    Scenario(
        "edit, prepared data",
        "ict_ref.edit",
        (
            NET,
            "data",
            "--task",
            "superres",
            "--patch",
            "2",
            "--count",
            "2",
            "--labels",
            "1",
            "--sigmas",
            "5",
            "1",
            "--out",
            "edited",
        ),
        inputs=(NET, "data"),
    ),
    Scenario(
        "evaluate",
        "ict_ref.evaluate",
        ("images", "--reference", "few", "--k", "1", "--save-stats", "stats.npz", "--json", "scores.json"),
        inputs=("images", "few"),
        beside=("scores.json.tmp", "stats.npz.tmp", "stats.tmp"),
    ),
    Scenario(
        "evaluate, every checkpoint",
        "ict_ref.evaluate",
        ("run", "--reference", "images", "--every-milestone", "--count", "8", "--k", "1", "--device", "cpu"),
        inputs=("run", "images"),
        beside=("run/curve.json.tmp",),
    ),
    Scenario(
        "search",
        "ict_ref.search",
        (NET, "--reference", "images", "--count", "8", "--nodes", "7", "--device", "cpu", "--out", "found"),
        inputs=(NET, "images"),
        beside=("found.tmp/thesis.txt",),
    ),
    Scenario(
        "figures, a sheet",
        "ict_ref.figures",
        ("--run", NET, "--sheet", "2", "2", "--device", "cpu", "--out", "sheets"),
        inputs=(NET,),
        beside=("sheets.tmp/thesis.txt",),
    ),
    Scenario(
        "figures, a formula",
        "ict_ref.figures",
        ("--only", "3b", "--out", "drawn"),
        beside=("drawn/notes.txt",),
    ),
    Scenario(
        "export_checkpoint",
        "ict_ref.export_checkpoint",
        ("run", "--out", "exported.safetensors"),
        inputs=("run",),
        beside=("exported.safetensors.tmp",),
    ),
    Scenario(
        "export_checkpoint, diffusers",
        "ict_ref.export_checkpoint",
        ("run", "--format", "diffusers", "--out", "pipeline"),
        inputs=("run",),
        beside=("pipeline.tmp/thesis.txt",),
    ),
    Scenario(
        "export_checkpoint, openai",
        "ict_ref.export_checkpoint",
        (ADM, "--format", "openai", "--out", "exported.pt"),
        inputs=(ADM,),
        beside=("exported.pt.tmp", "exported.tmp"),
    ),
    Scenario(
        "import_checkpoint, diffusers",
        "ict_ref.import_checkpoint",
        (DIFFUSERS, "--out", "imported"),
        inputs=(DIFFUSERS,),
    ),
    Scenario(
        "import_checkpoint",
        "ict_ref.import_checkpoint",
        ("published.pt", "--size", "8", "--head-channels", "16", "--out", "imported"),
        inputs=("published.pt",),
        beside=("imported.tmp/thesis.txt",),
    ),
    Scenario(
        "verify, reports",
        "ict_ref.verify",
        ("ict_ref.formulas", "--only", "c_in", "--json", "v.json", "--junit", "v.xml", "--badge", "badge.json"),
        beside=("v.json.tmp", "v.xml.tmp"),
    ),
)


@dataclass(frozen=True)
class Inputs:
    """The inputs of all scenarios, made once by the commands themselves."""

    server: Server
    folder: Path = FOLDER / "inputs"

    def make(self) -> None:
        """Make all inputs anew, unless they are of the same code.

        Raises:
            RuntimeError: A command that makes inputs has failed.
        """
        digest, stamp = checksum(ROOT / "src", Path(__file__)), self.folder / "stamp"
        if stamp.is_file() and stamp.read_text() == digest:
            return
        write_tree(self.folder, {})
        self.server.call(lambda: write_images(self.folder))
        self.server.call(lambda: write_batches(self.folder / BATCHES))
        self.server.call(lambda: write_published(self.folder / "published.pt"))
        self._run("ict_ref.prepare", "images", "--grey", "--out", "data")
        self._run("ict_ref.prepare", "others", "--grey", "--out", "held-out")
        self._run("ict_ref.launch", *SIZE, *DATA, "--out", "run")
        self._run("ict_ref.export_checkpoint", "run", "--out", NET)
        self._run("ict_ref.launch", *SIZE, *DATA, *PROFILES, "--out", "profiled")
        self._run("ict_ref.export_checkpoint", "run", "--format", "diffusers", "--out", DIFFUSERS)
        self._run("ict_ref.launch", *SIZE, *DATA, "--network.width", "32", "--network.groups", "32", "--out", ADM)
        self._run("ict_ref.sample", NET, "--count", "12", "--out", "s.npz")
        self._run("ict_ref.evaluate", "images", "--reference", "few", "--k", "1", "--save-stats", "stats.npz")
        self.server.call(lambda: write_trace(self.folder / "trace.json"))
        self.server.call(lambda: write_features(self.folder / "features.pt"))
        for name, text in TEXTS.items():
            (self.folder / name).write_text(text)
        stamp.write_text(digest)

    def of(self, scenario: Scenario) -> Tree:
        """Return the folder of a scenario before its command."""
        found: Tree = {}
        for name in scenario.inputs:
            path = self.folder / name
            if path.is_dir():
                found[f"{name}/"] = b""
                found |= {f"{name}/{inner}": content for inner, content in tree(path).items()}
            else:
                found[name] = path.read_bytes()
        found |= dict.fromkeys(scenario.beside, NOTES)
        above = {f"{parent}/" for name in found for parent in Path(name).parents if str(parent) != "."}
        return dict.fromkeys(sorted(above), b"") | found

    def _run(self, command: str, *arguments: str) -> None:
        ended = self.server.run(command, arguments, self.folder, seconds=300)
        if ended.status != 0:
            raise RuntimeError(f"{command} {' '.join(arguments)} ended with {ended.status}: {ended.err}")


def write_images(folder: Path) -> None:
    """Write folders of grey images of 8 x 8 pixels: 24 in three classes, as many others, and three without classes."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for name, classes, each in (("images", 3, 8), ("others", 3, 8), ("few", 0, 3)):
        for number in range(max(classes, 1) * each):
            place = folder / name / (f"c{number // each}" if classes else "")
            place.mkdir(parents=True, exist_ok=True)
            waves = random.normal(size=(8, 8)).cumsum(0).cumsum(1)
            pixels = np.uint8(255 / (1 + np.exp(-waves / math.sqrt(8))))
            Image.fromarray(pixels).save(place / f"{number:03d}.png")


def write_batches(folder: Path) -> None:
    """Write two batches of images of 8 x 8 pixels in the format of the downsampled ImageNet."""
    import numpy as np

    random = np.random.default_rng(1)
    folder.mkdir()
    for number in (1, 2):
        pixels = random.integers(0, 256, (5, 3 * 8 * 8), np.uint8)
        np.savez(folder / f"train_data_batch_{number}.npz", data=pixels, labels=np.arange(1, 6) + number)


def write_published(path: Path) -> None:
    """Write a small network as openai publishes its own."""
    import torch
    from tests.support.published import state_of

    torch.save({name: tensor.float() for name, tensor in state_of("adm_small").items()}, path)


def write_trace(path: Path) -> None:
    """Write the right values of the training step of `ict_ref.verify trace`."""
    import torch

    from ict_ref.verify.checks import trace
    from ict_ref.verify.vectors.values import decoded

    values = {entry.name: torch.as_tensor(decoded(entry.vector.value)).tolist() for entry in trace.entries()}
    path.write_text(json.dumps(values))


def write_features(path: Path) -> None:
    """Write a feature extractor as TorchScript, and beside it as a program of torch.export."""
    import torch
    from tests.support.extractors import OfFloats

    torch.jit.script(OfFloats()).save(str(path))  # type: ignore[no-untyped-call]
    count = {0: torch.export.Dim("count", min=1, max=4096)}
    program = torch.export.export(OfFloats(), (torch.zeros(2, 1, 8, 8),), dynamic_shapes=(count,))
    torch.export.save(program, path.with_suffix(".pt2"))


def named(name: str) -> Scenario:
    """Return the scenario with this name."""
    return next(one for one in SCENARIOS if one.name == name)

"""TorchScript is a program: what may do more than compute is rejected before its first call, unless it is trusted."""

import hashlib
import io
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ict_ref.utils import torchscript
from ict_ref.utils.torchscript import exported_operations, load_torchscript, refuse_operations, trust


@pytest.fixture(autouse=True)
def nothing_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test the state of a new process."""
    monkeypatch.setattr(torchscript, "_trusted", set())
    monkeypatch.setattr(torchscript, "_shown", set())


class Writes(nn.Module):
    """Writes a file."""

    def forward(self, x: Tensor) -> Tensor:
        torch.save(x, "written_by_torchscript")
        return x


class WritesAsMethod(nn.Module):
    """Writes a file, where a function of the module is called in a branch of a loop."""

    def forward(self, x: Tensor) -> Tensor:
        for k in range(2):
            if k == 1:
                x = writes(x)
        return x


@torch.jit.script
def writes(x: Tensor) -> Tensor:
    torch.save(x, "written_by_torchscript")
    return x


class Prints(nn.Module):
    """Prints to the terminal."""

    def forward(self, x: Tensor) -> Tensor:
        print("\x1b[31mhello from the file")
        return x


class Warns(nn.Module):
    """Prints to the terminal in a warning."""

    def forward(self, x: Tensor) -> Tensor:
        warnings.warn("\x1b[31mhello", stacklevel=2)
        return x


class WarnsComputed(nn.Module):
    """Prints a computed text in a warning."""

    def forward(self, x: Tensor) -> Tensor:
        text = "{}[31mhello".format(chr(27))  # noqa: UP032 - TorchScript
        warnings.warn(text, stacklevel=2)
        return x


class Seeds(nn.Module):
    """Changes the global random state."""

    def forward(self, x: Tensor) -> Tensor:
        torch.manual_seed(3)
        return x


class Reaches(nn.Module):
    """Reads memory by strides."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_strided(x, [2], [1], 1_000_000)


class Another(nn.Module):
    """Writes in a method that forward does not call, of a submodule."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Other()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x)
        return y


class Other(nn.Module):
    """Has a second method."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    @torch.jit.export
    def more(self, x: Tensor) -> Tensor:
        torch.save(x, "written_by_torchscript")
        return x


class Restores(nn.Module):
    """Runs code while it is loaded."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, bool]:
        return torch.zeros(1), self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]) -> None:
        torch.save(state[0], "written_by_torchscript")
        self.training = state[1]


class Hooked(nn.Module):
    """Is called with a hook."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def hook(self: nn.Module, inputs: tuple[Tensor]) -> None:
    torch.save(inputs[0], "written_by_torchscript")


def hooked() -> nn.Module:
    """Return a module with a hook before its call."""
    module = Hooked()
    module.register_forward_pre_hook(hook)
    return module


def saved(module: nn.Module, path: Path) -> str:
    """Write the module as TorchScript and return the file's SHA-256, by hashlib."""
    torch.jit.script(module).save(str(path))  # type: ignore[no-untyped-call]
    return hashlib.sha256(path.read_bytes()).hexdigest()


BAD: list[tuple[Callable[[], nn.Module], str]] = [
    (Writes, "aten::save"),
    (WritesAsMethod, "aten::save"),
    (Another, "aten::save"),
    (Prints, "prim::Print"),
    (Warns, "aten::warn of a computed text"),
    (WarnsComputed, "aten::warn of a computed text"),
    (Seeds, "aten::manual_seed"),
    (Reaches, "aten::as_strided"),
    (Restores, "__setstate__ in code/"),
    (hooked, "hook"),
]


@pytest.mark.parametrize(("make", "operation"), BAD, ids=[make.__name__ for make, _ in BAD])
def test_a_program_that_does_more_than_compute_is_rejected_before_it_runs(
    make: Callable[[], nn.Module],
    operation: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    digest = saved(make(), tmp_path / "m.pt")
    with pytest.raises(ValueError, match="expected a program that") as error:
        load_torchscript(tmp_path / "m.pt")
    assert operation in str(error.value)
    assert str(error.value).endswith(f"give --trust (in training --machine.trust) {digest}")
    assert not (tmp_path / "written_by_torchscript").exists()
    assert capsys.readouterr() == ("", "")


def mapping(path: Path, victim: Path) -> None:
    """Write a program that maps a file into memory and overwrites it; only TorchScript's own text can name it."""

    class Calls(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    module = torch.jit.script(Calls())
    mapped = f"torch.from_file('{victim}', True, 32, dtype=torch.uint8)"
    module.define(f"def more(self, x: Tensor) -> Tensor:\n    return {mapped}.fill_(65)\n")
    module.save(str(path))  # type: ignore[no-untyped-call]


def test_a_program_that_maps_a_file_is_rejected_and_runs_if_it_is_trusted(tmp_path: Path) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_bytes(b"precious data of the user, 32+ bytes")
    mapping(tmp_path / "m.pt", victim)
    with pytest.raises(ValueError, match="the operation aten::from_file"):
        load_torchscript(tmp_path / "m.pt")
    assert victim.read_bytes() == b"precious data of the user, 32+ bytes"
    trust([hashlib.sha256((tmp_path / "m.pt").read_bytes()).hexdigest()])
    load_torchscript(tmp_path / "m.pt").more(torch.zeros(1))
    assert victim.read_bytes() == b"A" * 32 + b"ytes"


def test_only_the_trusted_file_is_loaded_unchecked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    digest = saved(Writes(), tmp_path / "m.pt")
    trust([digest])
    load_torchscript(tmp_path / "m.pt")(torch.ones(2))
    assert torch.load("written_by_torchscript", weights_only=True).tolist() == [1, 1]
    saved(Prints(), tmp_path / "m.pt")
    with pytest.raises(ValueError, match="prim::Print"):
        load_torchscript(tmp_path / "m.pt")


@pytest.mark.parametrize("digest", ["", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_a_trusted_digest_is_sixty_four_digits(digest: str) -> None:
    with pytest.raises(ValueError, match=r"--machine\.trust: expected a SHA-256, 64 digits"):
        trust([digest], "--machine.trust")


class Network(nn.Module):
    """Has what extractors have."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.Dropout(), nn.GroupNorm(2, 4))
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.last = nn.Linear(4, 5)

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        with torch.no_grad():
            theta = torch.eye(2, 3)[None].repeat(x.shape[0], 1, 1)
            grid = nn.functional.affine_grid(theta, [x.shape[0], 3, 12, 12], align_corners=False)
            x = nn.functional.grid_sample(x.to(torch.float32), grid, padding_mode="border", align_corners=False)
            x = nn.functional.interpolate(x, size=[16, 16], mode="bicubic", antialias=True)
            x = nn.functional.max_pool2d(self.layers(x), 3, stride=2)
        assert x.ndim == 4, f"expected images, got {x.shape}"
        tokens = x.flatten(2).transpose(1, 2)
        parts = self.attention(tokens, tokens, tokens)[0].split([20, 16], dim=1)
        features = torch.cat([part.mean(1) for part in parts], 1)[:, :4]
        return features if return_features else self.last(features).softmax(1)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("how", ["script", "trace"])
def test_networks_compute_and_their_digest_is_printed_once(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, x = Network().eval(), torch.rand(2, 3, 8, 8)
    network: nn.Module = whole if how == "script" else whole.layers
    compiled: Any = torch.jit.script(network) if how == "script" else torch.jit.trace(network, x)  # type: ignore[no-untyped-call]
    compiled.save(str(tmp_path / "m.pt"))
    digest = hashlib.sha256((tmp_path / "m.pt").read_bytes()).hexdigest()
    for _ in range(2):
        assert torch.allclose(load_torchscript(tmp_path / "m.pt")(x), network(x), atol=1e-6)
    assert capsys.readouterr().err == f"{tmp_path / 'm.pt'} is a program (TorchScript), SHA-256 {digest}\n"


def test_another_file_under_a_published_name_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "inception-2015-12-05.pt"
    digest = saved(Network(), path)
    with pytest.raises(ValueError, match=f"SHA-256 f58cb9b6ec32.*, got {digest}.*Download it again"):
        load_torchscript(path)
    trust([digest])
    assert load_torchscript(path) is not None


def test_forms_without_members_that_can_be_checked_are_not_loaded(tmp_path: Path) -> None:
    saved(Network(), tmp_path / "m.pt")
    content = (tmp_path / "m.pt").read_bytes()
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.writestr(f"{old.namelist()[0].partition('/')[0]}/model.json", b"{}")  # the format of before 2020
    for name, other in {
        "old": file.getvalue(),
        "flatbuffer": b"\x00" * 4 + b"PTMF" + b"\x00" * 64,
        "cut": content[:99],
    }.items():
        (tmp_path / name).write_bytes(other)
        assert load_torchscript(tmp_path / name) is None


def test_an_exported_program_that_writes_is_rejected() -> None:
    for target, name in (
        (torch.ops.aten.from_file.default, "aten::from_file"),
        (torch.ops.aten.save.default, "aten::save"),
        (torch.hub.load, "python::<function load"),
        (print, "python::<built-in function print>"),
    ):
        graph = torch.fx.Graph()
        graph.output(graph.call_function(target, ("f", False, 4)))
        outer = nn.Module()
        outer.inner = torch.fx.GraphModule(nn.Module(), graph)
        calls = torch.fx.Graph()
        calls.output(calls.call_module("inner", ()))
        with pytest.raises(ValueError, match=f"the operation {name}"):
            refuse_operations("m.pt2", "0" * 64, exported_operations(torch.fx.GraphModule(outer, calls)))
    good = torch.export.export(Network().eval(), (torch.rand(2, 3, 8, 8),))
    refuse_operations("m.pt2", "0" * 64, exported_operations(good.graph_module))

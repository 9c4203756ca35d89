"""The audit of a model passes right ones however they are written, and rejects what is not a model."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.support.audited_models import (
    COEFFICIENTS,
    DATA,
    MIN,
    Network,
    Outer,
    Wrapper,
    audited,
    both,
    column,
    failed,
    root,
    skipped,
    with_a_zero_output,
    with_batch_norm,
    with_levels,
)
from torch import Tensor, nn

from ict_ref import formulas
from ict_ref.config import minimal
from ict_ref.networks.model import build_model
from ict_ref.verify.__main__ import main
from ict_ref.verify.audit.model.call import is_builder, level_forms
from ict_ref.verify.target.load import TargetError

# Right models.


def a_function() -> Callable[..., Tensor]:
    network = Network()
    return lambda x, sigma: formulas.boundary_parameterization(network, x, sigma)


def a_method() -> Callable[..., Tensor]:
    class Denoiser:
        def __init__(self) -> None:
            self.inside = Wrapper()

        def denoise(self, x: Tensor, t: Tensor) -> Tensor:
            f: Tensor = self.inside(x, t)
            return f

    return Denoiser().denoise


def with_buffers() -> nn.Module:
    class Buffered(nn.Module):
        min: Tensor
        data: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.model = Network()
            self.register_buffer("min", torch.tensor(MIN))
            self.register_buffer("data", torch.tensor(DATA))

        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            s = column(sigma)
            variance = s**2 + self.data**2
            value = self.model(x / variance.sqrt(), sigma.log() / 4)
            skipped = self.data**2 / ((s - self.min) ** 2 + self.data**2) * x
            f: Tensor = skipped + self.data * (s - self.min) * variance.rsqrt() * value
            return f

    return Buffered()


class Bfloat16(nn.Module):
    """F in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network().bfloat16()

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        value: Tensor = self.network(x.bfloat16(), c)
        return value


class Named(nn.Module):
    """F that is called by keywords, and returns its value in another object."""

    def __init__(self, pack: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.network, self.pack = Network(), pack

    def forward(self, *, sample: Tensor, timestep: Tensor) -> object:
        return self.pack(self.network(sample, timestep))


class Unpacked(nn.Module):
    def __init__(self, pack: Callable[[Tensor], object], unpack: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.packed, self.unpack = Named(pack), unpack

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return formulas.boundary_parameterization(lambda x, c: self.unpack(self.packed(sample=x, timestep=c)), x, sigma)


def with_scaling_modules() -> nn.Module:
    class Times(nn.Module):
        def forward(self, x: Tensor, factor: Tensor) -> Tensor:
            return column(factor) * x

    class Whole(Wrapper):
        def __init__(self) -> None:
            super().__init__()
            self.in_scale, self.out_scale, self.skip_scale = Times(), Times(), Times()

        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            value = self.network(self.in_scale(x, self.scale(sigma)), self.noise(sigma))
            f: Tensor = self.skip_scale(x, self.skip(sigma)) + self.out_scale(value, self.out(sigma))
            return f

    return Whole()


RIGHT: dict[str, Callable[[], Any]] = {
    "a module": Wrapper,
    "a function": a_function,
    "a method": a_method,
    "a wrapper of a wrapper": Outer,
    "constants in buffers": with_buffers,
    "a network in bfloat16": lambda: Wrapper(Bfloat16()),
    "a network that returns a tuple": lambda: Unpacked(lambda value: (value, None), lambda output: output[0]),
    "a network that returns a mapping": lambda: Unpacked(lambda value: {"f": value}, lambda output: output["f"]),
    "a network that returns an object": lambda: Unpacked(lambda v: SimpleNamespace(sample=v), lambda o: o.sample),
    "coefficients in modules": with_scaling_modules,
    "a network whose output is zero": with_a_zero_output,
    "batch norm": with_batch_norm,
    "dropout": lambda: Wrapper(Network(dropout=0.3)),
    "levels of shape [B, 1]": lambda: with_levels(lambda s, _: s.squeeze(1)),
    "levels of shape [B, 1, 1, 1]": lambda: with_levels(lambda s, _: s.squeeze(3).squeeze(2).squeeze(1)),
    "one level for all": lambda: with_levels(lambda s, count: s.expand(count) if s.ndim == 0 else 1 / 0),
    "a level that is a number": lambda: with_levels(lambda s, count: torch.tensor([float.fromhex(s.hex())] * count)),
}


@pytest.mark.parametrize("what", RIGHT)
def test_a_right_model_passes_with_all_its_coefficients(what: str) -> None:
    found = audited(RIGHT[what]())
    assert [one.message for one in found if one.status == "fail"] == []
    assert {one.id for one in found if one.status == "pass"} >= COEFFICIENTS


def test_the_project_s_own_model_passes_with_labels_and_a_network_in_bfloat16() -> None:
    model = build_model(minimal(), event=(1, 8, 8), classes=10)
    model.autocast = torch.bfloat16
    found = audited(model, shape="1,8,8", labels=10)
    # A model that was trained with labels rejects a call without them.
    assert [(one.id, one.kind) for one in found if one.status == "fail"] == [("model:labels:none", "type")]
    assert {one.id for one in found if one.status == "pass"} >= {*COEFFICIENTS, "model:autocast", "model:labels"}


def test_a_model_in_float64_and_one_of_vectors_pass() -> None:
    assert failed(Wrapper().double(), dtype="float64") == {}

    class Vectors(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Linear(3, 2)

        def forward(self, x: Tensor, c: Tensor) -> Tensor:
            value: Tensor = self.layers(torch.cat([x, c[:, None]], 1))
            return value

    network = Vectors()
    found = audited(lambda x, sigma: formulas.boundary_parameterization(network, x, sigma), shape="2")
    assert [one.message for one in found if one.status == "fail"] == []
    assert {one.id for one in found if one.status == "pass"} >= COEFFICIENTS


def test_other_settings_are_compared_with_those_of_the_options() -> None:
    network = Network()

    def f(x: Tensor, sigma: Tensor) -> Tensor:
        return formulas.boundary_parameterization(network, x, sigma, sigma_min=0.01, sigma_data=1.0)

    assert failed(f, sigma_min=0.01, sigma_data=1.0, sigma_max=50.0) == {}
    assert set(failed(f)) >= {"model:c_out:eval", "model:c_in:train"}


@pytest.mark.parametrize(
    ("what", "levels"),
    [("a module", "[B]"), ("levels of shape [B, 1]", "[B, 1]"), ("levels of shape [B, 1, 1, 1]", "[B, 1, 1, 1]"),
     ("one level for all", "scalar"), ("a level that is a number", "float")],
)  # fmt: skip
def test_the_form_of_levels_is_named(what: str, levels: str) -> None:
    [call] = [one for one in audited(RIGHT[what]()) if one.id == "model:call"]
    assert f"levels as {levels}; F is " in call.message


# F's last layer, and f alone.


class Inside(nn.Module):
    """f with everything in its forward, so that no module maps x's shape to itself."""

    def __init__(
        self, c_out: Callable[[Tensor], Tensor], c_in: Callable[[Tensor], Tensor], factor: float = 1.0
    ) -> None:
        super().__init__()
        self.embed, self.first, self.last = (
            nn.Linear(1, 8),
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Conv2d(8, 3, 3, padding=1),
        )
        self.c_out, self.c_in, self.factor = c_out, c_in, factor

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        h = self.first(column(self.c_in(sigma)) * x) + self.embed(sigma.log()[:, None] / 4)[:, :, None, None]
        value: Tensor = self.factor * self.last(h.relu())
        return column(formulas.c_skip(sigma)) * x + column(self.c_out(sigma)) * value


def test_coefficients_inside_forward_are_read_at_the_last_layer() -> None:
    found = audited(Inside(formulas.c_out, formulas.c_in))
    assert [one.message for one in found if one.status == "fail"] == []
    assert {one.id for one in found if one.status == "pass"} >= COEFFICIENTS
    assert "F is known by its output only, that of last (Conv2d)" in found[0].message
    half = failed(Inside(lambda sigma: formulas.c_out(sigma) / 2, torch.ones_like))
    assert half == {f"model:{name}:{mode}": deviation for mode in ("train", "eval")
                    for name, deviation in (("c_out", "HalfCOut"), ("c_in", "NoInputScaling"))}  # fmt: skip


def test_a_factor_behind_the_last_layer_is_not_taken_for_a_wrong_coefficient() -> None:
    model = Inside(formulas.c_out, formulas.c_in, factor=3.0)
    assert failed(model) == {}
    assert skipped(model) == {"model:c_out:train", "model:c_out:eval", "model:autocast"}


def alone(c_skip: Callable[[Tensor], Tensor], c_out: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    def f(x: Tensor, sigma: Tensor) -> Tensor:
        return column(c_skip(sigma)) * x + column(c_out(sigma)) * torch.sin(3 * column(formulas.c_in(sigma)) * x + 1)

    return f


def test_f_without_modules_is_checked_alone() -> None:
    unmeasured = {"model:c_skip", "model:c_out", "model:c_in", "model:c_noise", "model:autocast", "model:sensitivity"}
    assert skipped(alone(formulas.c_skip, formulas.c_out)) == unmeasured
    assert failed(alone(formulas.c_skip, formulas.c_out)) == {}


@pytest.mark.parametrize(
    ("c_skip", "c_out", "ids"),
    [
        (lambda s: 1 / (1 + 4 * s**2), lambda s: s / (1 + 4 * s**2).sqrt(), {"model:boundary:eval", "model:near"}),
        (torch.ones_like, lambda s: s - MIN, {"model:far"}),
    ],
)
def test_f_alone_can_be_wrong(c_skip: Any, c_out: Any, ids: set[str]) -> None:
    assert set(failed(alone(c_skip, c_out))) == ids


# Builders, errors, the command.


def test_a_class_or_a_function_without_arguments_is_a_builder() -> None:
    assert is_builder(Wrapper)
    assert is_builder(lambda: Wrapper())
    assert is_builder(lambda seed=0, device="cpu": Wrapper())
    assert not is_builder(Wrapper())
    assert not is_builder(lambda x, sigma: x)
    assert not is_builder(lambda *arguments: arguments[0])


def test_forms_of_levels_are_tried_from_the_usual_one_on() -> None:
    assert level_forms((2,)) == ("[B]", "[B, 1]", "scalar", "float")


def test_a_builder_gets_the_checkpoint_and_may_return_an_object_with_a_model(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("0.5")

    def load(path: Path) -> SimpleNamespace:
        return SimpleNamespace(model=Wrapper(out=lambda s: float(path.read_text()) * (s - MIN) / root(s)))

    assert failed(load, checkpoint=tmp_path / "weights") == {}
    (tmp_path / "weights").write_text("0.25")
    assert failed(load, checkpoint=tmp_path / "weights") == both(c_out="HalfCOut")


def raising(*_: object) -> Tensor:
    raise RuntimeError("of\nmine")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            lambda x, sigma: raising(),
            "TARGET: expected f(x, sigma) for x of shape [11, 3, 8, 8], got RuntimeError: of mine.",
        ),
        (
            lambda x, sigma: x[:, :1],
            "got f returned a tensor of shape [11, 1, 8, 8], should be a tensor of shape [11, 3, 8, 8].",
        ),
        (lambda x, sigma: None, "got f returned a NoneType"),
        (lambda: raising(), "TARGET(): RuntimeError: of mine. TARGET must be f or a builder of f."),
        (lambda: 3, "TARGET(): expected f, or an object with f as its attribute model, got int. Return f(x, sigma)."),
    ],
)
def test_a_target_that_is_not_a_model_is_rejected(target: Any, message: str) -> None:
    with pytest.raises(TargetError) as rejected:
        audited(target)
    assert message in str(rejected.value)
    assert "\n" not in str(rejected.value)


MODULE = """
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self, sigma_min=0.0):
        super().__init__()
        self.network, self.sigma_min = nn.Conv2d(3, 3, 3, padding=1), sigma_min

    def forward(self, x, sigma):
        sigma = sigma.reshape(-1, 1, 1, 1)
        variance, above = sigma**2 + 0.25, sigma - self.sigma_min
        value = self.network(x / variance.sqrt() + 0 * sigma)
        return 0.25 / (above**2 + 0.25) * x + 0.5 * above / variance.sqrt() * value


def right():
    return Model(0.002)
"""


def test_the_command_names_the_coefficient_with_an_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    command = ["audit", "model", f"{tmp_path / 'mine.py'}:Model", "--shape", "3,8,8"]
    assert main(command) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert "e.g.     in eval(): c_out at sigma = 0.002: 0.002 where 0 is right" in out
    assert "also in: locuslab/ect@4311059" in out
    assert "float32, torch arrays on cpu" in out
    assert "not counted: 2 checks: F does not get one number per example" in out
    assert out.splitlines()[-1].startswith("WRONG  3 of ")


def test_the_command_waives_a_coefficient_and_ends_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    names = ("model:c_out", "model:c_skip", "model:boundary")
    (tmp_path / "w.toml").write_text("".join(f'[[waiver]]\nid = "{name}"\nreason = "EDM"\n' for name in names))
    target = f"{tmp_path / 'mine.py'}:"
    assert main(["audit", "model", f"{target}Model", "--shape", "3,8,8", "--waivers", str(tmp_path / "w.toml")]) == 0
    assert main(["audit", "model", f"{target}right", "--shape", "3,8,8"]) == 0
    assert main(["audit", "model", f"{target}right", "--shape", "3,8,8", "--waivers", str(tmp_path / "w.toml")]) == 1
    assert "model:c_out: waived, but it does not fail; remove the waiver" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shape", "3x8x8"], "--shape: expected positive integers such as 3,32,32, got 3x8x8"),
        (["--labels", "1"], "--labels: expected 0, or 2 classes and more, got 1"),
        (["--sigma-min", "5"], "--sigma-min: expected a level > 0 and far below --sigma-max, got 5 and 80"),
        (["--sigma-data", "0"], "--sigma-data: expected a number > 0, got 0.0"),
        (["--checkpoint", "/nowhere"], "--checkpoint: expected a file or a folder, got /nowhere"),
        (["--dtype", "float16"], "--dtype: expected one of float32, float64, bfloat16, got float16"),
        (["--device", "nowhere"], "--device: expected a device of this machine, got nowhere"),
        ([], "TARGET: expected f(x, sigma) for x of shape [11, 3, 32, 32], got"),
    ],
)
def test_a_wrong_command_ends_with_one_line_and_status_2(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text("def f(x, sigma):\n    raise ValueError('no')\n")
    assert main(["audit", "model", f"{tmp_path / 'mine.py'}:f", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err

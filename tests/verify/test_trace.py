"""The trace of one training step: the first value that differs is named, in a namespace and in a file."""

import json
import math
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.wrong_implementations import WRONG
from torch import Tensor

import ict_ref.formulas as formulas
from ict_ref.verify.__main__ import main
from ict_ref.verify.checks import trace
from ict_ref.verify.vectors.values import decoded, network_bend

NAMES = [entry.name for entry in trace.entries()]


def step(dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    """Return every value of the step, written again from what `--trace-inputs` prints, the gradient by autograd."""
    book = json.loads(trace.inputs())
    given: Any = {name: decoded(value) for name, value in book["inputs"].items()}
    assert list(book["values"]) == NAMES
    x, z = given["x"].to(dtype), given["z"].to(dtype)
    parameters = given["parameters"].to(dtype).requires_grad_()

    def network(scaled: Tensor, noise: Tensor) -> Tensor:
        a, b = parameters
        value: Tensor = a * scaled + b * noise.reshape(-1, 1, 1) + scaled**2
        return value

    n = formulas.exponential_curriculum(given["step"], total_steps=given["total_steps"])
    sigmas = formulas.sigma_grid(n)
    pmf = formulas.lognormal_pmf(sigmas)
    index = formulas.index_from_uniform(given["u"], pmf)
    weights = formulas.inverse_gap_weights(sigmas)
    values: dict[str, Any] = {"n": n, "sigmas": sigmas, "pmf": pmf, "index": index, "weights": weights}
    values |= {"sigma_hi": sigmas[index + 1], "sigma_lo": sigmas[index], "weight": weights[index]}
    f = {}
    for end in ("hi", "lo"):
        sigma = values[f"sigma_{end}"].to(dtype)
        values[f"x_{end}"] = x + sigma.reshape(-1, 1, 1) * z
    for end, who in (("hi", "student"), ("lo", "teacher")):
        sigma, noisy = values[f"sigma_{end}"].to(dtype), values[f"x_{end}"]
        of = {key: getattr(formulas, key)(sigma) for key in ("c_skip", "c_out", "c_in", "c_noise")}
        values |= {f"{key}_{end}": value for key, value in of.items()}
        column = {key: value.reshape(-1, 1, 1) for key, value in of.items()}
        scaled = column["c_in"] * noisy
        output = network(scaled, of["c_noise"])
        f[who] = column["c_skip"] * noisy + column["c_out"] * output
        values |= {f"network_input_{end}": scaled, f"network_output_{end}": output, who: f[who]}
    c = formulas.pseudo_huber_constant(4)
    distance = formulas.pseudo_huber(f["student"], f["teacher"].detach(), c=c)
    loss = values["weight"].to(dtype) * distance
    (gradient,) = torch.autograd.grad(loss.mean(), parameters)
    values |= {"c": c, "distance": distance, "loss": loss, "mean_loss": loss.mean(), "gradient": gradient}
    optimizer = torch.optim.RAdam([parameters], lr=given["learning_rate"], betas=(0.9, 0.999), eps=1e-8)
    before = parameters.detach().clone()
    parameters.grad = gradient
    optimizer.step()
    values["updated"] = parameters.detach().clone()
    values["ema"] = formulas.ema_update(before, values["updated"], decay=given["ema_decay"])
    return {name: values[name] for name in NAMES}


def written(path: Path, values: dict[str, Any]) -> str:
    """Write values as JSON has them, and return the file's name."""
    plain = {name: value.tolist() if isinstance(value, Tensor) else value for name, value in values.items()}
    path.write_text(json.dumps(plain))
    return str(path)


def test_the_network_of_the_trace_is_the_one_that_vectors_name() -> None:
    x, c = torch.tensor([[0.5, -1.0]]).double(), torch.tensor([0.3]).double()
    torch.testing.assert_close(network_bend(x, c, a=0.5, b=0.25), 0.5 * x + 0.25 * 0.3 + x**2)


def test_a_step_written_again_agrees_in_every_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--trace", written(tmp_path / "mine.json", step())]) == 0
    assert f"right  trace {len(NAMES)}\n" in capsys.readouterr().out


def test_a_step_in_float32_agrees_to_the_given_tolerance(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.json", step(torch.float32))
    assert main(["--trace", path]) == 1
    assert main(["--trace", path, "--rtol", "1e-4"]) == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_first_value_that_differs_is_named(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = step()
    # From here on everything is wrong, as in a step that continues with a wrong value.
    for later in NAMES[NAMES.index(name) :]:
        values[later] = values[later] + 1 if later in ("n", "index") else values[later] * (1 + 1e-6)
    assert main(["--trace", written(tmp_path / "mine.json", values), "-v"]) == 1
    failures = [line for line in capsys.readouterr().out.splitlines() if line.startswith("fail ")]
    assert len(failures) == 1
    assert failures[0].startswith(f"fail     trace:{name}: the first value of a training step that differs, ")


def test_a_few_values_are_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = step()
    assert main(["--trace", written(tmp_path / "mine.json", {name: values[name] for name in ("pmf", "loss")})]) == 0
    assert "right  trace 2\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"sigma": [1]}', "sigma is not a value of the step; the values are n, sigmas, pmf"),
        ("{}", "expected some of the values n, sigmas"),
        ("[1]", "expected an object of names and nested lists, got a list"),
        ("nothing", "is not JSON"),
        (None, "No such file"),
    ],
)
def test_an_invalid_trace_file_is_one_line_and_status_2(
    text: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (tmp_path / "mine.json").write_text(text)
    assert main(["--trace", str(tmp_path / "mine.json")]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[1, 2], [3]], "not a number or an array"),
        ("many", "of type str"),
        ([1.0, 2.0], "of shape [2], not [3]"),
        (math.nan, "of shape [], not [3]"),
        ([math.nan] * 3, "got [nan, nan, nan], should be"),
        ({"tensor": [1.0, 2.0]}, "of type dict, not a number or an array"),
    ],
)
def test_invalid_values_are_reported(
    value: object, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.json").write_text(json.dumps({"loss": value}))
    assert main(["--trace", str(tmp_path / "mine.json")]) in (1, 2)
    out, err = capsys.readouterr()
    assert message in " ".join((out + err).split())


@pytest.mark.parametrize(
    ("function", "wrong", "first"),
    [
        ("exponential_curriculum", lambda step, **_: step, "n"),
        ("sigma_grid", WRONG["Float32Grid"] if "Float32Grid" in WRONG else lambda n: torch.ones(n), "sigmas"),
        ("c_in", lambda sigma: 1 / (sigma**2 + 0.25), "c_in_hi"),
        ("pseudo_huber", WRONG["Elementwise"], "distance"),
        ("ema_update", lambda ema, value, decay: decay * value + (1 - decay) * ema, "ema"),
    ],
)
def test_in_a_namespace_the_first_function_that_is_wrong_is_named(
    function: str, wrong: Callable[..., object], first: str
) -> None:
    mine = types.SimpleNamespace(**{name: getattr(formulas, name) for name in formulas.__all__})
    assert {result.status for result in trace.check_trace(mine)} == {"pass"}
    setattr(mine, function, wrong)
    found = list(trace.check_trace(mine))
    assert [result.id for result in found if result.status == "fail"] == [f"trace:{first}"]
    assert [result.function for result in found if result.status == "fail"] == [function]


def test_a_namespace_computes_the_values_of_its_functions() -> None:
    mine = types.SimpleNamespace(c_in=formulas.c_in, pseudo_huber=formulas.pseudo_huber)
    assert [result.id for result in trace.check_trace(mine)] == ["trace:c_in_hi", "trace:c_in_lo", "trace:distance"]


@pytest.mark.usefixtures("few_examples")
def test_a_waived_function_waives_its_values_in_the_trace(tmp_path: Path) -> None:
    path = Path(__file__).parent / "implementations" / "elementwise.py"
    (tmp_path / "w.toml").write_text('[[waiver]]\nid = "pseudo_huber"\nreason = "known"\n')
    assert main([str(path), "--waivers", str(tmp_path / "w.toml")]) == 0


@pytest.mark.parametrize(
    "arguments",
    [["--trace", "x.json", "ict_ref.formulas"], ["--rtol", "1e-3", "ict_ref.formulas"], ["--seed", "-1", "math"]],
)
def test_options_that_do_not_go_together_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1

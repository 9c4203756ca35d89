"""A training step and a loop in JAX are audited through a bridge to the torch network of the audit."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jax")

import torch
from torch import Tensor, nn

from ict_ref.verify.audit.options import TrainingOptions
from ict_ref.verify.audit.step.audit import audit
from ict_ref.verify.audit.step.settings import Settings
from ict_ref.verify.audit.training.audit import audit as audit_training
from ict_ref.verify.jax import network

SOURCE = Path(__file__).parent / "implementations" / "jax_training.py"


def module(tmp_path: Path, *changes: tuple[str, str]) -> Any:
    """Return the implementation with some of its text replaced."""
    text = SOURCE.read_text()
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    path = tmp_path / "changed_jax_training.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def failed(results: Any) -> set[str]:
    return {result.id for result in results if result.status == "fail"}


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (("", ""), set()),
        (("jax.lax.stop_gradient(f(x + low * z, low))", "f(x + low * z, low)"), {"step:stop_gradient"}),
        (("jnp.log(sigma).flatten() / 4", "sigma.flatten()"), {"step:c_noise"}),
        (
            ("/ 4, dropout_key)", "/ 4, jax.random.fold_in(dropout_key, sigma[0, 0, 0, 0] * 1e3))"),
            {"step:shared_dropout"},
        ),
    ],
)
def test_a_step_in_jax_fails_where_it_is_wrong(change: tuple[str, str], finding: set[str], tmp_path: Path) -> None:
    made = module(tmp_path, *([change] if change[0] else []))
    assert failed(audit(made.step, Settings(draws=(40, 10, 10)))) == finding


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ([], set()),
        ([("old + (1 - 0.99993) * (new - old)", "old")], {"training:ema"}),
        ([("old - 1e-4 * jnp.where", "old - 2e-4 * jnp.where")], {"training:learning_rate"}),
    ],
)
def test_a_loop_in_jax_fails_where_it_is_wrong(
    changes: list[tuple[str, str]], finding: set[str], tmp_path: Path
) -> None:
    made = module(tmp_path, *changes)
    assert failed(audit_training(made.make, TrainingOptions(target="x"))) == finding


class Linear(nn.Module):
    """F(x, c) = w x + b c."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(3.0))

    def forward(self, x: Tensor, noise: Tensor, *_: Tensor) -> Tensor:
        return self.w * x + self.b * noise.reshape(-1, 1)


def test_values_and_gradients_are_those_of_torch() -> None:
    import jax

    bridge = network(Linear())
    x, c = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([5.0, 6.0])

    def total(params: Any) -> Any:
        return bridge.apply(params, x.numpy(), c.numpy()).sum()

    value, gradient = jax.jit(jax.value_and_grad(total))({"w": 1.0, "b": 10.0})
    assert float(value) == 10 + 2 * 10 * 11
    assert {name: float(one) for name, one in gradient.items()} == {"w": 10.0, "b": 22.0}


def test_networks_are_equal_so_that_a_step_is_compiled_once() -> None:
    first, second = network(Linear()), network(Linear())
    assert first == second
    assert hash(first) == hash(second)

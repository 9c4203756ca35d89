"""Tools for adapters: stand-ins for packages, lines of scripts, hidden draws and hidden constants."""

import contextlib
import importlib
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ict_ref.verify.adapt import Stub, cut, exposed_draws, script, stub_imports, with_constant
from ict_ref.verify.target.load import TargetError

SCRIPT = """import zz_lightning as pl
from zz_lightning.loggers import Logger, rank_zero_only
import zz_lightning.deep.down as down

class Model(pl.LightningModule):
    logger: Logger | None = None

    @rank_zero_only
    def double(self, x: "Logger[int]"):
        return 2 * x

    @pl.cached(size=3)
    def triple(self, x):
        return 3 * x
"""


def test_a_script_is_imported_without_its_packages_and_its_own_code_works(tmp_path: Path) -> None:
    (tmp_path / "zz_script.py").write_text(SCRIPT)
    with stub_imports("zz_lightning"):
        module = script(tmp_path / "zz_script.py")
    assert module.Model().double(4) == 8
    assert module.Model().triple(4) == 12
    assert issubclass(module.Model, object)
    assert isinstance(module.Logger, Stub)
    assert "zz_lightning.loggers.Logger" in repr(module.Logger)


def test_after_the_block_the_packages_are_missing_again(tmp_path: Path) -> None:
    before = list(sys.meta_path)
    with contextlib.suppress(KeyError), stub_imports("zz_missing"):
        importlib.import_module("zz_missing.inner")
        raise KeyError
    assert sys.meta_path == before
    assert not [name for name in sys.modules if name.startswith("zz_missing")]
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("zz_missing")


def test_only_packages_that_are_named_and_missing_are_supplied() -> None:
    with stub_imports("math", "zz_named"):
        assert importlib.import_module("math").pi == math.pi
        importlib.import_module("zz_named")
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("zz_named_not")


def test_a_missing_module_of_a_package_that_is_there_is_removed_from_it_again() -> None:
    with stub_imports("json.zz_extra"):
        extra = importlib.import_module("json.zz_extra")
        assert sys.modules["json"].zz_extra is extra
    assert not hasattr(sys.modules["json"], "zz_extra")


def test_an_attribute_can_be_given() -> None:
    with stub_imports("zz_given", values={"zz_given.nn.Base": torch.nn.Module, "zz_given.nn.Other": 3}):
        module = importlib.import_module("zz_given.nn")
    assert module.Base is torch.nn.Module
    assert module.Other == 3
    assert isinstance(module.Third, Stub)


def test_a_stand_in_is_not_a_value() -> None:
    stub: Any = Stub("package.thing")
    uses: list[Callable[[], object]] = [
        lambda: stub + 1,
        lambda: float(stub),
        lambda: list(stub),
        lambda: stub < 3,
        lambda: torch.ones(2) * stub,
    ]
    for use in uses:
        with pytest.raises(TypeError):
            use()
    with pytest.raises(AttributeError):
        _ = stub.__len__
    assert stub(1, 2) is stub
    assert stub(print, 2) is stub
    assert stub(print) is print
    assert stub[3] is stub


LOOP = """import absent
for step, x in absent.batches():
    z = scale * torch.randn_like(x)

    def noisy(sigma):
        return x + sigma * z
  # a comment that is not indented like the lines
    student = network(noisy(2.0))
    loss = (student - y) ** 2
"""


@pytest.fixture
def loop(tmp_path: Path) -> Path:
    (tmp_path / "loop.py").write_text(LOOP)
    return tmp_path / "loop.py"


def test_lines_of_a_script_become_a_function_of_their_variables(loop: Path) -> None:
    step = cut(loop, 3, 9, result="loss", given={"torch": torch, "scale": 0.0})
    assert step(x=torch.tensor(3.0), y=1.0, network=lambda x: 2 * x) == 25.0
    assert step(x=torch.tensor(3.0), y=6.0, network=lambda x: 2 * x) == 0.0
    both = cut(loop, 8, 9, result=("student", "loss"), given={"noisy": lambda sigma: sigma, "y": 0.0})
    assert both(network=lambda x: x) == (2.0, 4.0)
    # An argument replaces what is given, and one call does not change the next.
    assert step(x=torch.tensor(3.0), y=1.0, network=lambda x: x, scale=0.0) == 4.0


@pytest.mark.parametrize(("first", "last"), [(0, 2), (5, 4), (3, 10)])
def test_lines_that_are_not_there_are_refused(loop: Path, first: int, last: int) -> None:
    with pytest.raises(ValueError, match=f"lines {first} to {last} of .*expected lines between 1 and 9"):
        cut(loop, first, last, result="loss")


def test_lines_that_are_not_statements_are_refused_with_their_number(loop: Path) -> None:
    with pytest.raises(ValueError, match=r"lines 2 to 2 of .*expected whole statements, got .* in line 2"):
        cut(loop, 2, 2, result="loss")


def test_lines_that_have_changed_are_refused(loop: Path) -> None:
    # sha256sum of the line `    loss = (student - y) ** 2`
    checksum = "68f8c56c"
    cut(loop, 9, 9, result="loss", sha256=checksum)
    loop.write_text(LOOP.replace("** 2", "** 4"))
    with pytest.raises(ValueError, match=f"expected the checksum {checksum}, got .*The file has changed"):
        cut(loop, 9, 9, result="loss", sha256=checksum)


def test_an_error_in_the_lines_has_the_line_number_of_the_file(loop: Path) -> None:
    with pytest.raises(NameError) as error:
        cut(loop, 8, 9, result="loss")()
    assert error.traceback[-1].lineno + 1 == 8
    assert error.traceback[-1].path == loop


def test_a_script_that_cannot_be_imported_is_an_error_of_the_target(tmp_path: Path) -> None:
    (tmp_path / "zz_broken.py").write_text("import zz_nothing")
    with pytest.raises(TargetError, match="zz_nothing"):
        script(tmp_path / "zz_broken.py")


def test_hidden_distributions_are_recorded() -> None:
    with exposed_draws() as draws:
        drawn = torch.multinomial(torch.tensor([2.0, 0.0, 6.0]), 50, replacement=True)
        chosen = np.random.choice(3, (50,), True, np.array([0.0, 0.5, 0.5]))
        np.random.choice(3)
    assert [pmf.tolist() for pmf in draws.pmfs] == [[0.25, 0.0, 0.75], [0.0, 0.5, 0.5]]
    assert set(drawn.tolist()) == {0, 2}
    assert set(chosen.tolist()) == {1, 2}


def test_hidden_noise_is_recorded_or_replaced() -> None:
    torch.manual_seed(3)
    expected = [torch.randn(2, 3), torch.randn(3)]
    torch.manual_seed(3)
    with exposed_draws() as draws:
        torch.randn((2, 3))
        torch.randn_like(torch.ones(3, dtype=torch.float32))
    assert all(map(torch.equal, draws.noises, expected))
    given = [torch.ones(2, 3), torch.zeros(3)]
    with exposed_draws(given) as draws:
        assert torch.randn(2, 3) is given[0]
        assert torch.randn(size=(3,)) is given[1]
        with pytest.raises(ValueError, match="noises: expected 2 draws, got one more"):
            torch.randn(3)
    with exposed_draws([torch.ones(4)]), pytest.raises(ValueError, match=r"expected noise of shape \[3\], got \[4\]"):
        torch.randn_like(torch.ones(3))


def test_the_functions_and_the_random_states_are_as_before() -> None:
    functions = (torch.randn, torch.randn_like, torch.multinomial, np.random.choice)
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(5)
    np.random.seed(5)
    with contextlib.suppress(KeyError), exposed_draws():
        torch.randn(7)
        np.random.choice(9, 4, p=np.ones(9) / 9)
        raise KeyError
    assert (torch.randn, torch.randn_like, torch.multinomial, np.random.choice) == functions
    assert (torch.rand(1), np.random.rand()) == expected


@pytest.mark.parametrize("c", [0.5, 3.0])
def test_a_distance_with_its_own_constant_is_compared_with_any_other(c: float) -> None:
    def whole(x: Tensor, y: Tensor) -> Tensor:
        own = 0.00054 * math.sqrt(math.prod(x.shape[1:]))
        return (x - y).flatten(1).square().sum(1).add(own**2).sqrt() - own

    def each(x: Tensor, y: Tensor) -> Tensor:
        own = 0.00054 * math.sqrt(math.prod(x.shape[1:]))
        return ((x - y).square() + own**2).sqrt() - own

    x = torch.tensor([[[3.0, 0.0]], [[0.0, -1.0]]], dtype=torch.float64)
    y = torch.tensor([[[0.0, 4.0]], [[0.0, -1.0]]], dtype=torch.float64)
    torch.testing.assert_close(
        with_constant(whole)(x, y, c=c), torch.tensor([math.hypot(5.0, c) - c, 0.0], dtype=torch.float64)
    )
    expected = torch.tensor([[math.hypot(3.0, c) - c, math.hypot(4.0, c) - c], [0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(with_constant(each)(x, y, c=c).flatten(1), expected)


def test_the_adapter_of_the_documentation_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "adapters.md").read_text()
    section = page[page.index("## Code that has no function") : page.index("## Audit a Lightning module")]
    train, adapter = (block.partition("\n")[2] for block in section.split("```")[1::2])
    (tmp_path / "train.py").write_text(train)
    (tmp_path / "adapter.py").write_text(adapter)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    made = script("adapter.py")
    # Equal steps of log(sigma) around P_mean = -1.1: erf(1 / sqrt(2)) / 2 is a half of what is within one deviation.
    pmf = made.lognormal_pmf(torch.tensor([-3.1, -1.1, 0.9], dtype=torch.float64).exp())
    torch.testing.assert_close(pmf, torch.tensor([0.5, 0.5], dtype=torch.float64))
    levels: list[Tensor] = []

    def network(x: Tensor, sigma: Tensor) -> Tensor:
        levels.append(sigma)
        return x

    loss = made.step(network, torch.zeros(4, 1, 2, 2), step=0, total_steps=8)
    assert loss.shape == ()
    assert (levels[0] > levels[1]).all()

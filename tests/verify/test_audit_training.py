"""The audit of a training loop passes right ones, whatever their settings."""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.audited_loops import (
    WRONG,
    Lion,
    Loop,
    R,
    average,
    by_norm,
    consistency_loss,
    failures,
    levels,
    loop,
    results,
    with_optimizer,
)
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ict_ref.verify.__main__ import main
from ict_ref.verify.audit.training.processes import _compared
from ict_ref.verify.report.finding import fix_of, known_deviations, seen_in

PEERS = Path(__file__).parent / "implementations"


def statuses(make: Callable[..., object], **options: Any) -> dict[str, str]:
    return {result.id.removeprefix("training:"): result.status for result in results(make, **options)}


# Right loops.


class Averaged(Loop):
    """Torch's own EMA, whose first update copies."""

    def __init__(self, network: nn.Module, total_steps: int) -> None:
        super().__init__(network, total_steps)
        self.ema = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(R))  # type: ignore[no-untyped-call]

    def after_update(self) -> None:
        self.ema.update_parameters(self.online)  # type: ignore[operator] # an AveragedModel


class ShadowParameters:
    """The EMA of diffusers, without warm-up: a list of parameters, and its first update copies."""

    def __init__(self, parameters: Iterator[nn.Parameter]) -> None:
        self.shadow_params, self.steps = [parameter.clone().detach() for parameter in parameters], 0

    @torch.no_grad()
    def step(self, parameters: Iterator[nn.Parameter]) -> None:
        self.steps += 1
        decay = 0.0 if self.steps == 1 else R
        for shadow, parameter in zip(self.shadow_params, parameters, strict=True):
            shadow.sub_((1 - decay) * (shadow - parameter))


class Diffusers(Loop):
    def __init__(self, network: nn.Module, total_steps: int) -> None:
        super().__init__(network, total_steps)
        self.ema = ShadowParameters(network.parameters())  # type: ignore[assignment] # not a module

    def after_update(self) -> None:
        self.ema.step(self.online.parameters())  # type: ignore[operator] # not a module

    save = load = None  # type: ignore[assignment] # it cannot be resumed


def functional(network: nn.Module, *, total_steps: int) -> tuple[Callable[[Tensor], Tensor], Any, Any]:
    """A loop over dictionaries of tensors, with its own RAdam; noise is a function of the number of updates."""
    names = [name for name, _ in network.named_parameters()]
    online = {name: value.detach().clone() for name, value in network.named_parameters()}
    ema, m, v, done = dict(online), dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0), [0]

    def loss(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(done[0])

        def call(x: Tensor, noise: Tensor) -> Tensor:
            value: Tensor = torch.func.functional_call(network, weights, (x, noise))
            return value

        return consistency_loss(call, x, levels(done[0], total_steps), generator)

    def train_step(x: Tensor) -> Tensor:
        gradient, value = torch.func.grad_and_value(loss)(online, x)
        done[0] += 1
        t, rho = done[0], 1999.0
        rho_t = rho - 2 * t * 0.999**t / (1 - 0.999**t)
        for name in names:
            m[name] = 0.9 * m[name] + 0.1 * gradient[name]
            v[name] = 0.999 * v[name] + 0.001 * gradient[name] ** 2
            move = m[name] / (1 - 0.9**t)
            if rho_t > 5:
                r = math.sqrt((rho_t - 4) * (rho_t - 2) * rho / ((rho - 4) * (rho - 2) * rho_t))
                move = r * move / ((v[name] / (1 - 0.999**t)) ** 0.5 + 1e-8)
            online[name] = online[name] - 1e-4 * move
            ema[name] = R * ema[name] + (1 - R) * online[name]
        return value  # type: ignore[no-any-return] # of torch.func

    return train_step, lambda: online, lambda: ema


class OneCall(Loop):
    """Student and teacher in one call, in two microbatches, in float32, with every level of a batch in its own."""

    def __init__(self, network: nn.Module, total_steps: int) -> None:
        super().__init__(network.float(), total_steps)

    def train_step(self, x: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        losses = [consistency_loss(self.online, part, self.n()) / 2 for part in x.chunk(2)]
        for loss in losses:
            loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.after_update()
        self.k += 1
        return sum(losses).detach()  # type: ignore[union-attr] # a tensor


RIGHT: dict[str, Callable[..., object]] = {
    "a deep copy and lerp_": Loop,
    "torch's AveragedModel": Averaged,
    "diffusers' EMAModel": Diffusers,
    "functions of dictionaries": functional,
    "microbatches in float32": OneCall,
}


@pytest.mark.parametrize("style", RIGHT)
def test_a_right_loop_passes(style: str) -> None:
    assert [result.message for result in failures(RIGHT[style])] == []


def test_everything_is_checked_of_a_loop_that_offers_everything() -> None:
    assert set(statuses(Loop).values()) == {"pass"}
    assert {name: status for name, status in statuses(Diffusers).items() if status != "pass"} == {
        "buffers": "skipped",
        "resume": "skipped",
    }


def imagenet(network: nn.Module, *, total_steps: int) -> Loop:
    decay = {"after_update": lambda self: average(self.ema, self.online, 0.99997)}
    return loop(**decay)(network, total_steps)


def of_ct(network: nn.Module, *, total_steps: int) -> Loop:
    """A loop with other settings than iCT's: CT's curriculum, AdamW, clipping."""

    def n(self: Loop) -> int:
        share = self.k / self.total_steps
        return math.ceil(math.sqrt(share * (151**2 - 2**2) + 2**2) - 1) + 1

    def init(self: Loop, network: nn.Module, total_steps: int) -> None:
        Loop.__init__(self, network, total_steps)
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=3e-4, weight_decay=0.05)

    return loop(n=n, __init__=init, before_update=by_norm)(network, total_steps)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (imagenet, {"ema_decay": 0.99997, "batch": 8, "shape": "1,8,8"}),
        (
            of_ct,
            {
                "optimizer": "Adam",
                "lr": 3e-4,
                "weight_decay": 0.05,
                "clip": 1.0,
                "curriculum": "sqrt",
                "s0": 2,
                "s1": 150,
            },
        ),
        (with_optimizer(Lion), {"optimizer": "Lion"}),
        (Loop, {"seed": 7}),
    ],
)
def test_expected_settings_are_options(make: Callable[..., object], options: dict[str, Any]) -> None:
    assert [result.message for result in failures(make, **options)] == []


def test_a_loop_without_expected_clipping_and_decay_is_wrong() -> None:
    found = {result.id: result.message for result in failures(Loop, clip=1.0, weight_decay=0.01)}
    assert found.keys() == {"training:gradient_clipping", "training:weight_decay"}
    assert "gradients are not clipped; expected that they are clipped to norm 1" in found["training:gradient_clipping"]
    assert "there is no weight decay, should be 0.01" in found["training:weight_decay"]


@pytest.mark.parametrize("scale", [1.0, 250.0])
def test_the_curriculum_is_read_from_levels_in_another_form(scale: float) -> None:
    def train_step(self: Loop, x: Tensor) -> None:
        def network(x: Tensor, log_sigma: Tensor) -> Tensor:
            value: Tensor = self.online(x, log_sigma.exp() if scale == 1 else 250 * log_sigma)
            return value

        self.optimizer.zero_grad()
        consistency_loss(network, x, self.n(), scale=1.0).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.after_update()
        self.k += 1

    assert statuses(loop(train_step=train_step))["curriculum"] == "pass"


def raises(network: nn.Module, *, total_steps: int) -> object:
    raise RuntimeError(f"not for {total_steps} updates of {type(network).__name__}")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (raises, "make raised RuntimeError: not for 27 updates of TrainingNetwork"),
        (
            lambda network, total_steps: 3,
            "with train_step(x), or (train_step, online, ema), got int",
        ),
        (lambda network, total_steps: (lambda x: 1 / 0, network), "train_step number 0 raised ZeroDivisionError"),
        (lambda network, total_steps: (lambda x: x, {}), "online: expected the network, or a mapping with its weight"),
        (loop(load=lambda self, path: 1 / 0), "load raised ZeroDivisionError"),
        (loop(run=lambda self, batches: 1 / 0), "run raised ZeroDivisionError"),
    ],
)
def test_a_loop_that_fails_has_one_clear_row(make: Callable[..., object], message: str) -> None:
    [found] = failures(make)
    assert message in found.message


# The command.


@pytest.fixture
def target(tmp_path: Path) -> str:
    """Return a target with two errors."""
    (tmp_path / "wrong_loop_of_a_test.py").write_text(
        "from tests.support import audited_loops as these\n\n\n"
        "class Wrong(these.Loop):\n    n = staticmethod(lambda: 11)\n    after_update = these.every_fifth\n"
    )
    return f"{tmp_path / 'wrong_loop_of_a_test.py'}:Wrong"


def test_the_command_reports_findings_with_effect_places_and_fix(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "training", target, "--json", str(tmp_path / "report.json")]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert "training:ema: the EMA is not updated at each update" in out
    assert "also in: thibautissenhuth/consistency_GC@47c5787 train_consistency.py:147" in out
    assert "fix:     pass the number of updates to the curriculum" in out
    assert out.rstrip().splitlines()[-1] == "WRONG  2 of 11 checks; status 1"
    found = json.loads((tmp_path / "report.json").read_text())["findings"]
    assert [finding["deviations"] for finding in found] == [["FrozenCurriculum"], ["EmaEveryNth"]]


def test_a_finding_can_be_waived(target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    waivers = tmp_path / "w.toml"
    names = ("training:ema", "training:curriculum", "training:buffers")
    waivers.write_text("".join(f'[[waiver]]\nid = "{name}"\nreason = "known"\n' for name in names))
    assert main(["audit", "training", target, "--waivers", str(waivers)]) == 1
    out = capsys.readouterr().out
    assert "2 waived" in out
    assert "training:buffers: waived, but it does not fail" in out


def test_the_project_s_own_loop_passes() -> None:
    # A separate process has no import hook: the annotations of the model exclude the recording network.
    command = [sys.executable, "-m", "ict_ref.verify", "audit", "training", f"{PEERS / 'our_loop.py'}:make", "-v"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "right  10 checks; 1 not counted; status 0"
    assert "pass     training:resume:noise" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lr", "0"], "--lr: expected a positive number, got 0.0"),
        (["--ema-decay", "1"], "--ema-decay: expected 0 < decay < 1, got 1.0"),
        (["--weight-decay", "-1"], "--weight-decay: expected a number >= 0, got -1.0"),
        (["--clip", "0"], "--clip: expected a positive number, got 0.0"),
        (["--s0", "1"], "--s0: expected an integer from 2 to --s1 (1280), got 1"),
        (["--sigma-min", "90"], "--sigma-min: expected 0 < sigma_min < --sigma-max (80.0), got 90.0"),
        (["--batch", "1"], "--batch: expected an integer >= 2, got 1"),
        (["--processes", "0"], "--processes: expected an integer from 1 to 64, got 0"),
        (["--shape", "3,x"], "--shape: expected positive integers such as 3,32,32, got 3,x"),
        (
            ["--curriculum", "linar"],
            "expected one of exponential, sqrt, constant, linear, square, cosine, got",
        ),
        (["--s0", "2", "--s1", str(2**28)], "--s1: expected at most 2^26 --s0"),
    ],
)
def test_impossible_options_are_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "training", "os:getcwd", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


@pytest.mark.slow
def test_n_is_compared_between_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "loop_in_processes.py"
    path.write_text(
        "import os, sys\n\nimport torch.distributed as dist\n\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from tests.support import audited_loops as these\n\n\n"
        "class RankZero(these.Loop):\n"
        "    def n(self):\n"
        "        if int(os.environ.get('WORLD_SIZE', 1)) > 1 and not dist.is_initialized():\n"
        "            dist.init_process_group('gloo')\n"
        "        first = not dist.is_initialized() or dist.get_rank() == 0\n"
        "        return super().n() if first else 11\n"
    )
    assert main(["audit", "training", f"{path}:RankZero", "--processes", "2"]) == 1
    out = capsys.readouterr().out
    assert "at update 3, N = 21 in process 0 and 11 in process 1" in out
    assert "also in: huggingface/diffusers@071190d" in out
    assert "WRONG  1 of 12 checks" in out


def test_the_levels_of_processes_are_compared() -> None:
    assert _compared([[11, 21], [11, 21]]) == (None, None)
    assert _compared([[11, 21], [11, 21], [11, 11]])[1] == "RankZeroCurriculum"
    wrong, deviation = _compared([[11, 21, 41], [11, 41, 41]])
    assert (wrong, deviation) == ("at update 1, N = 21 in process 0 and 41 in process 1", None)


def test_deviations_of_loops_have_effects_fixes_and_commits() -> None:
    # The vectors of ema_update name swapped arguments too.
    loops = [one for one in known_deviations().values() if one.function == "training" or one.name == "SwappedEma"]
    named = {deviation for _, _, deviation, _ in WRONG.values()} - {None, "NoPlusOne"}
    assert named <= {one.name for one in loops}
    assert all(one.what and one.effect and fix_of(one.name) for one in loops)
    places = [place for one in loops for place in seen_in(one.name)]
    assert all(re.fullmatch("[0-9a-f]{7}", place.commit) and (place.path or not place.line) for place in places)
    assert {"SwappedEma", "EmaEveryNth", "StaleBuffers"} <= {one.name for one in loops if seen_in(one.name)}

import copy
import dataclasses
import math
import subprocess
import sys
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from tests.support.runs import CT, config, copied, images, lines, same, updated
from tests.support.sampled_noise import sample_noise
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ict_ref.checkpoint.training_state import save_checkpoint
from ict_ref.config import Config, Method, minimal
from ict_ref.distributed.process_group import ProcessGroup
from ict_ref.formulas import sigma_grid
from ict_ref.networks.model import build_model
from ict_ref.training.discretization import discretization
from ict_ref.training.ema import update_ema
from ict_ref.training.loop import resume
from ict_ref.training.loss import training_loss
from ict_ref.training.nonfinite import NonFiniteGuard
from ict_ref.training.sampled_noise import SampledNoise
from ict_ref.training.trainer import Trainer

CONTINUOUS = Method(objective="continuous", distance="squared_l2", curriculum="constant")


def on(chosen: Config, **machine: object) -> Config:
    """Return the configuration computed in another way."""
    return dataclasses.replace(chosen, machine=dataclasses.replace(chosen.machine, **machine))  # type: ignore[arg-type]


def trained(chosen: Config, steps: int) -> Trainer:
    """Return a trainer after `steps` steps."""
    trainer = Trainer(chosen, images())
    for _ in range(steps):
        trainer.update()
    return trainer


def farthest(a: Trainer, b: Trainer) -> float:
    """Return how far the states of two trainers are apart, in all their tensors."""
    mine, theirs = a.checkpoint().tensors, b.checkpoint().tensors
    assert mine.keys() == theirs.keys()
    return max(float((mine[name] - theirs[name]).abs().max()) for name in mine)


@pytest.mark.parametrize("labels", [True, False])
def test_a_trainer_describes_its_images(labels: bool) -> None:
    chosen = dataclasses.replace(config(), data=dataclasses.replace(config().data, labels=labels))
    about = Trainer(chosen, dataclasses.replace(images(), names=tuple("abcdefghij"), source="here")).images
    assert (about.event, about.source) == ((1, 8, 8), "here")
    assert (about.classes, about.class_names) == ((10, tuple("abcdefghij")) if labels else (0, None))


def test_a_distance_that_needs_a_file_is_rejected_before_training_without_it() -> None:
    chosen = dataclasses.replace(config(), method=Method(distance="lpips", lpips=""))
    with pytest.raises(ValueError, match=r"--method\.lpips: expected a file of LPIPS, got nothing"):
        Trainer(chosen, images())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "method",
    [Method(), CT, pytest.param(CONTINUOUS, marks=pytest.mark.slow)],
    ids=["iCT", "CT", "continuous"],
)
def test_accumulation_changes_nothing_but_rounding(method: Method) -> None:
    # Eight steps are the eight stages of the curriculum.
    chosen = dataclasses.replace(config(precision="float64", steps=8), method=method)
    whole, *others = (trained(on(chosen, accumulate=number), 8) for number in (1, 2, 4))
    for parts in others:
        assert farthest(whole, parts) < 1e-12
        assert float(whole.loss) == pytest.approx(float(parts.loss), rel=1e-12)
        assert float(whole.norm) == pytest.approx(float(parts.norm), rel=1e-12)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("method", [Method(), CONTINUOUS], ids=["iCT", "continuous"])
def test_recomputed_activations_give_the_same_bits(method: Method) -> None:
    # The network has attention and dropout.
    chosen = dataclasses.replace(config(), method=method)
    whole, again = trained(chosen, 12), trained(on(chosen, recompute=True), 12)
    assert same(again.checkpoint(), whole.checkpoint())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("method", [Method(), CONTINUOUS], ids=["iCT", "continuous"])
def test_recomputed_activations_are_not_kept(method: Method) -> None:
    def kept(**machine: bool) -> int:
        """Return how many values the network's calls in a step leave for the backward pass."""
        trainer, values = Trainer(on(dataclasses.replace(config(), method=method), **machine), images()), 0

        def count(tensor: Tensor) -> Tensor:
            nonlocal values
            values += tensor.numel()
            return tensor

        # Around the network only: torch does not allow these hooks around a gradient of functions.
        hooks = torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor)
        network = trainer.student.network
        network.register_forward_pre_hook(lambda *_: hooks.__enter__())
        network.register_forward_hook(lambda *_: hooks.__exit__())
        trainer.update()
        return values

    assert kept(recompute=True) < 0.5 * kept()


@pytest.mark.usefixtures("unchecked")
def test_the_continuous_objective_keeps_the_activations_of_one_call() -> None:
    # The derivative is computed without gradient, so its call leaves nothing for the backward pass.
    trainer, recorded = Trainer(dataclasses.replace(config(), method=CONTINUOUS), images()), []
    trainer.student.network.register_forward_hook(lambda *_: recorded.append(torch.is_grad_enabled()))
    trainer.update()
    assert recorded == [False, True]


def test_the_layout_of_images_changes_nothing_but_rounding() -> None:
    # float64, where rounding is far below anything else.
    chosen = config(precision="float64")
    assert farthest(trained(chosen, 10), trained(on(chosen, channels_last=True), 10)) < 1e-12
    weight = Trainer(on(chosen, channels_last=True), images()).student.network.stem.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_a_checkpoint_does_not_depend_on_the_layout() -> None:
    last = trained(on(config(), channels_last=True), 3)
    plain = Trainer(config(), images())
    plain.restore(copied(last))
    again = Trainer(on(config(), channels_last=True), images())
    again.restore(copied(plain))
    assert same(again.checkpoint(), last.checkpoint())
    for moments in again.optimizer.state.values():
        if moments["exp_avg"].ndim == 4:
            assert moments["exp_avg"].is_contiguous(memory_format=torch.channels_last)
    again.update()
    last.update()
    assert same(again.checkpoint(), last.checkpoint())


def test_the_ema_weights_are_the_closed_form_of_eq_4() -> None:
    # After n updates: decay^n theta_0 + sum_k (1 - decay) decay^(n - k) theta_k.
    trainer = Trainer(config(precision="float64", ema_decay=0.9), images())
    states = [torch.cat([p.detach().flatten() for p in trainer.student.parameters()]).clone()]
    for _ in range(6):
        trainer.update()
        states.append(torch.cat([p.detach().flatten() for p in trainer.student.parameters()]).clone())
    expected = 0.9**6 * states[0] + sum(0.1 * 0.9 ** (6 - k) * states[k] for k in range(1, 7))
    average = torch.cat([p.flatten() for p in trainer.ema.parameters()])
    torch.testing.assert_close(average, expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("decay", [-0.1, 1.0, math.nan])
def test_a_decay_outside_its_range_is_rejected(decay: float) -> None:
    model = build_model(minimal(), event=(1, 8, 8), classes=10)
    with pytest.raises(ValueError, match=r"decay: expected 0 <= decay < 1 \(iCT, Eq\. \(4\)\), got"):
        update_ema(copy.deepcopy(model), model, decay=decay)


def test_the_gradient_is_clipped_where_that_is_configured() -> None:
    # RAdam's first update is the learning rate times the gradient: its length is that of the clipped one.
    def first(limit: float | None) -> tuple[float, float]:
        trainer = Trainer(config(precision="float64", learning_rate=0.5, clip_gradient=limit), images())
        before = [p.detach().clone() for p in trainer.student.parameters()]
        trainer.update()
        moved = [float((p.detach() - old).norm()) for p, old in zip(trainer.student.parameters(), before, strict=True)]
        return math.hypot(*moved) / 0.5, float(trainer.norm)

    free, norm = first(None)
    assert free == pytest.approx(norm, rel=1e-9)
    assert first(norm / 3) == pytest.approx((norm / 3, norm), rel=1e-5)
    assert first(3 * norm) == pytest.approx((norm, norm), rel=1e-9)


def spoil(trainer: Trainer, *steps: int) -> None:
    """Make the gradient of these steps, counted from 1, infinite."""
    trainer.student.network.stem.weight.register_hook(  # type: ignore[no-untyped-call]
        lambda gradient: gradient * (math.inf if trainer.step + 1 in steps else 1.0)
    )


def test_updates_that_are_not_finite_are_skipped_as_often_as_allowed() -> None:
    trainer = Trainer(config(skip_nonfinite=2), images())
    spoil(trainer, 3, 5, 8)
    before = None
    for _ in range(7):
        if trainer.step in (2, 4):
            before = copied(trainer)
        trainer.update()
        if trainer.step in (3, 5):
            assert before is not None
            after = trainer.checkpoint()
            assert all(torch.equal(after.tensors[name], before.tensors[name]) for name in after.tensors)
    assert (trainer.step, trainer.skipped, trainer.optimizer.updates) == (7, 2, 5)
    with pytest.raises(FloatingPointError, match="at step 8, N = 21"):
        trainer.update()


def test_a_run_that_skipped_an_update_resumes_to_the_same_end() -> None:
    chosen = config(skip_nonfinite=3)
    whole, cut = Trainer(chosen, images()), Trainer(chosen, images())
    for trainer in (whole, cut):
        spoil(trainer, 1, 6)
    for _ in range(12):
        whole.update()
    for number in (1, 4, 3, 4):
        for _ in range(number):
            cut.update()
        again = Trainer(chosen, images())
        again.restore(copied(cut))
        spoil(again, 1, 6)
        cut = again
    assert cut.skipped == 2
    assert same(cut.checkpoint(), whole.checkpoint())


@pytest.mark.parametrize("method", [Method(), CT], ids=["iCT", "CT"])
def test_an_asynchronous_guard_ends_with_the_same_bits(method: Method) -> None:
    waits, goes = (Trainer(dataclasses.replace(config(), method=method), images()) for _ in range(2))
    goes.guard.immediate = False
    for _ in range(12):
        waits.update()
        goes.update()
    goes.guard.raise_recorded()
    assert same(goes.checkpoint(), waits.checkpoint())


@pytest.mark.parametrize("method", [Method(), CT], ids=["iCT", "CT"])
def test_an_asynchronous_guard_makes_updates_no_ops_from_the_first_that_is_not_finite(method: Method) -> None:
    trainer = Trainer(dataclasses.replace(config(), method=method), images())
    trainer.guard.immediate = False
    spoil(trainer, 6, 7)
    for _ in range(5):
        trainer.update()
    before = copied(trainer)
    for _ in range(4):
        trainer.update()
    # Student, EMA weights, teacher and the optimizer's moments and counts.
    trainer.step = before.step  # the host has counted them
    assert same(trainer.checkpoint(), before)
    with pytest.raises(FloatingPointError, match=r"norm of its gradient (inf|nan) at step 6, N = \d+, noise levels"):
        trainer.guard.raise_recorded()


def test_the_step_of_a_bad_update_is_exact_beyond_2_to_the_24() -> None:
    described: list[int] = []

    def describe(step: int, *_: float) -> str:
        described.append(step)
        return "bad"

    guard = NonFiniteGuard(torch.device("cpu"), allowed=0, describe=describe)
    guard.immediate = False
    guard.verdict(2**24 + 1, torch.tensor(torch.nan), torch.tensor(1.0))
    with pytest.raises(FloatingPointError, match="bad"):
        guard.raise_recorded()
    assert described == [2**24 + 1]


def test_the_noise_levels_of_a_bad_step_are_those_that_were_sampled() -> None:
    trainer = Trainer(config(), images())
    spoil(trainer, 1)
    index = sample_noise(0, range(4), trainer.config, event=(1,), sites=[]).index
    sigmas = sigma_grid(11)
    low, high = float(sigmas[int(index.min())]), float(sigmas[int(index.max()) + 1])
    with pytest.raises(FloatingPointError, match=f"noise levels {low:.4g} to {high:.4g}"):
        trainer.update()


class Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A count of the reads of tensor values."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = str(func)
        if any(part in name for part in ("_local_scalar_dense", "is_nonzero", "aten.equal", "aten.nonzero")):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("method", [Method(), CT, CONTINUOUS], ids=["iCT", "CT", "continuous"])
def test_an_update_reads_no_number_from_the_device(
    method: Method, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on an accelerator, where formulas look at no values and the trainer does not wait.
    monkeypatch.setattr("ict_ref.formulas._domain.looks_at", lambda *_: False)
    chosen = dataclasses.replace(config(clip_gradient=1.0, precision=precision), method=method)
    trainer = Trainer(chosen, images())
    trainer.guard.immediate = False
    trainer.update()
    with Reads() as reads:
        trainer.update()
    assert reads.names == []
    with Reads() as reads:
        trainer.guard.raise_recorded()
        float(trainer.loss)
    assert len(reads.names) >= 1  # the mode can count


class OneDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode that rejects operations between host and device, for which the host would wait."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        devices = {value.device.type for value in [*args, *kwargs.values()] if isinstance(value, Tensor)}
        target = kwargs.get("device")
        if target is not None:
            devices.add(torch.device(target).type)
        if len(devices) > 1:
            raise AssertionError(f"{func} between {devices}")
        return func(*args, **kwargs)


@pytest.mark.parametrize("method", [Method(), CT], ids=["iCT", "CT"])
@pytest.mark.parametrize("architecture", ["adm", "ncsnpp"])
def test_a_loss_stays_on_its_device(method: Method, architecture: Literal["adm", "ncsnpp"]) -> None:
    # On the meta device nothing can be read or copied, so code that works there never makes the host wait.
    network = dataclasses.replace(minimal().network, architecture=architecture, head_channels=0)
    chosen = dataclasses.replace(config(), method=method, network=network)
    meta = torch.device("meta")
    model = build_model(chosen, event=(1, 8, 8), classes=10).to(meta)
    drawn = sample_noise(0, range(4), chosen, event=(1, 8, 8), sites=model.network.dropout_sites())
    noise = SampledNoise(drawn.index.to(meta), drawn.z.to(meta), tuple(mask.to(meta) for mask in drawn.masks))
    x, labels = torch.zeros(16, 1, 8, 8, device=meta), torch.zeros(16, dtype=torch.int64, device=meta)
    levels = discretization(0, chosen, meta)
    with OneDevice():  # type: ignore[no-untyped-call]
        loss = training_loss(model, x, labels, noise, levels, method).mean()
        torch.autograd.backward(loss)
        torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        update_ema(model, model, decay=0.5)
        with pytest.raises((AssertionError, RuntimeError)):  # the mode can reject
            torch.ones(3).to(meta)


def test_under_autocast_the_network_alone_is_in_bfloat16() -> None:
    chosen = config(precision="bfloat16")
    trainer = Trainer(chosen, images())
    seen: dict[str, torch.dtype] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_module: object, given: tuple[Any, ...], returned: Any) -> None:
            seen[f"{name}, in"], seen[f"{name}, out"] = given[0].dtype, returned.dtype

        return hook

    network = trainer.student.network
    network.stem.register_forward_hook(note("stem"))
    network.get_submodule("middle.0.block.conv0").register_forward_hook(note("conv"))
    network.embedding.register_forward_hook(note("embedding"))
    trainer.student.register_forward_hook(note("f"))
    trainer.update()
    assert seen == {
        "stem, in": torch.float32, "stem, out": torch.float32,
        "conv, in": torch.float32, "conv, out": torch.bfloat16,
        "embedding, in": torch.float32, "embedding, out": torch.float32,
        "f, in": torch.float32, "f, out": torch.float32,
    }  # fmt: skip
    assert trainer.loss.dtype == torch.float32
    assert {p.dtype for p in trainer.student.parameters()} == {torch.float32}
    assert {p.grad.dtype for p in trainer.student.parameters() if p.grad is not None} == {torch.float32}
    assert trainer.ema.autocast is None


def test_under_autocast_the_boundary_is_exact_and_neighbouring_levels_differ() -> None:
    model = Trainer(config(precision="bfloat16"), images()).student
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    x, labels = torch.randn(4, 1, 8, 8, generator=generator), torch.arange(4)
    assert torch.equal(model(x, torch.full((4,), 0.002), labels), x)
    # N = 1281: every level's embedding is another one, in float32, also where bfloat16 would round two to one.
    levels = sigma_grid(1281).float()
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = model.network.embedding(levels.log() / 4, torch.zeros(1281, dtype=torch.int64))
    assert embeddings.dtype == torch.float32
    assert all(not torch.equal(a, b) for a, b in pairwise(embeddings))


def test_autocast_is_near_full_precision_but_differs_from_it() -> None:
    full, half = trained(config(), 8), trained(config(precision="bfloat16"), 8)
    assert float(half.loss) == pytest.approx(float(full.loss), rel=0.02)
    pairs = zip(full.student.parameters(), half.student.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)


def test_a_process_group_of_one_is_the_run_itself() -> None:
    group = ProcessGroup()
    value = torch.ones(3)
    assert group.mean_(value) is value
    assert group.any(True)
    assert not group.any(False)
    assert group.microbatches(4, 1) == [range(4)]


@pytest.mark.slow
def test_a_compiled_network_trains_alike_and_its_checkpoint_fits_an_uncompiled_one(tmp_path: Path) -> None:
    # Traced as for a GPU, and then executed as it is: to generate code for a CPU would take minutes. Shapes are not
    # checked: the checker cannot be traced.
    code = (
        "import functools, sys, torch\n"
        "torch.compile = functools.partial(torch.compile, backend='aot_eager', fullgraph=True)\n"
        "from ict_ref.launch.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    options = [
        "--config",
        "minimal",
        "--train.steps",
        "8",
        "--train.precision",
        "float64",
        "--out",
        str(tmp_path / "run"),
    ]
    options += ["--train.precision", "float64"]
    command = [sys.executable, "-c", code, *options, "--network.multipliers", "1", "--machine.compile"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    chosen = config(steps=8, precision="float64")
    chosen = dataclasses.replace(chosen, network=dataclasses.replace(chosen.network, multipliers=(1,)))
    plain = Trainer(chosen, images())
    losses = [updated(plain) for _ in range(8)]
    assert [line["loss"] for line in lines(tmp_path / "run")] == pytest.approx(losses, rel=1e-10)
    again = Trainer(chosen, images())
    assert resume(again, tmp_path / "run") == []
    assert again.step == 8
    assert farthest(again, plain) < 1e-10


@dataclasses.dataclass(frozen=True)
class Relay(ProcessGroup):
    """A process whose shared tensors go through a list instead of a network."""

    sent: list[Tensor] = dataclasses.field(default_factory=list)

    def share_(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            if self.first:
                self.sent.append(tensor.clone())
            else:
                tensor.copy_(self.sent.pop(0))


@pytest.mark.usefixtures("unchecked")
def test_the_first_process_shares_all_on_which_later_updates_depend() -> None:
    sent: list[Tensor] = []
    chosen = dataclasses.replace(config(skip_nonfinite=2), method=CT)
    first, other = (Trainer(chosen, images(), Relay(rank=rank, sent=sent)) for rank in (0, 1))
    for _ in range(4):
        first.update()
    first.step, first.guard.skipped = 5, 1
    first.share()
    other.share()
    assert sent == []
    assert (other.step, other.skipped, other.optimizer.updates) == (5, 1, 4)
    assert same(other.checkpoint(), first.checkpoint())
    other.microbatches = first.microbatches  # of the same noise shards
    assert updated(other) == updated(first)
    assert same(other.checkpoint(), first.checkpoint())


@pytest.mark.usefixtures("unchecked")
def test_a_process_resumes_with_what_the_first_one_read(tmp_path: Path) -> None:
    sent: list[Tensor] = []
    first, other = (Trainer(config(), images(), Relay(rank=rank, sent=sent)) for rank in (0, 1))
    saved = trained(config(), 2)
    save_checkpoint(tmp_path, saved.checkpoint(), keep=1)
    lost = f"{tmp_path / 'metrics.jsonl'}: expected lines up to step 2, got 0; the others are lost"
    assert resume(first, tmp_path) == [lost]
    assert resume(other, tmp_path / "of another machine") == []
    assert other.step == 2
    assert same(other.checkpoint(), saved.checkpoint())


def test_a_process_alone_compiles_student_and_teacher_but_not_the_ema_weights() -> None:
    chosen = on(dataclasses.replace(config(), method=CT), compile=True)
    trainer = Trainer(chosen, images())
    assert trainer.teacher is not None
    compiled = [
        model.network._compiled_call_impl is not None for model in (trainer.student, trainer.teacher, trainer.ema)
    ]
    assert compiled == [True, True, False]
    plain = Trainer(dataclasses.replace(config(), train=dataclasses.replace(config().train, steps=10_000)), images())
    assert plain.student.network._compiled_call_impl is None  # auto, on a CPU


def test_cuda_graphs_are_a_mode_of_the_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[object] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda *_, **options: modes.append(options["mode"]))
    for graphs in (False, True):
        Trainer(on(config(), compile=True, cuda_graphs=graphs), images())
    assert modes == [None, "reduce-overhead"]

import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.support.runs import config, images, lines, never, recorded

from ict_ref.launch.__main__ import main
from ict_ref.training import metrics_log
from ict_ref.training.discretization import discretization
from ict_ref.training.loop import fit, resume
from ict_ref.training.metrics_log import forget_metrics_after, summary
from ict_ref.training.trainer import Trainer


@pytest.mark.parametrize("line", ["{}", "[1]", "nonsense", '{"step": "x"}', '{"step": Infinity}', "[" * 100_000, ""])
def test_damaged_metrics_are_rejected_and_kept(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"metrics\.jsonl is damaged in line 2"):
        forget_metrics_after(tmp_path, 5)
    assert path.read_bytes() == before


def test_metrics_after_a_step_and_a_cut_off_line_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for cut_off in ('{"st', '{"step": 4}', ""):
        path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n' + cut_off)
        forget_metrics_after(tmp_path, 2)
        assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_a_line_describes_its_step(tmp_path: Path) -> None:
    trainer = Trainer(config(), images())
    assert not fit(trainer, tmp_path, lambda: trainer.step >= 7)
    (line,) = (line for line in lines(tmp_path) if line["step"] == 7)
    assert line["levels"] == len(discretization(6, trainer.config).sigmas)
    assert line["loss"] == float(trainer.loss)
    # The parameters still have the gradient of the last update.
    norms = [float(p.grad.double().norm()) for p in trainer.student.parameters() if p.grad is not None]
    assert line["gradient_norm"] == pytest.approx(sum(norm**2 for norm in norms) ** 0.5, rel=1e-5)


@pytest.mark.usefixtures("unchecked")
def test_lines_are_written_at_their_interval_and_at_the_end(tmp_path: Path) -> None:
    assert fit(Trainer(recorded(log_every=15), images()), tmp_path, never)
    assert [line["step"] for line in lines(tmp_path)] == [15, 30, 40]


@pytest.mark.usefixtures("unchecked")
def test_tensorboard_has_the_same_numbers_also_after_a_resume(tmp_path: Path) -> None:
    chosen = recorded(tensorboard=True, log_every=5)
    trainer = Trainer(chosen, images())
    assert not fit(trainer, tmp_path, lambda: trainer.step >= 12)
    again = Trainer(chosen, images())
    resume(again, tmp_path)
    assert fit(again, tmp_path, never)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    names = set(lines(tmp_path)[0]) - {"step"}
    assert names == set(FIELDS) - {"tflop_per_second", "share_of_peak"}
    for name in names:
        written = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in written] == [line["step"] for line in lines(tmp_path)]
        assert [value for _, value in written] == pytest.approx([line[name] for line in lines(tmp_path)], rel=1e-6)


FIELDS = {
    "levels": 641, "loss": 0.01234, "gradient_norm": 0.5, "images_per_second": 1830.4, "seconds_per_step": 0.559,
    "tflop_per_second": 376.0, "share_of_peak": 0.381, "peak_memory_bytes": 61_200_000_000, "microbatches": 4,
    "skipped_steps": 0,
}  # fmt: skip


def test_the_documentation_names_every_field() -> None:
    described = metrics_log.__doc__ or ""
    pages = [Path(name).read_text() for name in ("docs/training.md", "docs/file_formats.md")]
    for name in ("step", *FIELDS):
        assert f"\n{name} " in described
        assert all(f"`{name}`" in page for page in pages), name


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "N 641, loss 0.01234, 1830 images/s, 38 % of peak, 61.2 GB"),
        ({"images_per_second": 0.4321, "skipped_steps": 3},
         "N 641, loss 0.01234, 0.43 images/s, 38 % of peak, 61.2 GB, 3 skipped"),
        ({"share_of_peak": None, "tflop_per_second": None}, "N 641, loss 0.01234, 1830 images/s, 61.2 GB"),
        (dict.fromkeys(list(FIELDS)[4:]), "N 641, loss 0.01234, 1830 images/s"),
    ],
    ids=["all", "slow, with skipped steps", "without the peak", "a line of an earlier version"],
)  # fmt: skip
def test_a_line_is_summed_up_in_a_few_words(changed: dict[str, float | None], expected: str) -> None:
    values = {name: value for name, value in {**FIELDS, **changed}.items() if value is not None}
    assert summary(values) == expected


def test_a_missing_tensorboard_is_rejected_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert main(["--config", "minimal", "--record.tensorboard", "--out", str(tmp_path / "run")]) == 2
    assert "--record.tensorboard: expected the package tensorboard" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()

import io
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tests.support.runs import config, images, lines, never, recorded

from ict_ref.launch.__main__ import main
from ict_ref.training import metrics_log
from ict_ref.training.discretization import discretization
from ict_ref.training.loggers import JsonLines, Logger, TensorBoard, open_loggers
from ict_ref.training.loop import fit, resume
from ict_ref.training.metrics_log import forget_metrics_after, summary
from ict_ref.training.trainer import Trainer


@pytest.mark.parametrize(
    "line", ["{}", "[1]", "nonsense", '{"step": "x"}', '{"step": Infinity}', "[" * 100_000, "", "\0" * 1000]
)
def test_damaged_metrics_are_named_and_kept_beside_the_others(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    before = path.read_bytes()
    (note,) = forget_metrics_after(tmp_path, 5)
    assert note == f"{path} is damaged in line 2; it is now metrics.jsonl.damaged, the rest is kept"
    assert path.read_text() == '{"step": 1}\n{"step": 3}\n'
    assert (tmp_path / "metrics.jsonl.damaged").read_bytes() == before
    assert forget_metrics_after(tmp_path, 5) == []


@pytest.mark.parametrize(
    "content", [None, b"", b"\0" * 1000, b'{"step": 10}\n{"step": 2', b'{"step": 10}\n{"step": 40}\n']
)
def test_lost_metrics_are_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "metrics.jsonl"
    if content is not None:
        path.write_bytes(content)
    last = 10 if content and b"10" in content else 0
    note = f"{path}: expected lines up to step 20, got {last}; the others are lost"
    assert forget_metrics_after(tmp_path, 25, log_every=10) == [note]
    for step, every in ((9, 10), (25, 0)):
        assert forget_metrics_after(tmp_path, step, every) == []


def test_a_run_whose_metrics_are_lost_goes_on(tmp_path: Path) -> None:
    trainer = Trainer(recorded(log_every=2), images())
    assert not fit(trainer, tmp_path, lambda: trainer.step >= 5)
    (tmp_path / "metrics.jsonl").unlink()
    again = Trainer(recorded(log_every=2), images())
    assert resume(again, tmp_path) == [
        f"{tmp_path / 'metrics.jsonl'}: expected lines up to step 4, got 0; the others are lost"
    ]
    assert not fit(again, tmp_path, lambda: again.step >= 7)
    assert [line["step"] for line in lines(tmp_path)] == [6]


@pytest.mark.parametrize("name", ["metrics.jsonl", "tensorboard"])
@pytest.mark.parametrize("there", [True, False])
def test_metrics_are_not_written_through_links(name: str, there: bool, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    if there:
        mine.mkdir() if name == "tensorboard" else mine.write_text("mine")
    (tmp_path / name).symlink_to(mine)
    with pytest.raises(ValueError, match=f"{name}: expected a regular file, got a symbolic link"):
        open_loggers(tmp_path, step=0, options={"record.tensorboard": True})
    assert mine.exists() == there
    assert not mine.is_dir() or list(mine.iterdir()) == []


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


def test_every_logger_takes_every_call_of_the_protocol(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    Image.new("L", (3, 2), 7).save(sheet)
    loggers = open_loggers(tmp_path, step=0, options={"record.tensorboard": True})
    assert [type(logger) for logger in loggers] == [JsonLines, TensorBoard]
    for logger in loggers:
        assert isinstance(logger, Logger)
        logger.log(1, {"loss": 0.5})
        logger.image(1, sheet)
        logger.sync()
    assert lines(tmp_path) == [{"step": 1, "loss": 0.5}]
    for logger in loggers:
        logger.close()
    (logger,) = open_loggers(tmp_path, step=1, options={"record.tensorboard": False})
    assert isinstance(logger, JsonLines)
    logger.close()


@pytest.mark.usefixtures("unchecked")
def test_tensorboard_has_the_sheets_of_samples_and_the_options(tmp_path: Path) -> None:
    trainer = Trainer(recorded(tensorboard=True, sample_every=2), images())

    def show(path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (6, 4), (trainer.step, 20, 30)).save(path)

    assert not fit(trainer, tmp_path, lambda: trainer.step >= 5, show_samples=show)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    sheets = events.Images("samples")
    assert [sheet.step for sheet in sheets] == [2, 4]
    with Image.open(io.BytesIO(sheets[1].encoded_image_string)) as sheet:
        assert (sheet.size, sheet.getpixel((5, 3))) == ((6, 4), (4, 20, 30))
    (start,) = (
        HParamsPluginData.FromString(content).session_start_info
        for tag, content in events.PluginTagToContent("hparams").items()
        if tag.endswith("session_start_info")
    )
    assert start.hparams["train.batch_size"].number_value == trainer.config.train.batch_size
    assert start.hparams["method.distance"].string_value == trainer.config.method.distance
    assert start.hparams["network.multipliers"].string_value == str(list(trainer.config.network.multipliers))
    assert start.hparams["record.tensorboard"].number_value == 1  # as torch writes true


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
    assert "expected the package tensorboard (one of the extra 'tensorboard')" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_events_after_the_step_of_a_resume_are_not_shown(tmp_path: Path) -> None:
    for start, steps in ((0, (1, 2, 3, 4)), (2, (3, 5))):
        logger = TensorBoard(tmp_path, start, {"train.steps": 5})
        for step in steps:
            logger.log(step, {"loss": start + step})
        logger.close()
        time.sleep(1.1)  # names of event files count seconds
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 1), (2, 2), (3, 5), (5, 7)]

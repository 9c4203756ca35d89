"""Figures as files, and `python -m ict_ref.figures`: what it writes, keeps, prints and refuses."""

import csv
import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tests.support.one_line import rejection

from ict_ref.figures import __main__ as command
from ict_ref.figures.catalogue import FIGURES, AtOnce, Entry, Maker, Tick, maker_of
from ict_ref.figures.options import GROUPS
from ict_ref.utils.chart import drawn, files, looks_of, table, typeset
from ict_ref.utils.panel import Figure, Panel

TWO = Figure(
    "9z",
    "Two panels, sigma_max = 80.",
    (
        Panel("left", "log sigma", "y", {"a": ((1 / 7, 1 / 3), (2.0, 3.0)), "b": ((1.0, 1e-17),)}, marks=("b",)),
        Panel("right", "x", "y", {"c": ((1.0, 2.0), (3.0, 4.0)), "a": ((5.0, 6.0),)}, "log", "log", dots=("c",)),
    ),
)


def test_the_csv_has_all_points_that_are_drawn_with_all_their_digits() -> None:
    rows = list(csv.DictReader(io.StringIO(table(TWO))))
    assert list(rows[0]) == ["panel", "curve", "x", "y"]
    drawing = drawn(TWO)
    shown = [
        (axes.get_title(), line.get_label(), float(x), float(y))
        for axes in drawing.axes
        for line in axes.lines
        for x, y in np.asarray(line.get_xydata())
    ]
    assert [(row["panel"], row["curve"], float(row["x"]), float(row["y"])) for row in rows] == shown
    assert shown[0] == ("left", "a", 1 / 7, 1 / 3)
    assert len(shown) == 6


def test_axes_have_their_names_scales_and_the_caption_below() -> None:
    drawing = drawn(TWO)
    assert [axes.get_xlabel() for axes in drawing.axes] == ["log\N{NO-BREAK SPACE}\N{GREEK SMALL LETTER SIGMA}", "x"]
    assert [axes.get_xscale() for axes in drawing.axes] == ["linear", "log"]
    assert [axes.get_yscale() for axes in drawing.axes] == ["linear", "log"]
    caption = drawing.get_supxlabel().replace("\N{NO-BREAK SPACE}", " ").replace("\n", " ")
    assert caption == "Figure 9z. Two panels, sigma_max = 80."
    legend = drawing.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b", "c"]


def test_a_curve_looks_the_same_in_all_panels_and_dots_take_the_colours_of_lines() -> None:
    lines = {line.get_label(): line for axes in drawn(TWO).axes for line in axes.lines}
    left, right = (axes.lines for axes in drawn(TWO).axes)
    assert left[0].get_color() == right[1].get_color() == lines["c"].get_color() != lines["b"].get_color()
    assert [lines[name].get_linestyle() for name in "abc"] == ["-", "-", "None"]
    assert [lines[name].get_marker() for name in "abc"] == ["", "o", "o"]
    many = Figure("x", "", (Panel("", "", "", {str(k): ((0.0, 0.0),) for k in range(14)}),))
    assert len(set(looks_of(many).values())) == 14


@pytest.mark.parametrize(
    ("ascii", "print_"),
    [
        ("log sigma' - log sigma", "log_σ′_−_log_σ"),  # noqa: RUF001
        ("(x - y)^2, squared l2, l1", "(x_−_y)², squared ℓ₂, ℓ₁"),  # noqa: RUF001
        ("P_mean = -1.1, pseudo-Huber, 10^25, sigma_max", "P_mean_=_−1.1, pseudo-Huber, 10^25, sigma_max"),  # noqa: RUF001
        ("Eq. (9) of all2", "Eq._(9) of all2"),
    ],
)
def test_what_is_written_in_ascii_is_drawn_in_the_signs_of_print(ascii: str, print_: str) -> None:  # noqa: A002
    assert typeset(ascii).replace("\N{NO-BREAK SPACE}", "_") == print_


def test_the_same_figure_has_the_same_bytes_and_names_itself() -> None:
    once, again = files(TWO), files(TWO)
    assert once == again
    assert list(once) == [".csv", ".svg", ".png"]
    with Image.open(io.BytesIO(once[".png"])) as image:
        assert image.info["Title"] == "Figure 9z"
        assert image.info["Description"] == TWO.caption
    svg = once[".svg"].decode()
    assert "Two panels, sigma_max = 80." in svg
    assert "<dc:date>" not in svg


def test_another_process_with_another_matplotlibrc_writes_the_same_bytes_and_opens_no_pyplot(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text(
        "axes.facecolor: black\nxtick.direction: in\nfont.size: 20\nsvg.hashsalt: other\n"
    )
    code = (
        "import sys\nfrom ict_ref.figures.__main__ import main\n"
        "assert main(['--only', '6a', '--out', 'made']) == 0\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    environment = {**os.environ, "MATPLOTLIBRC": str(tmp_path), "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True)
    for suffix, content in files(maker_of("6a").make(lambda: None)).items():
        assert (tmp_path / "made" / f"6a{suffix}").read_bytes() == content


def test_every_figure_has_a_maker_that_the_command_can_call() -> None:
    for number in FIGURES:
        maker = maker_of(number)
        assert isinstance(maker, Maker)
        assert maker.updates >= 0
        assert GROUPS["analytic"][:4] == ["1a", "3b", "4a", "6a"]
        if number in GROUPS["analytic"]:
            figure = maker.make(lambda: None)
            assert figure.number == number


class TrainedFigure:
    """Ticks three times."""

    updates = 3

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error

    def make(self, tick: Tick, /) -> Figure:
        for _ in range(3):
            tick()
        if self.error is not None:
            raise self.error
        return TWO


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Maker]:
    """Have two figures, of which one is trained for, and stand in an empty folder."""
    makers: dict[str, Maker] = {"8a": AtOnce(lambda: Figure("8a", "At once.", TWO.panels)), "9z": TrainedFigure()}
    monkeypatch.setitem(sys.modules, "tiny_figures", SimpleNamespace(MAKERS=makers))
    monkeypatch.setattr("ict_ref.figures.catalogue.ANALYTIC", "tiny_figures")
    entries = {"8a": Entry("at once", "tiny_figures", 0.1), "9z": Entry("trained", "tiny_figures", 600.0)}
    for number in list(FIGURES):
        monkeypatch.delitem(FIGURES, number)
    for number, entry in entries.items():
        monkeypatch.setitem(FIGURES, number, entry)
    monkeypatch.setattr("ict_ref.figures.options.GROUPS", {"analytic": ["8a"], "experiments": ["9z"]})
    monkeypatch.chdir(tmp_path)
    return makers


@pytest.mark.usefixtures("tiny")
def test_without_names_all_are_made_and_each_prints_a_line_with_its_path_and_caption(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command.main([]) == 0
    assert capsys.readouterr().out.splitlines() == ["figures/8a.png  At once.", f"figures/9z.png  {TWO.caption}"]
    names = sorted(path.name for path in Path("figures").iterdir())
    assert names == [f"{number}{suffix}" for number in ("8a", "9z") for suffix in (".csv", ".png", ".svg")]
    assert Path("figures/9z.csv").read_text() == table(TWO)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("only", "made"),
    [(["analytic"], ["8a"]), (["experiments"], ["9z"]), (["9z"], ["9z"]), (["9z", "analytic", "8a"], ["8a", "9z"])],
)
def test_only_those_that_are_named_are_made_in_the_table_s_order(
    only: list[str], made: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--only", *only, "--out", "deep/er"]) == 0
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()] == [f"deep/er/{n}.png" for n in made]


@pytest.mark.usefixtures("tiny")
def test_a_figure_that_is_there_is_kept_and_a_missing_file_of_one_is_made_again(
    tiny: dict[str, Maker], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--only", "8a"]) == 0
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path("figures").iterdir()}
    tiny["8a"] = TrainedFigure(ValueError("made again"))
    capsys.readouterr()
    assert command.main(["--only", "8a"]) == 0
    assert capsys.readouterr().out == "figures/8a.png  kept, it exists\n"
    tiny["8a"] = AtOnce(lambda: Figure("8a", "At once.", TWO.panels))
    Path("figures/8a.svg").unlink()
    assert command.main(["--only", "8a"]) == 0
    for path, (content, time) in before.items():
        assert path.read_bytes() == content
        assert (path.stat().st_mtime_ns == time) == (path.suffix != ".svg")


@pytest.mark.usefixtures("tiny")
def test_a_file_of_another_figure_is_not_overwritten_nor_joined_by_those_of_this_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("figures").mkdir()
    Path("figures/8a.csv").write_text("mine")
    assert command.main(["--only", "8a"]) == 2
    shown = capsys.readouterr()
    assert shown.err == (
        "ict_ref.figures: --out: expected a new path or the same file, got another figures/8a.csv. "
        "Move it, or choose another --out.\n"
    )
    assert [path.read_text() for path in Path("figures").iterdir()] == ["mine"]


@pytest.mark.usefixtures("tiny")
def test_on_a_full_disk_no_half_of_a_file_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ict_ref.utils.atomic.os.fsync", full)
    assert command.main([]) == 2
    assert capsys.readouterr().err == "ict_ref.figures: cannot use figures/8a.csv: No space left on device\n"
    assert not Path("figures").exists()


def test_what_is_made_when_it_is_stopped_stays(tiny: dict[str, Maker], capsys: pytest.CaptureFixture[str]) -> None:
    tiny["9z"] = TrainedFigure(KeyboardInterrupt())
    assert command.main([]) == 130
    assert len(list(Path("figures").glob("8a.*"))) == 3
    assert not list(Path("figures").glob("9z.*"))
    assert capsys.readouterr().err.splitlines()[-1] == "ict_ref.figures: stopped; the same command resumes"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--only", "9q"],
            "analytic, experiments, got 9q",
        ),
        (["--only"], "--only: expected values, got nothing"),
        (["--olny", "1a"], "unknown option --olny; perhaps you meant --only"),
        (["--out", "file"], "--out: expected a writable folder, got file"),
        (["--out", "file/below"], "got file/below. Choose another than"),
        (["--out", "dangling"], "Existing files are not overwritten"),
        (["--sheet", "2", "3"], "--sheet: expected --run too, got --sheet alone"),
        (["--labels", "2"], "--labels: expected --run too, got --labels alone"),
        (["--seed", "0"], "--seed: expected --run too, got --seed alone"),
        (["--device", "cpu"], "--device: expected --run too, got --device alone"),
        (["--run", "file", "--only", "1a"], "--only: expected only without --run, got both"),
        (["--run", "file", "--sheet", "2"], "--sheet: expected 2 integers, got 2"),
        (["--run", "file", "--seed", "-1"], "--seed: expected an integer >= 0, got -1"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    Path("dangling").symlink_to("nothing")
    assert command.main(arguments) == 2
    assert said in rejection(capsys, "ict_ref.figures")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "file"]


def test_without_matplotlib_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "ict_ref.utils.chart")
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert command.main(["--out", str(tmp_path / "figures")]) == 2
    assert rejection(capsys, "ict_ref.figures").endswith("Run pip install 'matplotlib>=3.10'.\n")
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_figure_and_neither_help_nor_errors_wait_for_torch() -> None:
    code = (
        "import sys\nfrom ict_ref.figures.__main__ import main\n"
        "assert main(['--only', '9q']) == 2\n"
        "try:\n    main(['--help'])\nfinally:\n    assert not {'torch', 'matplotlib', 'numpy'} & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for number, entry in FIGURES.items():
        assert f"\n  {number}  {entry.what}" in done.stdout

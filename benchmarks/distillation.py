"""Distil a denoiser of digits, from its weights and from random ones: `python -m benchmarks.distillation --out FOLDER`.

The denoiser is trained first. Then two students of the same method and seed learn from it, and their checkpoints are
scored. The command writes distillation.png, .svg and .csv to the folder. It resumes where it was stopped.
"""

import argparse
from pathlib import Path

from ict_ref.evaluate.__main__ import main as evaluate
from ict_ref.evaluate.curve import NAME, read_curve
from ict_ref.export_checkpoint import main as export
from ict_ref.launch.__main__ import main as launch
from ict_ref.utils.atomic import write_atomically
from ict_ref.utils.chart import files
from ict_ref.utils.panel import Figure, Panel, Points

DENOISING = ["--method.objective", "denoising", "--method.p-mean", "-1.2", "--method.p-std", "1.2"]
UNSCORED = [f"--acceptance.{name}=None" for name in ("accuracy", "frechet-distance", "recall")]


def trained_denoiser(folder: Path, steps: int, *options: str) -> Path:
    """Train the denoiser, with further options, unless its file exists, and return the file."""
    file, run = folder / "denoiser.safetensors", folder / "denoiser"
    if not file.exists():
        train = [f"--train.steps={steps}", *options]
        succeed(launch(["--config", "digits", *DENOISING, *UNSCORED, *train, "--out", str(run)]))
        succeed(export([str(run), "--out", str(file)]))
    return file


def distilled(folder: Path, name: str, denoiser: Path, steps: int, *options: str) -> Points:
    """Distil the denoiser, score the student's checkpoints, and return the Frechet distance by the update."""
    run = folder / name
    method = ["--method.objective", "distillation", "--method.denoiser", str(denoiser)]
    every = max(1, steps // 8)
    train = [f"--train.steps={steps}", f"--record.milestone-every={every}", "--train.ema-decay=0.9", *options]
    succeed(launch(["--config", "digits", *method, *train, *UNSCORED, "--out", str(run)]))
    succeed(evaluate([str(run), "--reference", "digits:held-out", "--every-milestone"]))
    points = read_curve(run / NAME).points
    scores = ((float(point.step), point.scores["frechet_distance"]) for point in points)
    return tuple((step, distance) for step, distance in scores if distance is not None)


def succeed(status: int) -> None:
    """End the program with the status of a command, unless it is 0."""
    if status:
        raise SystemExit(status)


def figure(curves: dict[str, Points], words: str) -> Figure:
    """Return the figure of both students."""
    panel = Panel(
        "599 samples of one step, pixels", "update", "Frechet distance", curves, y_scale="log", marks=[*curves]
    )
    return Figure("", words, (panel,))


def main() -> None:
    """Train, distil twice, score and draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.distillation", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and the figure")
    parser.add_argument("--denoiser-steps", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=240)
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    denoiser = trained_denoiser(chosen.out, chosen.denoiser_steps)
    curves = {
        "from the denoiser's weights": distilled(
            chosen.out, "weights", denoiser, chosen.steps, f"--train.init={denoiser}"
        ),
        "from random weights": distilled(chosen.out, "random", denoiser, chosen.steps),
    }
    words = (
        f"Distillation of a denoiser of digits, trained here for {chosen.denoiser_steps} updates, by a student that "
        f"starts from its weights and by one that starts from random weights: {chosen.steps} updates of 64 images, EMA "
        "decay 0.9, one seed. Frechet distance in pixels of one-step samples against the held-out digits; lower is "
        "better."
    )
    for suffix, content in files(figure(curves, words)).items():
        write_atomically(chosen.out / f"distillation{suffix}", content)


if __name__ == "__main__":
    main()

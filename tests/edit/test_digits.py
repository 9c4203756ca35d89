"""That editing works: on held-out digits, after a run that is a fifth as long as the preset's.

The model knows the label, so that a classifier which finds it in the result says little: whatever fits the label is
found. What the seen part adds shows in pixels. Each result is compared with the hidden part of its own original and
with those of others of the same class: the label alone does not distinguish them.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from sklearn.svm import SVC
from tests.edit.test_edit import edited

from ict_ref.data.dataset import digits
from ict_ref.launch.__main__ import main as launch

COUNT = 200
DATA = digits()
SHOWN = DATA.held_out.evenly(COUNT)
ORIGINALS = SHOWN.pixels.numpy() / 127.5 - 1
LABELS = SHOWN.labels.numpy()


def apart(made: npt.NDArray[np.float64], hidden: npt.NDArray[np.bool_]) -> tuple[float, float, float]:
    """Return the rms error of what was made against its own original and against all others of its class, and how many
    standard errors the mean squares are apart.
    """
    distance = ((made[:, None] - ORIGINALS[None])[:, :, 0, hidden] ** 2).mean(2)
    own = np.eye(COUNT, dtype=bool)
    others = np.ma.masked_where(own | (LABELS[:, None] != LABELS), distance)
    gain = np.asarray(others.mean(1)) - distance[own]
    return float(distance[own].mean() ** 0.5), float(others.mean() ** 0.5), gain.mean() / gain.std() * COUNT**0.5


@pytest.mark.thorough  # test_edit.py has each step of each task, on a run of a few steps
@pytest.mark.usefixtures("unchecked")
def test_what_is_seen_of_a_digit_informs_what_is_made_of_it(tmp_path: Path) -> None:
    thresholds = [
        option for name in ("accuracy", "frechet-distance", "recall") for option in (f"--acceptance.{name}", "None")
    ]
    run = str(tmp_path / "run")
    options = ["--config", "digits", "--train.steps", "300", "--train.ema-decay", "0.97", *thresholds, "--out", run]
    assert launch(options) == 0

    classifier = SVC().fit(DATA.train.pixels.reshape(-1, 64).numpy() / 127.5 - 1, DATA.train.labels.numpy())

    def found(images: npt.NDArray[np.float64]) -> float:
        return float((classifier.predict(images.reshape(COUNT, 64)) == LABELS).mean())

    def made(*task: str) -> npt.NDArray[np.float64]:
        name = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        return edited(run, "digits:held-out", "--task", *task, "--count", str(COUNT), out=name)[:, :1] / 127.5 - 1

    hidden = np.zeros((8, 8), bool)
    hidden[2:6, 2:6] = True
    filled = made("inpaint", "--mask", "center")
    own, others, errors = apart(filled, hidden)
    print(f"{own:.3f} from its own original, {others:.3f} from others of its class: {errors:.1f} standard errors")
    assert errors > 3
    assert own < 0.96 * others
    # Where nothing is seen, only the label determines the image: it is not nearer to its own original.
    Image.new("L", (8, 8), "white").save(tmp_path / "all.png")
    unseen = made("inpaint", "--mask", str(tmp_path / "all.png"), "--sigmas", "80")
    assert abs(apart(unseen, hidden)[2]) < 2.5
    # Chance is 0.1, and what is seen alone has some of it.
    assert found(filled) > 0.85
    noise = np.random.default_rng(0).uniform(-1, 1, ORIGINALS.shape)
    for instead in (0.0, -1.0, noise, DATA.train.pixels.double().mean(0).numpy() / 127.5 - 1):
        assert found(np.where(hidden, instead, ORIGINALS)) < found(filled) - 0.1

    detailed = made("superres", "--patch", "2")
    own, _, _ = apart(detailed, np.ones((8, 8), bool))
    means = ORIGINALS.reshape(COUNT, 1, 4, 2, 4, 2).mean((3, 5)).repeat(2, axis=2).repeat(2, axis=3)
    repeated = float(((means - ORIGINALS) ** 2).mean() ** 0.5)
    print(f"details: {own:.3f}, of pixels repeated {repeated:.3f}; found {found(detailed)} and {found(means)}")
    assert own < 0.9 * repeated
    assert found(detailed) > found(means) + 0.08

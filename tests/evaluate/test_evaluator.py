import contextlib
import dataclasses
import io
import math

import numpy as np
import prdc
import pytest
import torch
from sklearn.svm import SVC

from ict_ref.config import Acceptance, minimal
from ict_ref.data.dataset import load
from ict_ref.evaluate.evaluator import Evaluator, Score, below_thresholds, table
from ict_ref.networks.model import build_model
from ict_ref.sample import images as sample
from ict_ref.sample.images import images

DATASET = load(minimal().data)
EVALUATOR = Evaluator(DATASET.held_out)


def test_the_reference_itself_is_perfect() -> None:
    score = EVALUATOR.score("itself", DATASET.held_out.pixels, DATASET.held_out.labels)
    assert score.frechet_distance < 1e-9
    assert (score.precision, score.recall) == (1.0, 1.0)
    assert score.accuracy is not None
    assert score.accuracy > 0.98


def test_baselines_are_in_their_order() -> None:
    real, gaussian, noise = EVALUATOR.baselines(DATASET.train, DATASET.held_out.labels, seed=0)
    # Real images 0.4 and a fitted Gaussian 1.2 were measured elsewhere for a split of 1200 and 597; noise 38.
    assert real.frechet_distance == pytest.approx(0.4, abs=0.15)
    assert gaussian.frechet_distance == pytest.approx(1.2, abs=0.3)
    assert noise.frechet_distance == pytest.approx(38, abs=4)
    assert real.precision > 0.85
    assert real.recall > 0.85
    assert (noise.precision, noise.recall) == (0.0, 0.0)
    assert real.accuracy is not None
    assert real.accuracy > 0.95
    for chance in (gaussian, noise):
        assert chance.accuracy == pytest.approx(0.1, abs=0.05)


def test_scores_are_those_of_independent_packages() -> None:
    pixels, labels = DATASET.train.pixels[100:400], DATASET.train.labels[100:400]
    score = EVALUATOR.score("some", pixels, labels)
    fake, real = (p.reshape(len(p), -1).double().numpy() / 127.5 - 1 for p in (pixels, DATASET.held_out.pixels))
    cov_fake, cov_real = np.cov(fake.T), np.cov(real.T)
    # Some pixels are always black: the covariances are singular, and the root's trace is taken by eigenvalues.
    root = np.sqrt(np.linalg.eigvals(cov_fake @ cov_real).real.clip(0)).sum()
    distance = ((fake.mean(0) - real.mean(0)) ** 2).sum() + np.trace(cov_fake + cov_real) - 2 * root
    assert score.frechet_distance == pytest.approx(distance, rel=1e-6)
    with contextlib.redirect_stdout(io.StringIO()):
        peer = prdc.compute_prdc(real, fake, nearest_k=3)
    assert (score.precision, score.recall) == (peer["precision"], peer["recall"])
    assert score.precision != score.recall
    classifier = SVC().fit(real, DATASET.held_out.labels.numpy())
    assert score.accuracy == np.mean(classifier.predict(fake) == labels.numpy())


def test_baselines_depend_on_the_seed_and_real_images_come_from_the_whole_dataset() -> None:
    here, again, there = (EVALUATOR.baselines(DATASET.train, DATASET.held_out.labels, seed) for seed in (0, 0, 1))
    assert here == again
    assert here[0] == there[0]
    assert here[1] != there[1]
    assert here[2] != there[2]
    # 599 of 1198, from the first to the last: every second.
    assert here[0] == EVALUATOR.score("real images", DATASET.train.pixels[::2], DATASET.train.labels[::2])


def test_wrong_labels_are_noticed() -> None:
    score = EVALUATOR.score("shifted", DATASET.train.pixels[:500], (DATASET.train.labels[:500] + 1) % 10)
    assert score.accuracy is not None
    assert score.accuracy < 0.05


def test_without_labels_there_is_no_accuracy() -> None:
    assert EVALUATOR.score("unlabelled", DATASET.train.pixels[:500], None).accuracy is None


GOOD = Score("good", frechet_distance=1.0, precision=0.6, recall=0.5, accuracy=0.9)
THRESHOLDS = Acceptance(accuracy=0.85, frechet_distance=2.5, recall=0.15)


def test_a_good_score_is_above_the_bars_and_each_bar_can_be_missed() -> None:
    assert below_thresholds(GOOD, THRESHOLDS) == []
    for bad, complaint in (
        (dataclasses.replace(GOOD, accuracy=0.84), "accuracy 0.840 is below 0.85"),
        (dataclasses.replace(GOOD, frechet_distance=2.6), "Frechet distance 2.600 is above 2.5"),
        (dataclasses.replace(GOOD, recall=0.1), "recall 0.100 is below 0.15"),
        (dataclasses.replace(GOOD, recall=math.nan), "recall nan is below 0.15"),
    ):
        assert below_thresholds(bad, THRESHOLDS) == [complaint]
    assert below_thresholds(dataclasses.replace(GOOD, accuracy=0.0, recall=0.0), Acceptance()) == []
    # A score equal to its threshold passes; precision does not have a threshold.
    at = Score("at", frechet_distance=2.5, precision=0.0, recall=0.15, accuracy=0.85)
    assert below_thresholds(at, THRESHOLDS) == []


def test_the_table_has_a_row_for_each_score_and_one_for_the_thresholds() -> None:
    lines = table([GOOD, dataclasses.replace(GOOD, name="unlabelled", accuracy=None)], THRESHOLDS).splitlines()
    assert [line.split()[0] for line in lines] == ["Frechet", "good", "unlabelled", "thresholds"]
    assert lines[1].split()[1:] == ["1.000", "0.600", "0.500", "0.900"]
    heads = ["distance", "recall", "accuracy"]
    ends = {head: lines[0].index(head) + len(head) for head in heads}
    assert lines[3][: ends["distance"]].endswith("<= 2.5")
    assert lines[3][: ends["recall"]].endswith(">= 0.15")
    assert lines[3][: ends["accuracy"]].endswith(">= 0.85")
    assert lines[2].split()[-1] == "-"
    assert len({len(line) for line in lines}) == 1
    assert len(table([GOOD], Acceptance()).splitlines()) == 2


def test_sample_k_depends_on_seed_and_k_and_not_on_the_batch() -> None:
    model = build_model(minimal(), event=(1, 8, 8), classes=10)
    labels = torch.arange(10)
    all_ten = images(model, labels, [80.0, 0.8], count=10, event=(1, 8, 8), seed=3)
    first_four = images(model, labels[:4], [80.0, 0.8], count=4, event=(1, 8, 8), seed=3)
    assert torch.equal(all_ten[:4], first_four)
    assert not torch.equal(images(model, labels, [80.0, 0.8], count=10, event=(1, 8, 8), seed=4), all_ten)


def test_many_samples_are_made_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    # Room for three images of 64 values at once: ten images in two steps are four parts, eight calls.
    model = build_model(minimal(), event=(1, 8, 8), classes=10)
    with torch.no_grad():  # or else the network is 0, and labels do not matter
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    labels = torch.arange(10) % 7
    at_once = images(model, labels, [80.0, 0.8], count=10, event=(1, 8, 8), seed=3)
    monkeypatch.setattr(sample, "VALUES", 3 * 64)
    seen: list[int] = []
    model.register_forward_pre_hook(lambda _, received: seen.append(len(received[0])))
    in_parts = images(model, labels, [80.0, 0.8], count=10, event=(1, 8, 8), seed=3)
    # A grey level may round otherwise in another batch.
    assert int((in_parts.int() - at_once.int()).abs().max()) <= 1
    assert seen == [3, 3, 3, 3, 3, 3, 1, 1]


def test_samples_agree_with_a_loop_over_images_and_steps() -> None:
    # Random parameters, labels that matter, sigma_min other than the default, values beyond [-1, 1].
    method = dataclasses.replace(minimal().method, sigma_min=0.1)
    model = build_model(dataclasses.replace(minimal(), method=method), event=(1, 8, 8), classes=10)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
        for parameter in model.network.head.parameters():
            parameter.mul_(8)  # so that a step's result leaves [-1, 1]
    labels, levels = torch.tensor([3, 1, 4]), [5.0, 2.0, 0.5]
    sets = []
    for clip in (True, False):
        made = images(model, labels, levels, count=3, event=(1, 8, 8), seed=6, clip=clip)
        sets.append(made)
        for k in range(3):
            x = torch.zeros(1, 1, 8, 8)
            for level, sigma in enumerate(levels):
                noise = np.random.Generator(np.random.Philox(key=6, counter=[0, level, k, 5]))
                z = torch.from_numpy(noise.standard_normal((1, 1, 8, 8), dtype=np.float32))
                x = x + (sigma if level == 0 else (sigma**2 - 0.1**2) ** 0.5) * z
                x = model(x, torch.tensor([sigma]), labels[k : k + 1]).detach()
                x = x.clamp(-1, 1) if clip else x
            pixels = ((x[0] + 1) * 127.5).round().clamp(0, 255)
            # Batches of three and of one may differ in the last float32 digits, and so a rounding by one.
            assert float((made[k] - pixels).abs().max()) <= 1
            assert float((made[k] != pixels).float().mean()) < 0.02
    assert not torch.equal(sets[0], sets[1])
    by_default = images(model, labels, levels, count=3, event=(1, 8, 8), seed=6)
    assert torch.equal(by_default, sets[0])

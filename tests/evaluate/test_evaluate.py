"""The command that scores samples: what it computes, says and refuses.

Oracles: torchmetrics; scipy.linalg.sqrtm; numpy.
"""

import contextlib
import hashlib
import json
import math
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from tests.support.datasets import prepared, write_images
from tests.support.extractors import FeaturesAlone, OfFloats, Public, saved
from tests.support.networks import configured, filled
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore

from ict_ref import export_checkpoint
from ict_ref.checkpoint.load import load_pretrained
from ict_ref.checkpoint.network_file import load_exported
from ict_ref.checkpoint.run_dir import open_run
from ict_ref.data.dataset import digits, load
from ict_ref.data.image_files import write_npz
from ict_ref.evaluate import measured, statistics_file
from ict_ref.evaluate.__main__ import main
from ict_ref.evaluate.features import find_features
from ict_ref.evaluate.measured import measure
from ict_ref.evaluate.paper import CIFAR10, IMAGENET64, printed_fid
from ict_ref.evaluate.sets import recipe_of, stored
from ict_ref.evaluate.shared_options import SharedOptions
from ict_ref.sample.images import images
from ict_ref.training.loop import fit
from ict_ref.training.trainer import Trainer

BOTH = digits()
REAL, FAKE = BOTH.held_out.pixels[:120], BOTH.train.pixels[:100]


def colours(count: int, seed: int, size: int = 8) -> Tensor:
    """Return images in colour whose brightness differs."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(0, 256, (count, 3, size, size), generator=generator)
    return (noise * torch.rand(count, 3, 1, 1, generator=generator)).to(torch.uint8)


def npz(pixels: Tensor, path: Path) -> Path:
    """Write images as public FID tools read them."""
    write_npz(pixels, path)
    return path


def evaluate(*arguments: object) -> int:
    """Run the command."""
    return main([str(argument) for argument in arguments])


def found(place: Path, *arguments: object) -> dict[str, Any]:
    """Run the command and return its JSON."""
    file = place / f"found-{len(list(place.iterdir()))}.json"
    assert evaluate(*arguments, "--json", file) == 0
    content: dict[str, Any] = json.loads(file.read_text())
    return content


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of three steps, whose average makes anything but digits."""
    return trained(tmp_path_factory.mktemp("trained") / "run", "float32")


def trained(folder: Path, precision: str) -> Path:
    """Make a run of three steps and return its folder."""
    config = configured(precision)
    trainer = Trainer(config, load(config.data).train)
    with torch.no_grad():
        for parameter in filled(trainer.ema).network.head.parameters():
            parameter.mul_(30)  # so that a step's result leaves [-1, 1], and clipping matters
    with open_run(folder, config):
        fit(trainer, folder, lambda: trainer.step >= 3)
    return folder


@contextlib.contextmanager
def global_seed() -> Iterator[None]:
    """Let torchmetrics shuffle by the global generator, which is put back."""
    with torch.random.fork_rng(), warnings.catch_warnings(action="ignore"):
        torch.manual_seed(0)
        yield


class Peer(nn.Module):
    """The public extractor as torchmetrics wants it: features, or the logits of IS."""

    num_features = 5

    def __init__(self, logits: bool) -> None:
        super().__init__()
        self.public, self.logits = Public(), logits

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.public(x, return_features=True)
        return features @ self.public.classes if self.logits else features


def test_scores_are_those_of_torchmetrics_and_scipy(tmp_path: Path) -> None:
    real, fake = colours(200, 1), colours(150, 2)
    file = saved(Public(), tmp_path)
    got = found(
        tmp_path, npz(fake, tmp_path / "a.npz"), "--reference", npz(real, tmp_path / "b.npz"), "--features", file
    )["scores"]
    with global_seed(), torch.no_grad():
        fid = FrechetInceptionDistance(feature=Peer(logits=False))
        fid.update(real, real=True)
        fid.update(fake, real=False)
        score = InceptionScore(feature=Peer(logits=True), splits=1)
        score.update(fake)
        # Features are float32 here and there.
        assert got["frechet_distance"] == pytest.approx(float(fid.compute()), rel=1e-4)
        assert got["inception_score"] == pytest.approx(float(score.compute()[0]), rel=1e-5)
        features = [Peer(logits=False)(some).double().numpy() for some in (fake, real)]
    (mu, cov), (mu_real, cov_real) = ((some.mean(0), np.cov(some.T)) for some in features)
    root = scipy.linalg.sqrtm(cov @ cov_real).real
    distance = ((mu - mu_real) ** 2).sum() + np.trace(cov + cov_real - 2 * root)
    assert got["frechet_distance"] == pytest.approx(distance, rel=1e-6)
    assert got["frechet_distance"] > 0.1


def test_the_inception_score_of_ten_parts_is_their_mean_and_deviation(tmp_path: Path) -> None:
    fake = FAKE[:97]  # seven parts of ten, three of nine
    got = found(tmp_path, npz(fake, tmp_path / "a.npz"), "--reference", "digits:held-out", "--features", "digits")
    _, probabilities = find_features("digits")(fake, classify=True)
    assert probabilities is not None
    p = probabilities.double().numpy()

    def of(part: Any) -> float:
        return float(np.exp((part * np.log(part / part.mean(0))).sum(1).mean()))

    each = [of(part) for part in np.array_split(p, 10)]
    assert got["scores"]["inception_score"] == pytest.approx(of(p), rel=1e-5)
    assert got["scores"]["inception_score_of_parts"] == pytest.approx([np.mean(each), np.std(each)], rel=1e-4)
    few = found(tmp_path, npz(fake[:9], tmp_path / "b.npz"), "--reference", "digits:train", "--features", "digits")
    assert few["scores"]["inception_score_of_parts"] is None


def test_the_same_images_have_the_same_scores_wherever_they_lie(tmp_path: Path) -> None:
    places = [
        npz(REAL, tmp_path / "real.npz"),
        write_images(tmp_path / "folder", REAL.numpy()),
        prepared(tmp_path / "prepared", REAL.numpy()),
    ]
    np.savez(tmp_path / "grey.npz", REAL[:, 0].numpy())
    fake = npz(FAKE, tmp_path / "fake.npz")
    all_found = [found(tmp_path, fake, "--reference", place) for place in [*places, tmp_path / "grey.npz"]]
    for one in all_found:
        assert one["scores"] == all_found[0]["scores"]
        digest = hashlib.sha256(b"1x8x8" + REAL.numpy().tobytes()).hexdigest()
        assert one["protocol"]["reference"]["pixels_sha256"] == digest
        assert one["protocol"]["reference"]["count"] == 120
    assert all_found[0]["scores"]["inception_score"] is None
    assert any("inception score needs probabilities" in line for line in all_found[0]["warnings"])


@pytest.mark.parametrize(("word", "held_out"), [("digits:train", False), ("digits:held-out", True)])
def test_the_digits_have_names(tmp_path: Path, word: str, held_out: bool) -> None:
    pixels = (BOTH.held_out if held_out else BOTH.train).pixels
    got = found(tmp_path, word, "--reference", npz(pixels, tmp_path / "same.npz"))
    assert got["scores"]["frechet_distance"] < 1e-9
    assert (got["scores"]["precision"], got["scores"]["recall"]) == (1, 1)
    assert got["protocol"]["samples"]["name"] == word


def test_grey_images_are_seen_in_colour_beside_coloured_ones(tmp_path: Path) -> None:
    real = colours(40, 1)
    grey = real[:30, :1]
    got = found(tmp_path, npz(grey, tmp_path / "grey.npz"), "--reference", npz(real, tmp_path / "real.npz"))
    assert got["protocol"]["samples"]["image"] == [1, 8, 8]
    assert got["protocol"]["features"]["number"] == 192
    flat = [some.reshape(len(some), -1).numpy() / 127.5 - 1 for some in (grey.expand(-1, 3, -1, -1), real)]
    shift = ((flat[0].mean(0) - flat[1].mean(0)) ** 2).sum()
    assert got["scores"]["frechet_distance"] > shift > 1


def test_samples_of_a_run_are_made_of_its_average_by_seed_levels_and_labels(tmp_path: Path, run: Path) -> None:
    network = tmp_path / "network.safetensors"
    assert export_checkpoint.main([str(run), "--out", str(network)]) == 0
    asked = ["--count", 40, "--sigmas", 80, 0.8, "--labels", 3, 7, "--seed", 5]
    got = found(tmp_path, run, "--reference", "digits:held-out", *asked)
    again = found(tmp_path, network, "--reference", "digits:held-out", *asked, "--clip", "yes")
    made = images(
        load_exported(network).model().eval(),
        torch.tensor([3, 7] * 20),
        [80.0, 0.8],
        count=40,
        event=(1, 8, 8),
        seed=5,
    )
    by_hand = found(tmp_path, npz(made, tmp_path / "made.npz"), "--reference", "digits:held-out")
    assert got["scores"] == again["scores"] == by_hand["scores"]
    about = got["protocol"]["samples"]
    assert about["pixels_sha256"] == again["protocol"]["samples"]["pixels_sha256"]
    assert about["pixels_sha256"] == by_hand["protocol"]["samples"]["pixels_sha256"]
    assert about["network_sha256"] == again["protocol"]["samples"]["network_sha256"]
    assert (about["seed"], about["sigmas"], about["labels"], about["count"]) == (5, [80, 0.8], [3, 7], 40)
    assert about["name"] == f"{run} after step 3"
    assert "[-1, 1]" in about["clipping"]


def test_a_run_makes_as_many_samples_as_the_reference_has_in_one_step(tmp_path: Path, run: Path) -> None:
    real = npz(REAL[:13], tmp_path / "real.npz")
    about = found(tmp_path, run, "--reference", real, "--clip", "no")["protocol"]["samples"]
    assert (about["count"], about["sigmas"], about["seed"], about["labels"]) == (13, [80.0], 0, "all, in turn")
    assert "[-1, 1]" not in about["clipping"]
    # The last step's result is cut when it is rounded, so that clipping is seen from two steps on.
    digests = {
        found(tmp_path, run, "--reference", real, "--sigmas", 80, 2, *clip)["protocol"]["samples"]["pixels_sha256"]
        for clip in ([], ["--clip", "as-trained"], ["--clip", "yes"], ["--clip", "no"])
    }
    assert len(digests) == 2


def test_labels_in_turn_or_at_random_and_truncation_are_in_the_protocol(tmp_path: Path, run: Path) -> None:
    asked = [run, "--reference", "digits:held-out", "--count", 40, "--sigmas", 80, 0.8]
    plain, drawn, few = (
        found(tmp_path, *asked, *options)["protocol"]["samples"]
        for options in ([], ["--label-order", "random"], ["--label-order", "random", "--labels", 3, 7])
    )
    assert (plain["labels"], drawn["labels"], few["labels"]) == ("all, in turn", "all, at random", [3, 7])
    assert ("label_order" in plain, drawn["label_order"], few["label_order"]) == (False, "at random", "at random")
    model = load_pretrained(run).model
    digests = []
    for classes in ([*range(10)], [3, 7]):
        # stream(0, "label"): the numbers of Philox with key 0 that belong to purpose 10.
        uniform = np.random.Generator(np.random.Philox(key=0, counter=[0, 0, 0, 10])).random(40)
        labels = torch.tensor([classes[int(u * len(classes))] for u in uniform])
        made = images(model, labels, [80.0, 0.8], count=40, event=(1, 8, 8), seed=0)
        digests.append(hashlib.sha256(b"1x8x8" + made.numpy().tobytes()).hexdigest())
    assert [drawn["pixels_sha256"], few["pixels_sha256"]] == digests
    cut = found(tmp_path, *asked, "--truncate")["protocol"]["samples"]
    assert (plain["quantisation"], cut["quantisation"]) == (
        "rounded to the nearest of 256",
        "rounded down to 256 values",
    )
    assert cut["pixels_sha256"] != plain["pixels_sha256"]


def test_the_precision_of_a_run_and_its_device_are_in_the_protocol(tmp_path: Path, run: Path) -> None:
    low = trained(tmp_path / "low", "bfloat16")
    asked = ["--reference", "digits:held-out", "--count", 20]
    same, plain, rough = (
        found(tmp_path, *options, *asked)["protocol"]
        for options in ([run, "--precision", "run"], [low], [low, "--precision", "run"])
    )
    assert same["device"] == plain["device"] == rough["device"] == "cpu"
    assert "precision" not in same["samples"] | plain["samples"]
    assert rough["samples"]["precision"] == "bfloat16"
    assert rough["samples"]["pixels_sha256"] != plain["samples"]["pixels_sha256"]


def test_a_recipe_has_the_options_of_the_command(run: Path) -> None:
    options = SharedOptions(compile=True, truncate=True, label_order="random", precision="run")
    recipe = recipe_of(load_pretrained(run), options, count=3, sigmas=(80.0, 1.0), labels=(2,), seed=4, clip=False)
    assert (recipe.compiled, recipe.truncate, recipe.label_order, recipe.precision) == (True, True, "random", "run")
    assert (recipe.count, recipe.sigmas, recipe.wanted, recipe.seed, recipe.clip) == (3, (80.0, 1.0), (2,), 4, False)


def test_a_reference_batch_gives_moments_and_images(tmp_path: Path) -> None:
    # As in guided-diffusion's files: moments of more images than the file has, and two arrays that are not read.
    everything = BOTH.held_out.pixels.reshape(599, -1).double().numpy() / 127.5 - 1
    moments = {"mu": everything.mean(0), "sigma": np.cov(everything.T)}
    both, alone = tmp_path / "both.npz", tmp_path / "alone.npz"
    real = REAL[:50]  # fewer than features, of which the moments are not
    np.savez(both, arr_0=real.permute(0, 2, 3, 1).numpy(), **moments, mu_s=np.zeros(3), sigma_s=np.eye(3))
    np.savez(alone, **moments)
    fake = npz(FAKE, tmp_path / "fake.npz")
    got, of_moments, of_images = (
        found(tmp_path, fake, "--reference", place) for place in (both, alone, npz(real, tmp_path / "real.npz"))
    )
    for name in ("precision", "recall", "kernel_distance"):
        assert got["scores"][name] == of_images["scores"][name] is not None
    assert got["scores"]["frechet_distance"] == of_moments["scores"]["frechet_distance"]
    assert got["scores"]["frechet_distance"] != of_images["scores"]["frechet_distance"]
    about = got["protocol"]["reference"]
    assert about["moments"] == "mu and sigma of the file"
    assert about["pixels_sha256"] == of_images["protocol"]["reference"]["pixels_sha256"]
    assert about["statistics_sha256"] == hashlib.sha256(both.read_bytes()).hexdigest()
    assert any("has statistics of unknown features" in line for line in got["warnings"])
    singular = "images in the reference for 64 features: their covariance is singular"
    assert [any(singular in line for line in one["warnings"]) for one in (got, of_images)] == [False, True]


def test_a_reference_batch_of_other_features_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = tmp_path / "both.npz"
    np.savez(both, arr_0=REAL.permute(0, 2, 3, 1).numpy(), mu=np.zeros(5), sigma=np.eye(5))
    line = refused(capsys, npz(FAKE, tmp_path / "fake.npz"), "--reference", both)
    assert "--reference: expected statistics of 64 features (pixels), got 5 in" in line


def test_a_callable_of_a_module_gives_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_features.py").write_text(
        "def flat(x):\n    return x.flatten(1)\n\ndef bad(x):\n    return x / None\n"
    )
    asked = ["digits:train", "--reference", "digits:held-out"]
    ours, pixels = (found(tmp_path, *asked, *options) for options in (["--features", "my_features:flat"], []))
    assert ours["scores"] == pixels["scores"]
    assert ours["protocol"]["features"]["name"] == "my_features:flat"
    assert "my_features:bad failed on 2 images of 8x8" in refused(capsys, *asked, "--features", "my_features:bad")
    stats = tmp_path / "stats.npz"
    assert evaluate(*asked[1:], "--features", "my_features:flat", "--save-stats", stats) == 0
    fake = npz(FAKE, tmp_path / "fake.npz")
    line = refused(capsys, fake, "--reference", stats, "--features", "pixels")
    assert "--features: expected my_features:flat (SHA-256" in line


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_any_number_of_processes_finds_the_same_bits(tmp_path: Path, run: Path) -> None:
    asked = [str(run), "--reference", "digits:held-out", "--features", "digits", "--count", "1500"]
    contents = []
    for count in ("1", "2", "3"):
        file = tmp_path / f"{count}.json"
        command = [sys.executable, "-m", "ict_ref.evaluate", *asked, "--processes", count, "--json", str(file)]
        subprocess.run(command, check=True, capture_output=True)
        contents.append(file.read_bytes())
    assert contents[0] == contents[1] == contents[2]


def test_saved_statistics_stand_for_the_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, fake = tmp_path / "stats.npz", npz(FAKE, tmp_path / "fake.npz")
    assert evaluate("--reference", "digits:held-out", "--features", "digits", "--save-stats", file) == 0
    assert capsys.readouterr().out == f"wrote statistics of 599 images of digits:held-out to {file}\n"
    features, _ = find_features("digits")(BOTH.held_out.pixels, classify=False)
    with np.load(file, allow_pickle=False) as stats:
        np.testing.assert_allclose(stats["mu"], features.double().numpy().mean(0), rtol=1e-12)
        np.testing.assert_allclose(stats["sigma"], np.cov(features.double().numpy().T), rtol=1e-9, atol=1e-12)
        assert stats["count"] == 599
        described = json.loads(str(stats["ict_ref"]))
        assert (described["format"], described["features"]) == (2, "digits")
    assert statistics_file.load(str(file), find_features("digits")).count == 599
    one = found(tmp_path, fake, "--reference", file, "--features", "digits")
    other = found(tmp_path, fake, "--reference", "digits:held-out", "--features", "digits")
    assert one["scores"] == other["scores"]
    about = one["protocol"]["reference"]
    assert about.pop("statistics_sha256") == hashlib.sha256(file.read_bytes()).hexdigest()
    assert about == {**other["protocol"]["reference"], "name": str(file)}


def test_statistics_of_others_give_a_frechet_distance_and_a_warning(tmp_path: Path) -> None:
    real = REAL.reshape(120, -1).double().numpy() / 127.5 - 1
    np.savez(tmp_path / "theirs.npz", mu=real.mean(0), sigma=np.cov(real.T))
    fake = npz(FAKE, tmp_path / "fake.npz")
    one = found(tmp_path, fake, "--reference", tmp_path / "theirs.npz")
    other = found(tmp_path, fake, "--reference", npz(REAL, tmp_path / "real.npz"))
    assert one["scores"]["frechet_distance"] == pytest.approx(other["scores"]["frechet_distance"], rel=1e-6)
    assert one["scores"]["kernel_distance"] is one["scores"]["recall"] is None
    assert "kernel_distance" not in one["protocol"]
    assert any("has statistics of unknown features" in line for line in one["warnings"])
    assert any("it has only moments" in line for line in one["warnings"])
    assert other["scores"]["recall"] is not None


def test_of_many_images_moments_are_of_all_and_features_are_kept_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "KEPT", 7)
    images_of = stored("digits:held-out")
    of = measure(images_of, find_features("pixels"), channels=1, classify=False, what="these")
    x = BOTH.held_out.pixels.reshape(599, -1).numpy() / 127.5 - 1
    assert of.features is not None
    np.testing.assert_allclose(of.features.numpy(), x[[0, 85, 171, 256, 342, 427, 513]], atol=1e-6)
    np.testing.assert_allclose(of.mean.numpy(), x.mean(0), atol=1e-6)
    np.testing.assert_allclose(of.covariance.numpy(), np.cov(x.T), atol=1e-6)
    assert of.count == 599


def test_features_of_a_file_need_no_common_size_but_it_is_said(tmp_path: Path) -> None:
    fake, real = npz(colours(9, 1, 8), tmp_path / "a.npz"), npz(colours(9, 2, 16), tmp_path / "b.npz")
    got = found(tmp_path, fake, "--reference", real, "--features", saved(Public(), tmp_path))
    assert "samples are 8x8 and the reference 16x16" in got["warnings"]


def test_the_report_says_what_the_json_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake = npz(FAKE[:50], tmp_path / "fake.npz")
    got = found(tmp_path, fake, "--reference", "digits:held-out", "--features", "digits", "--k", 5)
    lines = capsys.readouterr().out.splitlines()
    scores = {line[:18].strip(): line[18:].split()[0] for line in lines[:5]}
    assert float(scores["Frechet distance"]) == pytest.approx(got["scores"]["frechet_distance"], abs=6e-5)
    assert float(scores["kernel distance"]) == pytest.approx(got["scores"]["kernel_distance"], abs=6e-7)
    assert float(scores["inception score"]) == pytest.approx(got["scores"]["inception_score"], abs=6e-5)
    assert float(scores["precision"]) == pytest.approx(got["scores"]["precision"], abs=6e-5)
    assert float(scores["recall"]) == pytest.approx(got["scores"]["recall"], abs=6e-5)
    assert got["protocol"]["precision_recall"] == {"k": 5, "samples": 50, "reference": 599, "dtype": "float64"}
    for words in (["features", "sha256"], ["precision_recall", "k"], ["samples", "count"]):
        assert any(line.split()[:2] == words for line in lines)
    singular, few = "50 images in the samples for 64 features: their covariance is singular", "50 samples; published"
    for start in (singular, few):
        assert any(line.startswith(f"warning: {start}") for line in lines)
        assert any(line.startswith(start) for line in got["warnings"])


def test_the_table_has_our_scores_above_the_paper_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["digits:train", "--reference", "digits:held-out", "--features", "digits"]
    assert evaluate(*asked, "--table") == 0
    lines = capsys.readouterr().out.splitlines()
    scores = {line[:18].strip(): line[18:].split()[0] for line in lines[:5]}
    ours = [line.split()[2:] for line in lines if line.startswith("these samples")]
    assert ours == [
        ["?", scores["Frechet distance"], scores["inception score"]],
        ["?", scores["Frechet distance"], scores["precision"], scores["recall"]],
    ]
    assert sum(line.startswith("iCT-deep") for line in lines) == 4
    assert "The paper's are Inception's" in lines[-1]
    assert "1198 samples by digits against digits:held-out" in lines[-1]


# iCT, abstract and Section 4; CM, Tables 1 and 2.
PRINTED_FID = {
    "cifar10": ("2.83", "2.46"),
    "cifar10_deep": ("2.51", "2.24"),
    "imagenet64": ("4.02", "3.20"),
    "imagenet64_deep": ("3.25", "2.77"),
    "cifar10_ct": ("8.70", "5.83"),
    "imagenet64_ct": ("13.0", "11.1"),
}


def test_the_paper_s_tables_agree_with_the_presets_and_with_themselves() -> None:
    for table, name in ((CIFAR10, "cifar10"), (IMAGENET64, "imagenet64")):
        rows = {(method, steps): scores for method, steps, *scores in table.rows}
        assert len(rows) == len(table.rows)
        for method, preset in (("iCT", name), ("iCT-deep", f"{name}_deep"), ("CT (LPIPS)", f"{name}_ct")):
            assert (rows[method, "1"][0], rows[method, "2"][0]) == PRINTED_FID[preset] == printed_fid(preset)
        for (method, steps), (fid, *others) in rows.items():
            assert float(fid) > 1
            assert len(others) == len(table.scores) - 1
            if (method, str(int(steps) - 1)) in rows:  # a step more is better
                assert float(fid) < float(rows[method, str(int(steps) - 1)][0])
    # iCT, Section 4: "an FID of 2.24"; IS 9.89; NVAE's FID is 23.5.
    assert {row[:2]: row[2:] for row in CIFAR10.rows}["iCT-deep", "2"] == ("2.24", "9.89")
    assert (len(CIFAR10.rows), len(IMAGENET64.rows)) == (34, 33)


def test_help_and_bad_options_need_no_torch() -> None:
    code = "import sys\nfrom ict_ref.evaluate.__main__ import main\n"
    for arguments in (["a", "--reference", "b", "--features", "inception"], ["--reference", "b"]):
        script = f"{code}assert main({arguments!r}) == 2\nassert 'torch' not in sys.modules"
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run the command, which refuses, and return its line; a line that names a program may stand before it."""
    capsys.readouterr()
    assert evaluate(*arguments) == 2
    out, err = capsys.readouterr()
    (line,) = (line for line in err.splitlines() if " is a program (" not in line)
    assert (out, line.partition(": ")[0]) == ("", "ict_ref.evaluate")
    return line


def test_what_cannot_be_images_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, held_out = npz(FAKE, tmp_path / "good.npz"), ["--reference", "digits:held-out"]
    np.savez(tmp_path / "other.npz", images=FAKE.numpy())
    (tmp_path / "damaged.npz").write_bytes(good.read_bytes()[:1000])
    (tmp_path / "empty").mkdir()
    write_images(tmp_path / "mixed", FAKE[:3].numpy())
    write_images(tmp_path / "mixed" / "more", colours(2, 0, 16).numpy())
    write_images(tmp_path / "corrupt", FAKE[:3].numpy())
    (tmp_path / "corrupt" / "00002.png").write_bytes((tmp_path / "corrupt" / "00001.png").read_bytes()[:60])
    for name, complaint in (
        ("other.npz", "as arr_0, got images"),
        ("damaged.npz", "it is damaged or not an .npz"),
        ("empty", "has no images in it"),
        ("mixed", "expected images of one size"),
        ("corrupt", "00002.png is not an image that can be used"),
        ("nowhere", "does not exist"),
    ):
        assert complaint in refused(capsys, tmp_path / name, *held_out)
        assert complaint in refused(capsys, good, "--reference", tmp_path / name)


def test_sets_that_do_not_fit_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], run: Path) -> None:
    good, held_out = npz(FAKE, tmp_path / "good.npz"), ["--reference", "digits:held-out"]
    large = npz(colours(5, 0, 16), tmp_path / "large.npz")
    one, three = npz(FAKE[:1], tmp_path / "one.npz"), npz(FAKE[:3], tmp_path / "three.npz")
    assert "one size for pixels, got 8x8 and 16x16" in refused(capsys, "digits:train", "--reference", large)
    assert "grey images of 8x8 pixels for digits, got 16x16" in refused(
        capsys, large, *held_out, "--features", "digits"
    )
    assert "samples: expected at least 4 images" in refused(capsys, three, *held_out)
    assert "reference: expected at least 2 images" in refused(capsys, good, "--reference", one, "--k", 1)
    assert "samples: expected at least 2 images" in refused(capsys, run, *held_out, "--count", 1, "--k", 1)
    assert evaluate(three, *held_out, "--k", 2) == 0
    assert "got the run folder" in refused(capsys, good, "--reference", run)


def test_statistics_that_do_not_fit_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, stats = npz(FAKE, tmp_path / "good.npz"), tmp_path / "stats.npz"
    first, second = saved(Public(), tmp_path), saved(FeaturesAlone(), tmp_path)
    assert evaluate("--reference", "digits:held-out", "--features", first, "--save-stats", stats) == 0
    assert f"--features: expected {first} (SHA-256" in refused(capsys, good, "--reference", stats, "--features", second)
    assert "got pixels. Give the same features" in refused(capsys, good, "--reference", stats)
    content = dict(np.load(stats))
    mu, sigma = content["mu"], content["sigma"]
    damaged: dict[str, dict[str, Any]] = {
        "expected floats mu [features] and sigma": {"mu": mu},
        "expected floats mu [features] and sigma [features": {"mu": mu, "sigma": sigma[:3]},
        "and sigma [features, features], got mu int64": {"mu": mu.astype(int), "sigma": sigma.astype(int)},
        "bad.npz is damaged: it is not a JSON object": {**content, "ict_ref": np.array("{")},
        "expected statistics of 64 features (pixels), got 5 in": {"mu": mu, "sigma": sigma},
        "a symmetric cov2": {"mu": np.zeros(64), "sigma": np.tri(64)},
        "mu: expected finite numbers": {"mu": np.full(64, np.nan), "sigma": np.eye(64)},
    }
    for complaint, arrays in damaged.items():
        np.savez(tmp_path / "bad.npz", **arrays)
        assert complaint in refused(capsys, good, "--reference", tmp_path / "bad.npz")
    whole = stats.read_bytes()
    for place in range(40, len(whole), 197):  # a byte is changed, or all that follows is lost
        for damage in (whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :], whole[:place]):
            (tmp_path / "bad.npz").write_bytes(damage)
            options = ["--reference", tmp_path / "bad.npz", "--features", first]
            capsys.readouterr()
            if evaluate(good, *options) != 0:  # zip's own bookkeeping has bytes that nobody needs
                assert "bad.npz" in refused(capsys, good, *options)
    assert "as arr_0, got mu" in refused(capsys, stats, "--reference", "digits:held-out")
    again = tmp_path / "again.npz"
    assert "--save-stats: expected images as --reference" in refused(
        capsys, "--reference", stats, "--features", first, "--save-stats", again
    )


def test_a_wrong_entry_of_statistics_is_refused_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, stats = npz(FAKE, tmp_path / "good.npz"), tmp_path / "stats.npz"
    assert evaluate("--reference", "digits:held-out", "--features", "digits", "--save-stats", stats) == 0
    content = dict(np.load(stats))
    about, features = json.loads(str(content["ict_ref"])), content["features"]
    infinite = features.copy()
    infinite[3, 1] = np.inf
    not_finite = np.full_like(content["sigma"], np.nan)
    for changes, complaint in (
        ({"about": {"image": [8]}}, "(image: expected a list of 3 values, got [8])"),
        ({"about": {"image": 8}}, "(image: expected a list, got 8)"),
        ({"about": {"image": [1, 8, math.inf]}}, "(image[2]: expected an integer, got inf)"),
        ({"about": {"image": [1, 8, 0]}}, "(image[2]: expected an integer >= 1, got 0)"),
        ({"about": {"features": 5}}, "(features: expected a string, got 5)"),
        ({"about": {"features_sha256": 5}}, "(features_sha256: expected a string or null, got 5)"),
        ({"about": {"count": "9"}}, "(count: expected an integer or null, got '9')"),
        ({"about": {"format": 10**400}}, "expected format 2 or lower, got 1000"),
        ({"ict_ref": np.array("[" * 100_000)}, "bad.npz is damaged: it is not a JSON object"),
        ({"features": features[0]}, "bad.npz: features: expected floats [images, "),
        ({"features": features[:, :3]}, "bad.npz: features: expected floats [images, "),
        ({"features": features[:0]}, "bad.npz: features: expected floats [images, "),
        ({"features": features.astype(str)}, "bad.npz: features: expected floats [images, "),
        ({"features": infinite}, "bad.npz: features: expected finite numbers, got a NaN or an infinity"),
        ({"mu": np.full_like(content["mu"], np.inf)}, "bad.npz: mu: expected finite numbers, got a NaN"),
        ({"sigma": not_finite}, "bad.npz: sigma: expected finite numbers, got a NaN or an infinity"),
        ({"count": np.array(0)}, "bad.npz: count: expected an integer >= 1, got 0"),
        ({"count": np.array(-5)}, "bad.npz: count: expected an integer >= 1, got -5"),
        ({"count": np.array(9.5)}, "bad.npz: count: expected an integer >= 1, got 9.5"),
        ({"count": np.array([9, 9])}, "bad.npz: count: expected an integer >= 1, got int64 (2,)"),
    ):
        described = np.array(json.dumps(about | changes.get("about", {})))
        arrays = {name: array for name, array in changes.items() if name != "about"}
        np.savez(tmp_path / "bad.npz", **(content | {"ict_ref": described} | arrays))
        before = (tmp_path / "bad.npz").read_bytes()
        line = refused(capsys, good, "--reference", tmp_path / "bad.npz", "--features", "digits")
        assert arrays == {} or "ict_ref" in arrays or "--save-stats" in line
        assert complaint in line
        assert "bad.npz" in line
        assert (tmp_path / "bad.npz").read_bytes() == before


def test_what_a_model_cannot_make_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], run: Path) -> None:
    held_out = ["--reference", "digits:held-out"]
    for options, complaint in (
        (["--sigmas", 1, 2], "sigmas that descend"),
        (["--sigmas", 80, 80], "sigmas that descend"),
        (["--sigmas", 80, 0.001], "stay at or above sigma_min"),
        (["--sigmas", "nan"], "0 < sigmas < infinity"),
        (["--sigmas", "x"], "--sigmas: expected numbers, got x"),
        (["--labels", 10], "classes from 0 to 9, got 10"),
        (["--labels", -1], "classes from 0 to 9, got -1"),
        (["--count", 0], "--count: expected an integer >= 1, got 0"),
        (["--seed", -1], "--seed: expected an integer >= 0, got -1"),
        (["--k", 0], "--k: expected an integer >= 1, got 0"),
        (["--processes", -1], "--processes: expected an integer >= 0, got -1"),
        (["--threads", -1], "--threads: expected an integer >= 0, got -1"),
        (["--device", "gpu"], "--device: expected one of auto, cpu, cuda, got gpu"),
        (["--label-order", "shuffled"], "--label-order: expected one of turn, random, got shuffled"),
    ):
        assert complaint in refused(capsys, run, *held_out, *options)
    for option in ("--count", "--sigmas", "--labels", "--seed"):
        assert f"{option}: expected a run or a network as SAMPLES" in refused(
            capsys, "digits:train", *held_out, option, 1
        )
    for options in (["--truncate"], ["--compile"], ["--precision", "run"], ["--label-order", "random"]):
        line = refused(capsys, "digits:train", *held_out, *options)
        assert f"{options[0]}: expected a run or a network as SAMPLES" in line
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    for file in broken.glob("checkpoint-*"):
        file.unlink()
    assert "has no checkpoint yet" in refused(capsys, broken, *held_out)
    (tmp_path / "no.safetensors").write_bytes(b"no")
    assert "is damaged or not safetensors" in refused(capsys, tmp_path / "no.safetensors", *held_out)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    line = refused(capsys, run, "--reference", "digits:held-out", "--device", "cuda")
    assert line.strip().endswith("Start fewer processes, or give --device cpu.")


def test_features_that_cannot_be_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["digits:train", "--reference", "digits:held-out", "--features"]
    line = refused(capsys, *asked, "inception")
    assert "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt" in line
    assert "got nothing.pt, which does not exist" in refused(capsys, *asked, "nothing.pt")
    (tmp_path / "text.pt").write_text("no TorchScript")
    assert "--features: expected TorchScript" in refused(capsys, *asked, tmp_path / "text.pt")


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = tmp_path / "there.npz"
    there.write_text("mine")
    asked = ["digits:train", "--reference", "digits:held-out"]
    for option in ("--json", "--save-stats"):
        assert "Existing files are not overwritten" in refused(capsys, *asked, option, there)
    assert "a name that ends in .npz" in refused(capsys, *asked, "--save-stats", tmp_path / "stats")
    assert "SAMPLES: expected SAMPLES or --save-stats" in refused(capsys, *asked[1:])
    assert there.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [there]


def test_a_new_place_may_be_in_a_new_folder(tmp_path: Path) -> None:
    json_file, stats = tmp_path / "a" / "b.json", tmp_path / "c" / "d.npz"
    assert evaluate("digits:train", "--reference", "digits:held-out", "--json", json_file, "--save-stats", stats) == 0
    assert json_file.is_file()
    assert stats.is_file()


def test_the_protocol_of_a_file_names_it(tmp_path: Path) -> None:
    file = saved(OfFloats(), tmp_path)
    got = found(tmp_path, "digits:train", "--reference", "digits:held-out", "--features", file)["protocol"]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    about = {"name": str(file), "number": 8, "sha256": digest, "input": "float32 images from -1 to 1"}
    assert got["features"] == {**about, "dtype": "float32"}
    assert "inception_score" not in got

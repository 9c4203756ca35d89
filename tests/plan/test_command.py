"""The command `python -m ict_ref.plan`: tables, JSON, measured shares, and rejections as one line."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.one_line import rejection

from ict_ref.plan.__main__ import main
from ict_ref.plan.flop import flop_per_image
from ict_ref.plan.options import parse

pytestmark = pytest.mark.usefixtures("unchecked")
DIGITS = ("--config", "digits", "--gpus", "2")


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*DIGITS, "--json", *arguments]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_table_has_its_parts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(DIGITS) == 0
    out = capsys.readouterr().out
    assert out.startswith("digits on 2 x a100-80gb: batch 64, 1,600 steps, float32\n\nparameters 192,369\n")
    for part in (
        "gradients", "moments", "ema", "float16, recomputed", "32 images per microbatch", "checkpoint", "30%",
        "45%", "1024", "does not divide 4 noise shards", "stop paying at", "between nodes",
    ):  # fmt: skip
        assert part in out
    assert "teacher" not in out
    assert max(map(len, out.splitlines())) < 160


def test_json_has_the_arithmetic_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, "--share", "0.5", "--train.precision", "float16", "--disk-rate", "2")
    (speed,) = found["speeds"]
    flop = flop_per_image(parse(DIGITS).options.config)
    assert (found["parameters"], found["flop_per_image"], found["peak"]) == (192_369, flop, 312e12)
    assert speed["step"]["compute_s"] == pytest.approx(64 * flop / (0.5 * 312e12 * 2))
    assert speed["days"] == pytest.approx(1600 * speed["step"]["step_s"] / 86_400)
    assert speed["gpu_days"] == pytest.approx(2 * speed["days"])
    assert speed["images_per_second"] == pytest.approx(64 / speed["step"]["step_s"])
    assert found["checkpoint_s"] == found["states"]["checkpoint"] / 2e9
    assert [one["gpus"] for one in found["scaling"]] == [8, 16, 32, 64, 128, 256, 512, 1024]
    states = ("parameters", "gradients", "moments", "ema", "teacher", "activations", "buffers")
    assert found["fit"]["memory"]["total"] == sum(found["fit"]["memory"][name] for name in states)


def test_fields_of_the_configuration_are_options(capsys: pytest.CaptureFixture[str]) -> None:
    small, wide = printed(capsys), printed(capsys, "--network.width", "32", "--method.mu0", "0.9")
    assert wide["parameters"] > 3 * small["parameters"]
    assert (small["states"]["teacher"], wide["states"]["teacher"]) == (0, wide["states"]["parameters"])
    double = printed(capsys, "--train.dtype", "float64")  # an option of an earlier version
    assert [one["precision"] for one in double["activations"]] == ["float64", "float64"]


def test_settings_are_chosen_unless_given(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = printed(capsys)["fit"]
    assert (chosen["accumulate"], chosen["recompute"]) == (1, False)
    given = printed(capsys, "--machine.accumulate", "2", "--machine.recompute")
    assert (given["fit"]["accumulate"], given["fit"]["recompute"], given["fit"]["images"]) == (2, True, 16)
    slower = given["speeds"][0]["step"]["compute_s"] / printed(capsys)["speeds"][0]["step"]["compute_s"]
    assert slower == pytest.approx(given["flop_per_image_recomputed"] / given["flop_per_image"])


def test_lpips_is_reported_as_not_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DIGITS, "--method.distance", "lpips"]) == 0
    assert "Not counted: LPIPS" in capsys.readouterr().out


def benchmark(folder: Path, name: str | None = "NVIDIA A100-SXM4-80GB") -> Path:
    speeds = [
        {"preset": preset, "compiled": compiled, "tflops": tflops}
        for preset, compiled, tflops in (
            ("imagenet64", False, 78.0), ("imagenet64", False, 62.4), ("imagenet64", True, 124.8),
            ("cifar10", False, 3.12),
        )
    ]  # fmt: skip
    path = folder / "speeds.json"
    path.write_text(json.dumps({"machine": {"gpu": name}, "gpu": speeds}))
    return path


def test_measured_shares_are_of_the_architecture_and_the_gpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(benchmark(tmp_path))
    for arguments, share in (((), 0.25), (("--machine.compile",), 0.4)):
        (speed,) = printed(capsys, "--measured", path, *arguments)["speeds"]
        assert speed["share"] == pytest.approx(share)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--config: expected a preset, got nothing"),
        (("--config", "digits", "--gpus", "0"), "--gpus: expected an integer >= 1, got 0"),
        (("--config", "digits", "--gpus", "3"), "--train.noise-shards: expected a multiple of 3"),
        (("--config", "digits", "--share", "1.5"), "--share: expected fractions between 0 and 1, got 1.5"),
        (("--config", "digits", "--disk-rate", "0"), "--disk-rate: expected a positive number, got 0.0"),
        (("--config", "digits", "--network-rate", "inf"), "--network-rate: expected a positive number, got inf"),
        (("--config", "digits", "--share", "1", "--measured", "f"), "--share: expected nothing beside --measured"),
        ((*DIGITS, "--measured", "missing.json"), "missing.json"),
        ((*DIGITS, "--data.name", "folder"), "--data.path: expected a prepared folder"),
        (("--config", "digits", "--gpu", "a100"), "--gpu: expected one of v100-32gb"),
        (("--config", "digits", "--gpus", "4", "--train.batch-size", "16000000"), "--machine.accumulate: expected an"),
    ],
)
def test_rejections_are_one_line(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert message in rejection(capsys, "ict_ref.plan")


@pytest.mark.parametrize("name", [None, "NVIDIA GeForce GTX 1080"])
def test_a_measurement_of_an_unknown_gpu_is_rejected(
    name: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*DIGITS, "--measured", str(benchmark(tmp_path, name))]) == 2
    assert "--measured: expected speeds of a known GPU" in rejection(capsys, "ict_ref.plan")
    path = benchmark(tmp_path)
    assert main([*DIGITS, "--measured", str(path), "--network.architecture", "ncsnpp", "--machine.compile"]) == 2
    assert "expected a speed of compiled training of ncsnpp" in rejection(capsys, "ict_ref.plan")

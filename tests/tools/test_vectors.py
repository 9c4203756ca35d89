"""Version 3 of the vectors: its numbers, flags, digits, generated arguments, checksums and archive."""

import hashlib
import io
import json
import math
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from tools.vectors import archive, flags, generate, generated
from tools.vectors.arrays import Array
from tools.vectors.case import NAN, invalid, large, valid

import ict_ref.formulas
from ict_ref.verify.checks.check import check
from ict_ref.verify.vectors import values
from ict_ref.verify.vectors.load import VERSION, Vector, checksum, checksums, functions, notes, read, vectors

DATA = generate.DATA
PAGE = (DATA.parent / "VECTORS.md").read_text()
SHA256SUM = shutil.which("sha256sum") or "sha256sum"
BOOKS = sorted([*functions(), "deviations", "trace"])
# The example of the published code of SplitMix64, and the doubles that are its upper 53 bits over 2^53.
FIRST_OF_SEED_0 = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def every_vector(version: int = VERSION) -> Iterator[Vector]:
    for name in functions(version):
        yield from vectors(name, version)


def test_both_generators_begin_with_the_published_integers() -> None:
    assert generated.split_mix(0, 3) == FIRST_OF_SEED_0
    assert values.random_bits(0, 3).tolist() == FIRST_OF_SEED_0
    assert [hex(bits)[2:].upper().zfill(16) for bits in FIRST_OF_SEED_0] == re.findall("0x([0-9A-F]{16})`", PAGE)
    uniforms = [int(bits) // 2**11 / 2**53 for bits in FIRST_OF_SEED_0]
    assert [str(u) in PAGE for u in uniforms] == [True] * 3
    assert values.generated(0, [3]).tolist() == uniforms


@pytest.mark.parametrize(
    "argument",
    [
        generated.Uniform(1, (2, 3), -2.0, 2.0),
        generated.Uniform(2**64 - 1, (7,), 0.5, 1.5),
        generated.Integers(5, (4, 5), 1280),
        generated.Levels(2),
        generated.Levels(1281),
    ],
)
def test_both_generators_give_the_same_bits(argument: generated.Generated) -> None:
    there = argument.function()
    here = values.decoded(argument.encoded())
    assert isinstance(here, torch.Tensor)
    assert tuple(here.shape) == there.shape
    assert str(here.dtype) == f"torch.{there.dtype}"
    assert here.flatten().tolist() == [float(value) for value in there.values]


def test_generated_numbers_are_uniform() -> None:
    u = values.generated(11, [100, 1000])
    counts = np.histogram(u.numpy(), bins=10, range=(0, 1))[0]
    assert (u >= 0).all()
    assert (u < 1).all()
    assert abs(counts - 10_000).max() < 5 * 100  # five standard deviations
    below = values.generated(12, [100_000], below=4)
    assert below.dtype == torch.int64
    assert sorted(set(below.tolist())) == [0, 1, 2, 3]


@pytest.mark.parametrize("n", [2, 161, 641, 1281])
def test_generated_levels_are_the_paper_s_up_to_rounding(n: int) -> None:
    levels = values.generated_levels(n)
    torch.testing.assert_close(levels, ict_ref.formulas.sigma_grid(n), rtol=1e-14, atol=0)
    assert [float(levels[0]), float(levels[-1])] == [0.002, 80.0]
    assert bool((levels[1:] > levels[:-1]).all())


def test_a_summary_has_shape_mean_norm_and_entries() -> None:
    value = torch.tensor([[3.0, 0.0], [-4.0, 5.0]])
    expected = [2, 2, 1, math.sqrt(50), 3, 5, 5]
    assert values.summary(value, [0, 3, 9]).tolist() == pytest.approx(expected)
    there = generated.summary(Array((2, 2), (3, 0, -4, 5)), [0, 3, 9])
    assert [float(v) for v in there] == pytest.approx(expected)


def test_a_large_value_that_is_wrong_in_its_last_example_fails() -> None:
    def wrong(x: torch.Tensor, y: torch.Tensor, *, c: float) -> torch.Tensor:
        value = ict_ref.formulas.pseudo_huber(x, y, c=c)
        return torch.cat([value[:-1], value[-1:] * (1 + 1e-8)])

    of_images = types_namespace(pseudo_huber=wrong)
    failed = {result.id for result in check(of_images, only=["pseudo_huber"]) if result.status == "fail"}
    [batch] = [v.name for v in vectors("pseudo_huber") if "Large" in v.flags]
    assert batch in failed
    for shape in (lambda v: v[:-1], lambda v: v[:, None]):

        def reshaped(shape: Any = shape, **arguments: Any) -> torch.Tensor:
            return torch.as_tensor(shape(ict_ref.formulas.pseudo_huber(**arguments)))

        found = {r.id: r.status for r in check(types_namespace(pseudo_huber=reshaped), only=["pseudo_huber"])}
        assert found[batch] == "fail"


def types_namespace(**members: object) -> object:
    return type("Namespace", (), {name: staticmethod(member) for name, member in members.items()})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", functions())
def test_stored_vectors_are_those_of_the_oracles(name: str) -> None:
    stored = [row for row in read(name)["vectors"] if "Large" not in row.get("flags", ())]
    assert json.loads(json.dumps(generate.rows(name, with_large=False))) == stored, "run nox -s vectors"


@pytest.mark.thorough
def test_all_files_are_those_of_the_generator(tmp_path: Path) -> None:
    generate.main(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in DATA.iterdir()}
    for path in tmp_path.iterdir():
        assert path.read_text() == (DATA / path.name).read_text(), f"{path.name}: run nox -s vectors"


def test_trace_deviations_and_schema_are_those_of_the_generator() -> None:
    assert (DATA / "trace.json").read_text() == generate.trace_book()
    assert (DATA / "deviations.json").read_text() == generate.deviation_book()
    assert (DATA / "schema.json").read_text() == generate.SCHEMA.read_text()


def test_change_points_of_three_runs_are_there() -> None:
    """N doubles at multiples of K' = floor(K / 8)."""
    found = {
        (v.arguments["total_steps"], v.arguments["step"]): v.value
        for v in vectors("exponential_curriculum")
        if v.result == "valid" and v.arguments.keys() == {"step", "total_steps"}
    }
    for total in (400_000, 800_000, 400_007):
        for stage in range(8):
            n = 10 * 2**stage + 1
            first, last = stage * (total // 8), (stage + 1) * (total // 8) - 1 if stage < 7 else total - 1
            assert (found[total, first], found[total, last]) == (n, n)
    assert 400_007 % 2 == 1


def test_realistic_sizes_are_there() -> None:
    shapes = [v.arguments["x"] for v in vectors("pseudo_huber") if "Large" in v.flags]
    assert [shape["generated"]["shape"] for shape in shapes if isinstance(shape, dict)] == [[128, 3, 32, 32]]
    for name in ("lognormal_pmf", "uniform_pmf", "inverse_gap_weights"):
        sizes = [v.arguments["sigmas"] for v in vectors(name) if "Large" in v.flags]
        assert sizes == [{"levels": 161}, {"levels": 641}, {"levels": 1281}]
    grids = {v.arguments["n"] for v in vectors("sigma_grid") if v.arguments.keys() == {"n"}}
    assert {161, 641, 1281} <= grids


def test_the_sqrt_curriculum_may_have_two_levels_at_least_as_the_authors_code_has() -> None:
    [vector] = [v for v in vectors("sqrt_curriculum") if v.result == "acceptable"]
    # openai/consistency_models: max(ceil(sqrt(...) - 1), 1) + 1.
    assert (vector.arguments, vector.value) == ({"step": 0, "total_steps": 800_000, "s0": 1}, 1)
    assert list(vector.alternatives.values()) == [2]
    for n, status in ((1, "pass"), (2, "note"), (3, "fail")):
        namespace = types_namespace(sqrt_curriculum=lambda n=n, **_: n)
        found = {result.id: result.status for result in check(namespace, only=["sqrt_curriculum"])}
        assert found[vector.name] == status


@pytest.mark.parametrize("name", functions())
def test_numbers_are_kept_with_their_values_or_new(name: str) -> None:
    earlier = {row["id"]: row for row in generate.earlier_rows(name, 2)}
    used = {row["id"] for version in (1, 2) for row in generate.earlier_rows(name, version)}
    rows = read(name)["vectors"]
    assert [row["id"] for row in rows] == sorted({row["id"] for row in rows})
    for row in rows:
        if row["id"] in earlier:
            then = earlier[row["id"]]
            assert generate.identity(row) == generate.identity(then)
            assert all(row.get(key) == then.get(key) for key in ("result", "value", "rtol", "atol", "alternatives"))
        else:
            assert row["id"] > max(used, default=0)


def test_the_number_of_a_dropped_vector_is_not_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = generate.CASES["c_noise"]
    last = max(row["id"] for row in generate.earlier_rows("c_noise", 2))
    without_last = [case for case, n in zip(cases, generate.identifiers("c_noise"), strict=True) if n != last]
    new = [valid("new", sigma=generate.rounded(Array((1,), (2.5,))))]
    monkeypatch.setitem(generate.CASES, "c_noise", [*without_last, *new])
    numbers = generate.identifiers("c_noise")
    assert last not in numbers
    assert numbers[-1] == max(numbers) > last
    monkeypatch.setitem(generate.CASES, "c_noise", [*new, *new])
    with pytest.raises(ValueError, match="c_noise: two cases have the same call"):
        generate.identifiers("c_noise")


def is_nearest(double: float, text: str) -> bool:
    """Return whether a double is the nearest to a number in 30 digits; at a tie either of two is."""
    if math.isinf(double):
        return double == float(text)
    distance = abs(Fraction(double) - Fraction(text))
    # Zeros of rotated images are 1e-50 in the first computation, and less in the second.
    return distance <= Fraction(math.ulp(double)) / 2 * Fraction(1 + 1e-9) + Fraction(1, 10**40)


def test_the_value_is_the_double_nearest_to_its_digits() -> None:
    counted = 0
    for vector in every_vector():
        if vector.digits is not None:
            value = (
                vector.value["tuple"] if isinstance(vector.value, dict) and "tuple" in vector.value else vector.value
            )
            pairs = list(zip(leaves(value), leaves(vector.digits), strict=True))
            assert all(is_nearest(float(double), text) for double, text in pairs), vector.name
            counted += len(pairs)
    assert counted > 2500
    assert not is_nearest(1.0, "1.0000000000000002")


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return leaves(value["tensor"] if "tensor" in value else value["float"])
    return [leaf for part in value for leaf in leaves(part)] if isinstance(value, list) else [value]


def test_digits_go_beyond_doubles() -> None:
    [one] = [v for v in vectors("pseudo_huber_constant") if v.arguments == {"dim": 1}]
    assert one.digits == "0.00054"
    two = next(v for v in vectors("pseudo_huber_constant") if v.arguments == {"dim": 2})
    # 0.00054 times the square root of 2, 1.41421356237309504880168872420969807856967 (OEIS A002193).
    assert two.digits == "0.000763675323681471326352911911073"
    for vector in every_vector():
        is_real = vector.result != "invalid" and isinstance(vector.value, float)
        assert (vector.digits is not None) or not is_real
        assert vector.digits is None or vector.result != "invalid"


def test_digits_of_difference_quotients_and_roots_are_exact() -> None:
    """A theta whose loss is known in closed form: h sum(f v), f and its derivatives written out in fractions."""
    vector = next(v for v in vectors("continuous_consistency_training_loss") if v.comment == "a batch of one")
    arguments = {name: values.decoded(value) for name, value in vector.arguments.items() if name != "student"}
    x, z, sigma, weights = (
        [Fraction(float(v)) for v in torch.as_tensor(arguments[name]).flatten()]
        for name in ("x", "z", "sigma", "weights")
    )
    student = vector.arguments["student"]
    assert isinstance(student, dict)
    a, b, s = Fraction(student["a"]), Fraction(student["b"]), sigma[0]
    loss = Fraction(0)
    for one, noise in zip(x, z, strict=True):
        at = one + s * noise
        slope = (a / (1 + s) + 2 * b * s * at) * noise - a * at / (1 + s) ** 2 + b * at**2
        loss += 2 * weights[0] * (a * at / (1 + s) + b * s * at**2) * slope
    [text] = leaves(vector.digits)
    assert abs(Fraction(text) - loss) < abs(loss) * Fraction(1, 10**29)


def test_every_flag_of_a_file_has_a_note_and_no_other() -> None:
    for name in functions():
        book = read(name)
        assert set(book["notes"]) == {flag for row in book["vectors"] for flag in row.get("flags", ())}
        assert all(tuple(note.values()) == flags.NOTES[flag] for flag, note in book["notes"].items())
        assert (book["function"], book["oracle"]) == (name, generate.ORACLE)
    assert set(notes()) == set(flags.NOTES)
    assert notes(1) == notes(2) == {}
    assert notes()["Elsewhere"].effect.startswith("Runs with the paper's settings are not affected.")
    assert all(f"`{flag}`" in PAGE for flag in flags.NOTES)


def test_refusals_have_one_kind_and_values_have_none() -> None:
    for vector in every_vector():
        kinds = set(vector.flags) & set(flags.REFUSALS)
        assert ("Refusal" in vector.flags) == (vector.result == "invalid") == (len(kinds) == 1), vector.name
        assert not ("Elsewhere" in vector.flags and vector.result == "invalid")
    # Versions 1 and 2 do not have flags: those of a refusal and of a missing axis follow from the vector.
    earlier = [vector for version in (1, 2) for vector in every_vector(version)]
    assert all(("Refusal" in vector.flags) == (vector.result == "invalid") for vector in earlier)
    assert set().union(*(vector.flags for vector in earlier)) == {"Refusal", "NoEventAxes"}


@pytest.mark.parametrize(
    ("function", "comment", "arguments", "kind"),
    [
        ("c_in", "sigma is NaN", {"sigma": NAN}, "NaN"),
        ("c_in", "sigma is infinite", {"sigma": math.inf}, "Infinity"),
        ("c_in", "sigma_data = 0", {"sigma_data": 0.0}, "Zero"),
        ("c_in", "sigma_data < 0", {"sigma_data": -1.0}, "Sign"),
        ("sigma_grid", "sigma_min > sigma_max", {}, "Range"),
        ("slerp", "one alpha for two examples", {}, "Shape"),
        ("exponential_curriculum", "K = 7: K' = floor(7 / 8) = 0", {}, "Range"),
        ("edit", "the last level is 0", {}, "Zero"),
    ],
)
def test_the_kind_of_a_refusal_follows_from_its_arguments_and_comment(
    function: str, comment: str, arguments: dict[str, Any], kind: str
) -> None:
    assert flags.flags_of(function, invalid(comment, **arguments)) == sorted(
        ["Refusal", kind], key=list(flags.NOTES).index
    )


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        ("sigma_grid", {"n": 11}, []),
        ("sigma_grid", {"n": 11, "rho": 7.0}, []),
        ("sigma_grid", {"n": 11, "rho": 3.0}, ["Elsewhere"]),
        ("c_noise", {"sigma": Array((1,), (80.5,))}, ["Elsewhere"]),
        ("c_noise", {"sigma": Array((2,), (0.002, 80.0))}, []),
        ("log_sigma_density", {"log_sigma": Array((1,), (100.0,))}, ["Elsewhere"]),
        ("sqrt_curriculum", {"step": 0, "total_steps": 800_000}, []),
        ("sqrt_curriculum", {"step": 0, "total_steps": 800_000, "s1": 200}, []),
        ("sqrt_curriculum", {"step": 0, "total_steps": 800_000, "s0": 1}, ["Elsewhere"]),
        ("exponential_curriculum", {"step": 0, "total_steps": 400_007}, []),
        ("exponential_curriculum", {"step": 0, "total_steps": 8}, ["Elsewhere"]),
        ("exponential_curriculum", {"step": 0, "total_steps": 400_000, "s1": 150}, ["Elsewhere"]),
        ("teacher_ema_decay", {"n": 11, "s0": 2, "mu0": 0.95}, []),
        ("teacher_ema_decay", {"n": 11, "s0": 3, "mu0": 0.9}, ["Elsewhere"]),
        ("l1", {"x": Array((2,), (1.0, 2.0))}, ["NoEventAxes", "NotAnImage"]),
        ("l1", {"x": Array((1, 2), (1.0, 2.0))}, ["NotAnImage"]),
        ("l1", {"x": Array((1, 1, 1, 1), (1.0,))}, []),
        ("edit", {"noises": Array((1, 1, 1, 1, 1), (1.0,))}, []),
        ("multistep_sample", {"noises": Array((1, 2), (1.0, 2.0))}, ["NoEventAxes", "NotAnImage"]),
        ("l1", {"x": generated.Uniform(1, (2, 3, 4))}, ["NotAnImage"]),
        ("pseudo_huber", {"c": 0.03}, []),
        ("pseudo_huber", {"c": 1e4}, ["Elsewhere"]),
    ],
)
def test_flags_follow_from_the_arguments(function: str, arguments: dict[str, Any], expected: list[str]) -> None:
    assert flags.flags_of(function, valid("a call", **arguments)) == expected


def test_the_paper_s_own_vectors_are_not_elsewhere() -> None:
    for name, comment in (
        ("c_skip", "the paper's levels .1, 1, 80, and sigma_min"),
        ("sigma_grid", "N = 11, the paper's first"),
    ):
        [vector] = [v for v in vectors(name) if v.comment == comment]
        assert "Elsewhere" not in vector.flags
    tails = [v for v in vectors("lognormal_pmf") if "tail" in v.comment]
    assert len(tails) == 2
    assert all("Elsewhere" in v.flags for v in tails)


def test_large_vectors_are_summarised() -> None:
    for vector in every_vector():
        is_summary = "summary" in vector.apply
        is_generated = any(word in json.dumps(vector.arguments) for word in ('"generated"', '"levels"'))
        assert ("Large" in vector.flags) == is_summary, vector.name
        assert is_summary or not is_generated, vector.name
    assert "Large" in flags.flags_of("sigma_grid", large("N = 161", n=161))


@pytest.mark.parametrize("name", BOOKS)
def test_a_file_has_version_license_and_checksum(name: str) -> None:
    lines = (DATA / f"{name}.json").read_text().split("\n")
    book = json.loads("\n".join(lines))
    assert (book["version"], book["license"]) == (3, "CC0-1.0")
    without = [line for line in lines if not line.startswith(' "sha256"')]
    assert len(without) == len(lines) - 1
    assert book["sha256"] == hashlib.sha256("\n".join(without).encode()).hexdigest()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda row: row["arguments"].update(network={"callback": "bend", "a": 1.0}),
        lambda row: row["arguments"].update(network={"callback": "bends", "a": 1.0, "b": 1.0}),
        lambda row: row["arguments"].update(network={"callback": "squared_l2", "a": 1.0}),
        lambda row: row["arguments"].update(x={"generated": {"seed": 1, "shape": [2]}}),
        lambda row: row["arguments"].update(
            x={"generated": {"seed": 1, "shape": [2], "low": 0.0, "high": 1, "below": 2}}
        ),
        lambda row: row["arguments"].update(x={"levels": 1}),
        lambda row: row.update(flags=["Nowhere"]),
        lambda row: row.update(digits=[0.5]),
        lambda row: row.update(apply={"backward": {"tensor": [1.0], "dtype": "float64"}}),
    ],
)
def test_a_vector_that_does_not_follow_the_schema_is_found(spoil: Any) -> None:
    book, schema = read("boundary_parameterization"), json.loads((DATA / "schema.json").read_text())
    book = json.loads(json.dumps(book))
    jsonschema.validate(book, schema)
    spoil(book["vectors"][0])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(book, schema)


def test_the_list_of_checksums_is_that_of_sha256sum() -> None:
    done = subprocess.run([SHA256SUM, "-c", "SHA256SUMS"], cwd=DATA, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("OK") == len(list(DATA.glob("*.json")))
    assert (DATA / "SHA256SUMS").read_text() == checksums()
    assert checksum() == hashlib.sha256((DATA / "SHA256SUMS").read_bytes()).hexdigest()
    assert len({checksum(version) for version in (1, 2, 3)}) == 3


def test_the_archive_has_every_file_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    archive.main(tmp_path / "dist")
    content = (tmp_path / "dist" / "ict-vectors-3.tar.gz").read_bytes()
    assert content == archive.archive()
    for path in DATA.parent.rglob("*"):
        path.touch()
    assert content == archive.archive()
    line = (tmp_path / "dist" / "ict-vectors-3.tar.gz.sha256").read_text()
    assert line == f"{hashlib.sha256(content).hexdigest()}  ict-vectors-3.tar.gz\n"
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        entries = tar.getmembers()
        tar.extractall(tmp_path, filter="data")
    assert {entry.name for entry in entries} == {
        f"ict-vectors-3/{name}"
        for name in ["README.md", "LICENSE", "SHA256SUMS", "schema.json", *(f"{name}.json" for name in BOOKS)]
    }
    assert {(entry.mtime, entry.uid, entry.gid, entry.mode) for entry in entries} == {(0, 0, 0, 0o644)}
    folder = tmp_path / "ict-vectors-3"
    assert subprocess.run([SHA256SUM, "--quiet", "-c", "SHA256SUMS"], cwd=folder, check=False).returncode == 0
    assert (folder / "LICENSE").read_text().startswith("Creative Commons Legal Code\n\nCC0 1.0 Universal\n")


def test_the_page_names_every_function_among_arguments_and_the_counts() -> None:
    schema = json.loads((DATA / "schema.json").read_text())
    names = [part["$ref"].split("/")[-1] for part in schema["$defs"]["callback"]["oneOf"]]
    assert sorted([*names, "preconditioned_bend"]) == sorted([*values.CALLBACKS, *values.OPERATORS])
    assert all(f"| `{name}` |" in PAGE for name in names)
    results = [vector.result for vector in every_vector()]
    counts = {word: results.count(word) for word in ("valid", "invalid", "acceptable")}
    assert f"Version 3 has {len(results)} vectors of {len(functions())} functions: " in PAGE
    assert f"{counts['valid']} valid, {counts['invalid']} invalid and {counts['acceptable']} acceptable" in PAGE
    assert f"{len(read('deviations')['deviations'])} known deviations" in PAGE


def test_the_example_of_the_page_is_a_vector() -> None:
    text = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0]
    shown = json.loads(text)
    [stored] = [row for row in read("c_in")["vectors"] if row["id"] == shown["id"]]
    assert shown["digits"][0] == stored["digits"][0]
    assert {**stored, "digits": shown["digits"]} == {**shown, "deviations": stored["deviations"]}

"""Versions 1 and 2 of the vectors stay as they were, and check code that was written for them, by their names."""

import hashlib
import inspect
import json
import sys
import types
from pathlib import Path

import jsonschema
import pytest
from tests.verify.implementations import version1, version1_wrong
from tools.vectors import generate

import ict_ref.formulas
import ict_ref.verify
from ict_ref.verify import parametrize_with_checks
from ict_ref.verify.__main__ import main
from ict_ref.verify.checks import run_laws, trace
from ict_ref.verify.checks.check import check
from ict_ref.verify.laws import LAWS
from ict_ref.verify.target.external_process import ExternalTarget
from ict_ref.verify.vectors.load import VERSION, checksum, deviations, functions, vectors
from ict_ref.verify.vectors.versions import SIGNATURES, signature

VERIFY = Path(ict_ref.verify.__file__).parent
MANIFESTS = Path(__file__).parents[2] / "tools" / "vectors"
PEERS = Path(__file__).parent / "implementations"
RENAMED = [name for name in dir(version1) if name in functions(1)]
WRONG = [name for name in dir(version1_wrong) if name in functions(1)]


@pytest.mark.parametrize("version", [1, 2])
def test_the_files_of_earlier_versions_are_those_that_were_published(version: int) -> None:
    manifest = (MANIFESTS / f"v{version}.sha256").read_text()
    published = {name: digest for digest, name in (line.split() for line in manifest.splitlines())}
    folder = VERIFY / "data" / f"v{version}"
    today = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    assert today == published
    assert checksum(version) == hashlib.sha256(manifest.encode()).hexdigest()


def test_only_the_newest_version_is_written() -> None:
    assert VERSION == 3
    assert generate.DATA == VERIFY / "data" / "v3"
    folders = sorted(path.name for path in (VERIFY / "data").iterdir() if path.is_dir())
    assert folders == [f"v{version}" for version in SIGNATURES]
    recorded = sorted(path.stem for path in MANIFESTS.glob("v*.sha256"))
    assert recorded[: VERSION - 1] == folders[:-1], "record the checksums of each version that is published"


@pytest.mark.parametrize(("name", "version"), [(name, version) for version in (1, 2) for name in functions(version)])
def test_the_vectors_of_earlier_versions_are_of_the_schema(name: str, version: int) -> None:
    schema = json.loads((VERIFY / "schema.json").read_text())
    jsonschema.validate(json.loads((VERIFY / "data" / f"v{version}" / f"{name}.json").read_text()), schema)
    assert all(vector.version == version for vector in vectors(name, version))


@pytest.mark.parametrize("name", [name for name in functions() if signature(name, 1).function in functions(1)])
def test_the_table_of_earlier_names_has_every_renamed_argument(name: str) -> None:
    """A call by current names, translated by the table, binds to the arguments of version 1's vectors."""
    today = dict.fromkeys(inspect.signature(getattr(ict_ref.formulas, name)).parameters)
    former = signature(name, 1)
    known = {argument for vector in vectors(former.function, 1) for argument in vector.arguments}
    assert set(former.arguments(today)) - {"sigma_min", "sigma_max", "sigma_data", "rho"} <= known
    if name not in RENAMED:
        assert known <= set(today) or name.startswith("ct_gradient_")


def test_the_newest_version_renames_nothing() -> None:
    assert signature("ema_update", VERSION).arguments({"ema": 1, "value": 2}) == {"ema": 1, "value": 2}


@pytest.mark.parametrize("name", RENAMED)
def test_code_with_the_names_of_version_1_passes_its_vectors_and_no_others(name: str) -> None:
    assert [r.message for r in check(version1, only=[name], version=1) if r.status == "fail"] == []
    assert any("cannot be called by the names of" in r.message for r in check(version1, only=[name]))
    ours = check(ict_ref.formulas, only=[name], version=1)
    assert any("cannot be called by the names of" in r.message for r in ours)


def test_laws_hold_of_code_with_the_names_of_version_1() -> None:
    found = list(run_laws.check_laws(version1, examples=10, version=1))
    assert [result.message for result in found if result.status == "fail"] == []
    tried = [law for law in LAWS if signature(law.function, 1).function in RENAMED]
    assert [result.id for result in found] == [run_laws.law_name(law, 1) for law in tried]
    assert len({result.id for result in found}) == len(found)
    assert {result.function for result in found} == set(RENAMED)


def test_laws_of_functions_without_other_names_are_tried_as_they_are() -> None:
    only = types.SimpleNamespace(c_in=ict_ref.formulas.c_in)
    found = list(run_laws.check_laws(only, examples=5, version=1))
    assert found == list(run_laws.check_laws(only, examples=5))
    assert found


@pytest.mark.parametrize("name", WRONG)
def test_wrong_code_with_the_names_of_version_1_fails_its_vectors(name: str) -> None:
    failed = [r for r in check(version1_wrong, only=[name], version=1) if r.status == "fail"]
    assert failed
    assert not any("cannot be called" in result.message for result in failed)


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ("ema_update:is_the_value_for_decay_0", "should be"),
        ("ct_gradient_limit:diverges_where_theta_minus_lags", "theta- < theta: should be +infinity"),
        ("ct_gradient_leading_term:is_the_derivative_of_the_loss_limit", "should be"),
        ("positional_embedding:begins_with_frequency_1", "the first value is"),
        ("one_step_sample:asks_f_at_sigma_max", "the function changed its argument noise;"),
    ],
)
def test_wrong_code_with_the_names_of_version_1_breaks_laws_by_those_names(law: str, message: str) -> None:
    name = law.split(":")[0]
    failed = {r.id: r for r in run_laws.check_laws(version1_wrong, only=[name], version=1) if r.status == "fail"}
    assert message in failed[law].message
    assert failed[law].message.startswith(f"{law}: ")
    assert failed[law].function == name


def test_the_trace_of_version_1_has_its_names() -> None:
    right, wrong = (
        {r.id: r.status for r in trace.check_trace(types.SimpleNamespace(ema_update=module.ema_update), version=1)}
        for module in (version1, version1_wrong)
    )
    assert right == {"trace:average": "pass"}
    assert wrong == {"trace:average": "fail"}
    [today] = trace.check_trace(types.SimpleNamespace(ema_update=ict_ref.formulas.ema_update))
    assert (today.id, today.status) == ("trace:ema", "pass")


def test_a_file_of_values_is_compared_with_the_version_that_is_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {name: next(e.vector.value for e in trace.entries(1) if e.name == name) for name in ("n", "average")}
    assert isinstance(values["average"], dict)
    (tmp_path / "mine.json").write_text(json.dumps({"n": values["n"], "average": values["average"]["tensor"]}))
    assert main(["--trace", str(tmp_path / "mine.json"), "--vectors-version", "1"]) == 0
    assert main(["--trace", str(tmp_path / "mine.json")]) == 2
    assert "average is not a value of the step" in capsys.readouterr().err
    assert main(["--trace-inputs", "--vectors-version", "1"]) == 0
    assert "average" in json.loads(capsys.readouterr().out)["values"]


@pytest.mark.slow
def test_the_command_checks_by_the_version_that_is_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right, wrong = (str(PEERS / f"{name}.py") for name in ("version1", "version1_wrong"))
    only = ["--only", "ema_update", "ct_gradient_limit", "one_step_sample"]
    assert main([right, *only, "--vectors-version", "1", "--json", str(tmp_path / "r.json")]) == 0
    out = capsys.readouterr().out
    assert ", vectors 1 (sha256 " in out
    # The laws of both of today's functions are tried on the one that version 1 has.
    count = sum(signature(law.function, 1).function == "ct_gradient_limit" for law in LAWS)
    report = json.loads((tmp_path / "r.json").read_text())
    assert sum(result["id"].startswith("ct_gradient_limit:") for result in report["results"]) == count
    assert report["vectors"] == 1
    assert main([wrong, *only, "--vectors-version", "1"]) == 1
    assert f"ema_update: {deviations(1)['SwappedEma'].what}\n" in capsys.readouterr().out
    for path in (right, wrong):
        assert main([path, *only, "--strict"]) == 1
        out = capsys.readouterr().out
        assert ", vectors 3 (sha256 " in out
        assert "ema_update cannot be called as ema_update(ema, value, decay)" in out


def test_a_peer_is_asked_by_the_names_of_the_version_that_is_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "peer.py").write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    asked = json.loads(line)\n"
        "    names = ' '.join(asked['args'])\n"
        "    print(json.dumps({'id': asked['id'], 'error': 'asked for ' + names}), flush=True)\n"
    )
    command = ["--exec", f"{sys.executable} {tmp_path / 'peer.py'}", "--only", "ema_update"]
    assert main([*command, "--vectors-version", "1"]) == 1
    assert "asked for average value decay" in " ".join(capsys.readouterr().out.split())
    assert main(command) == 1
    assert "asked for ema value decay" in " ".join(capsys.readouterr().out.split())
    assert "ct_gradient_divergence" in set(ExternalTarget.functions()) - set(ExternalTarget.functions(1))
    assert ExternalTarget.functions(2) == functions(2)


def test_waivers_may_name_the_laws_of_version_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "w.toml").write_text('[[waiver]]\nid = "ct_gradient_limit"\nreason = "known"\n')
    wrong = [str(PEERS / "version1_wrong.py"), "--only", "ct_gradient_limit", "--vectors-version", "1"]
    assert main(wrong) == 1
    assert main([*wrong, "--waivers", str(tmp_path / "w.toml")]) == 0
    assert "ct_gradient_limit:diverges_where_theta_minus_lags: " in capsys.readouterr().out
    (tmp_path / "w.toml").write_text('[[waiver]]\nid = "ct_gradient_divergence"\nreason = "known"\n')
    assert main([*wrong, "--waivers", str(tmp_path / "w.toml")]) == 2


@pytest.mark.parametrize("version", ["4", "0", "one", "", "1.0", "-1"])
def test_an_unknown_version_is_refused_in_one_line_that_lists_the_versions(
    version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ict_ref.formulas", f"--vectors-version={version}"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"python -m ict_ref.verify: --vectors-version: expected 1, 2 or 3, got {version}; leave it out for version 3\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "ct_gradient_divergence"], "ct_gradient_divergence, which version 1 of the vectors does not have"),
        (["--audit", "step"], "unknown option --vectors-version; see python -m ict_ref.verify audit step --help"),
    ],
)
def test_names_that_version_1_does_not_have_are_rejected(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ict_ref.formulas", *arguments, "--vectors-version", "1"]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_the_help_describes_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--vectors-version N Version of the vectors; 1 is for code with the argument names of version 1" in text


def test_a_test_suite_chooses_its_version() -> None:
    only = types.SimpleNamespace(ema_update=version1.ema_update, ct_gradient_limit=version1.ct_gradient_limit)
    [mark] = [parametrize_with_checks(only, vectors_version=1).mark]
    checks = {parameter.id: parameter.values[0] for parameter in mark.args[1]}
    assert {"ema_update#1", "ct_gradient_limit:diverges_where_theta_minus_lags"} < set(checks)
    for name in ("ema_update#1", "ema_update:lies_between", "ct_gradient_limit:diverges_where_theta_minus_lags"):
        checks[name]()
    with pytest.raises(ValueError, match="vectors_version: expected 1, 2 or 3, got 4; leave it out for version 3"):
        parametrize_with_checks(only, vectors_version=4)

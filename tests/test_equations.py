"""Every equation has a function, every formula a source, three laws and an oracle, and docs/equations.md lists them."""

import ast
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tools import equation_table
from tools.equation_table import PAGE, ROOT, functions_of, laws, oracles, written

import ict_ref.formulas
from ict_ref.__main__ import main
from ict_ref.equations import EQUATIONS, Formula, formulas
from ict_ref.verify.laws import LAWS

HOMES = {
    1: {"probability_flow_drift"},
    2: {"boundary_parameterization"},
    3: {"consistency_matching_loss"},
    4: {"ema_update"},
    5: {"consistency_training_loss"},
    6: {"ct_loss_limit"},
    7: {"ct_gradient_limit", "ct_gradient_divergence"},  # theta- = theta, theta- != theta
    8: {"pseudo_huber"},
    9: {"exponential_curriculum"},
    10: {"lognormal_pmf"},
    11: {"ct_loss_limit"},  # restates (6)
    12: {"ct_gradient_limit", "ct_gradient_divergence"},  # restates (7)
    13: {"ct_gradient_leading_term", "ct_gradient_divergent_term"},
}


def test_every_numbered_equation_has_its_homes_and_no_others() -> None:
    homes = {number: {f.name for f in formulas() if number in f.equations} for number in EQUATIONS}
    assert homes == HOMES


HOMES_OF_ECT = {
    12: {"consistency_tuning_loss"},
    17: {"ect_mapping"},  # (18) for k = 0
    18: {"ect_mapping"},
    19: {"adaptive_weights"},
}


HOMES_OF_SCM = {
    4: {"trigflow_velocity"},
    5: {"trigflow_parameterization"},
    6: {"trigflow_tangent"},
    8: {"adaptive_weighting", "scm_loss"},
    26: {"trigflow_step"},
    29: {"trigflow_time"},
    30: {"trigflow_level"},
    37: {"trigflow_difference"},
}


HOMES_OF_TCM = {5: {"truncated"}, 6: {"truncated_weights"}}


@pytest.mark.parametrize(("key", "expected"), [("ECT", HOMES_OF_ECT), ("sCM", HOMES_OF_SCM), ("TCM", HOMES_OF_TCM)])
def test_the_numbered_equations_of_other_papers_have_their_homes(key: str, expected: dict[int, set[str]]) -> None:
    homes = {number: {f.name for f in formulas() if number in f.numbers(key)} for number in range(1, 60)}
    assert {number: names for number, names in homes.items() if names} == expected


def test_the_ledger_has_every_function_of_the_flat_namespace() -> None:
    functions = {
        name for name in ict_ref.formulas.__all__ if type(getattr(ict_ref.formulas, name)).__name__ == "function"
    }
    assert {formula.name for formula in formulas()} == functions


@pytest.mark.parametrize("formula", formulas(), ids=lambda formula: formula.name)
def test_every_formula_states_its_value_and_has_a_source_three_laws_and_an_oracle(formula: Formula) -> None:
    assert formula.docstring.startswith("Return ")
    assert formula.source.startswith(
        ("iCT, ", "CM, ", "EDM, ", "Binkowski et al. 2018, ", "ECT, ", "sCM, ", "TCM, ", "sLCT, ")
    )
    assert len(laws()[formula.name]) >= 3
    assert oracles()[formula.name]


@pytest.mark.parametrize(
    ("source", "equations"),
    [
        ("Source: iCT, Section 3.4, Eq. (9).", (9,)),
        ("Source: iCT, Section 3.2, Eq. (6), restated as Eq. (11) in Appendix A.", (6, 11)),
        ("Source: iCT, Section 2, below Eq. (3).", ()),
        ("Source: iCT, Section 4 (FID); Heusel et al. 2017, Eq. (6).", ()),
        ("Source: CM, Appendix B, Eq. (33).", ()),
        ("A line of another form: iCT, Eq. (9).", ()),
        ("Source: iCT, Eq. (9).\n\nSource: iCT, Eq. (8).", ()),
    ],
)
def test_equations_are_read_from_the_one_source_line(source: str, equations: tuple[int, ...]) -> None:
    assert Formula("f", Path("f.py"), 1, "def f()", f"Return 0.\n\n{source}").equations == equations


def test_a_formula_without_a_place_in_the_namespace_is_not_in_the_ledger(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text('__all__ = ["f"]\n')
    (tmp_path / "a.py").write_text(
        'def f(\n    x: int,\n) -> int:\n    """Return x.\n\n    Source: iCT, Eq. (4).\n    """\n    return x\n\n'
        "def g():\n    pass\n"
    )
    [formula] = formulas(tmp_path)
    assert (formula.name, formula.line, formula.value, formula.equations) == ("f", 1, "x", (4,))
    assert formula.signature == "def f(\n    x: int,\n) -> int"


def test_the_tables_of_equations_are_up_to_date() -> None:
    page = PAGE.read_text()
    assert written(page) == page, "stale: run `python3 -m nox -s equations`"


def test_laws_are_counted_where_they_name_the_function(tmp_path: Path) -> None:
    (tmp_path / "properties").mkdir()
    (tmp_path / "properties" / "test_a.py").write_text(
        "every = st.sampled_from([c_in, c_skip])\n"
        '@law_of("c_in", "c_noise")\n@given(every)\ndef test_both_of_them(f): c_out\n'
        "@given(every)\ndef test_c_out_rises(f): pass\n"
        '@law_of("pseudo_huber_constant")\ndef test_that_it_rises(): squared_l2\n'
    )
    found = {name: tests for name, tests in laws(tmp_path).items() if tests}
    assert set(found) == {"c_in", "c_noise", "pseudo_huber_constant"}


# Tests of all formulas at once, by their examples in properties/domains.py, and of the laws of `ict_ref.verify`.
OF_ALL_FORMULAS = {
    "test_bad_input.py",
    "test_every_formula.py",
    "test_laws.py",
    "test_paper.py",
    "test_papers.py",
}


def test_every_property_test_names_its_functions() -> None:
    for path in sorted((ROOT / "properties").glob("test_*.py")):
        unnamed = [test.name for test in equation_table.tests_of(ast.parse(path.read_text())) if not functions_of(test)]
        assert unnamed == [] or path.name in OF_ALL_FORMULAS


def test_oracles_are_counted_where_they_are_called(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text(
        '"""A title.\n\nOracle: mpmath, 50 digits.\nIngredients: slerp.\n"""\n'
        "from ict_ref.formulas import c_in, c_out, l1, slerp\n"
        "def helper(): return c_in\n"
        "def denoise(): return 0\n"
        "def test_it(): helper(); l1; slerp; denoise()\n"
    )
    (tmp_path / "tests" / "test_b.py").write_text('"""No such line."""\ndef test_it(): c_noise\n')
    found = {name: where for name, where in oracles(tmp_path).items() if where}
    where = [(Path("tests/test_a.py"), "mpmath, 50 digits")]
    assert found == {"c_in": where, "l1": where}


def test_eq_lists_all_thirteen_equations(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eq"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for number, homes in HOMES.items():
        assert any(line.startswith(f"Eq. ({number}) ") and homes & set(line.split()) for line in lines)
    assert any("slerp" in line for line in lines)


def place(line: str) -> tuple[Path, str]:
    """Return the file that a line FILE:NUMBER names, and the text of that line."""
    file, number = line.rsplit(":", 1)
    return Path(file), (ROOT / file).read_text().splitlines()[int(number) - 1]


@pytest.mark.parametrize("which", ["9", "(9)", "Eq. (9)", "eq9", "exponential_curriculum"])
def test_eq_prints_file_line_signature_and_docstring(which: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eq", which]) == 0
    out = capsys.readouterr().out
    [(file, text)] = [
        place(line) for line in out.splitlines() if line.startswith(f"src{os.sep}") and "formulas" in line
    ]
    assert file.name == "curriculum.py"
    assert text.removesuffix(":") in out
    assert "def exponential_curriculum(step: int, *, total_steps: int, s0: int = 10, s1: int = 1280) -> int" in out
    assert "    Source: iCT, Section 3.4, Eq. (9)." in out


@pytest.mark.parametrize("which", ["8", "pseudo_huber"])
def test_eq_prints_the_literal_form_first(which: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eq", which]) == 0
    first, _, *lines = capsys.readouterr().out.splitlines()
    file, text = place(first)
    assert (file.name, text, lines[0]) == ("paper.py", "def pseudo_huber(", "def pseudo_huber(")
    end = lines.index("")
    assert lines[end - 1] == "    return torch.sqrt(_norm(x - y) ** 2 + c**2) - c"
    assert place(lines[end + 1])[0].name == "distance.py"


@pytest.mark.parametrize(("which", "name"), [("ect:18", "ect_mapping"), ("ECT:(19)", "adaptive_weights")])
def test_eq_prints_equations_of_other_papers(which: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eq", which]) == 0
    first, _, *lines = capsys.readouterr().out.splitlines()
    file, text = place(first)
    assert (file.as_posix(), text, lines[0]) == ("src/ict_ref/papers/ect.py", f"def {name}(", f"def {name}(")
    end = lines.index("")
    assert place(lines[end + 1])[0].name == "consistency_tuning.py"


def test_eq_lists_each_paper_and_all_formulas_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eq"]) == 0
    out = capsys.readouterr().out
    assert out.index("iCT: Song & Dhariwal 2023") < out.index("ECT: Geng et al. 2024") < out.index("ect_mapping")
    headings = [line for line in out.splitlines() if line in ("Numbered equations", "Everything else")]
    assert headings[-2:] == ["Everything else"] * 2  # sLCT has no numbered equation
    assert main(["eq", "ect:", "--json"]) == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert {"ect_mapping", "l2", "lognormal_level"} <= set(entries)
    assert entries["ect_mapping"]["places"] == ["ect:18", "ect:17"]
    assert entries["ect_mapping"]["equations"] == []


def test_eq_of_a_formula_that_the_paper_does_not_print_has_no_literal_form(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eq", "slerp"]) == 0
    assert "paper.py" not in capsys.readouterr().out


def test_eq_counts_the_laws_and_names_the_oracle(capsys: pytest.CaptureFixture[str]) -> None:
    """The files of the laws are parsed; the laws themselves are counted here"""
    counted = Counter(each.function for each in LAWS)
    assert {each.name: each.laws for each in formulas()} == {each.name: counted[each.name] for each in formulas()}
    assert counted["l2"] == 8
    assert main(["eq"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("Eq. (18)")]
    assert line.endswith(f"  {counted['ect_mapping']} laws; oracle: mpmath, 50 digits")
    # A paper without numbered equations does not have their heading.
    assert lines.count("Numbered equations") == 4
    assert main(["eq", "tcm:6"]) == 0
    expected = f"    Checked by {counted['truncated_weights']} laws; oracle: mpmath, 50 digits."
    assert capsys.readouterr().out.splitlines()[-1] == expected


def test_eq_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eq", "8", "--json"]) == 0
    [entry] = json.loads(capsys.readouterr().out)
    assert (entry["name"], entry["equations"], entry["source"]) == ("pseudo_huber", [8], "iCT, Section 3.3, Eq. (8)")
    file, line, code = (entry["paper"][key] for key in ("file", "line", "code"))
    assert Path(file).read_text().splitlines()[line - 1 :][: code.count("\n") + 1] == code.splitlines()
    assert code.startswith("def pseudo_huber(")
    assert code.endswith("- c")
    assert main(["eq", "slerp", "--json"]) == 0
    assert [entry["paper"] for entry in json.loads(capsys.readouterr().out)] == [None]


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("14", "from 1 to 13, got 14"),
        ("0", "got 0"),
        ("huber", "perhaps you meant pseudo_huber"),
        ("pseudo_huger", "perhaps you meant pseudo_huber"),
        ("x", "eq`"),
        ("Eq. (14)", "NUMBER|PAPER:NUMBER|NAME: expected an equation from 1 to 13, got 14"),
        ("ect:7", "expected an equation of ECT among 12, 17, 18, 19, got 7"),
        ("edm:1", "expected a paper among ict, ect"),
    ],
)
def test_eq_rejects_an_unknown_name_in_one_line(which: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eq", which]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lanch"], "python -m ict_ref lists, got lanch; perhaps you meant python -m ict_ref launch"),
        (["--jsn"], "python -m ict_ref lists, got --jsn; see python -m ict_ref --help"),
        (["eq", "9", "10"], "unexpected argument 10; see python -m ict_ref eq --help"),
        (["eq", "--jsn"], "unknown option --jsn; perhaps you meant --json"),
    ],
)
def test_an_unknown_command_or_option_is_rejected_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_the_package_lists_its_commands_at_once_without_importing_torch() -> None:
    code = (
        "import sys; from ict_ref.__main__ import main; main([]); main(['eq', '8']); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "python -m ict_ref.launch" in done.stdout
    assert "def pseudo_huber(" in done.stdout

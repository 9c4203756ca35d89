from tools.mutation_report import Mutant, listed, mutant, report

DIFF = """# ict_ref.formulas.sampling.x_search__mutmut_74: survived
--- src/ict_ref/formulas/sampling.py
+++ src/ict_ref/formulas/sampling.py
@@ -42,7 +42,7 @@
         third = (right - left) // 3
-        if value(left) < value(right):
+        if value(left) <= value(right):
             right -= third
"""
ONE = Mutant("sampling.search", "if value(left) < value(right):", "if value(left) <= value(right):")
OTHER = Mutant("sampling.search", "a", "b")


def test_a_mutant_is_known_by_its_function_and_what_changed_not_by_its_number() -> None:
    assert mutant("ict_ref.formulas.sampling.x_search__mutmut_74", DIFF) == ONE


def test_a_mutant_in_a_private_function_keeps_its_name() -> None:
    assert mutant("ict_ref.formulas._domain.x_refuse__mutmut_1", DIFF).function == "_domain.refuse"
    assert mutant("ict_ref.formulas.editing.x__covers__mutmut_1", DIFF).function == "editing._covers"


def test_the_score_leaves_out_equivalent_mutants() -> None:
    lines, passed = report(11, [ONE], {ONE: "no ties"})
    assert (lines, passed) == (["11 mutants: 10 killed, 0 survived, 1 equivalent; score 100.0 %"], True)


def test_an_unexplained_survivor_is_printed_and_fails() -> None:
    lines, passed = report(11, [ONE, OTHER], {ONE: "no ties"})
    assert lines == ["sampling.search\n  - a\n  + b", "11 mutants: 9 killed, 1 survived, 1 equivalent; score 90.0 %"]
    assert not passed


def test_a_listed_mutant_that_is_noticed_is_printed_and_fails() -> None:
    lines, passed = report(11, [], {OTHER: "no ties"})
    assert lines[0] == "sampling.search: listed as equivalent, but noticed or gone\n  + b"
    assert not passed


def test_every_equivalent_mutant_has_a_reason() -> None:
    assert all(len(why.split()) >= 4 for why in listed().values())

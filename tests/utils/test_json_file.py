"""JSON objects of stored files, and their values by type hints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

from ict_ref.utils.json_file import as_fields, checked, entry, json_object, read_json, shown

NOT_OBJECTS = [b"", b"[]", b"5", b"{", b"\xff\xfe", b"\x80", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000]
BIG = 10**400


@pytest.mark.parametrize("text", NOT_OBJECTS, ids=lambda text: str(text[:5]))
def test_text_that_is_not_an_object_is_rejected_in_one_line(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(ValueError, match=r"^.*a\.json is damaged: it is not a JSON object\. Write it again\.$"):
        read_json(tmp_path / "a.json", "Write it again.")
    (tmp_path / "a.json").write_text('{"a": [1]}')
    assert read_json(tmp_path / "a.json") == json_object('{"a": [1]}', "text") == {"a": [1]}


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (3, int, 3),
        (2**128 - 1, int, 2**128 - 1),
        (3, float, 3),
        (0.5, float | None, 0.5),
        (None, float | None, None),
        ([4, 2], tuple[int, ...], (4, 2)),
        ([], tuple[int, ...], ()),
        (["a"], tuple[str, ...] | None, ("a",)),
        ([1, 8, 8], tuple[int, int, int], (1, 8, 8)),
        ("b", Literal["a", "b"], "b"),
        ("b", Literal["a", "b"] | None, "b"),
        ({"a": None, "b": 1, "c": "d"}, Mapping[str, str | int | None], {"a": None, "b": 1, "c": "d"}),
        ([{}], Any, [{}]),
    ],
)
def test_a_value_of_its_type_is_returned(value: object, kind: Any, expected: object) -> None:
    found = checked(value, kind, "x")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind", "complaint"),
    [
        ("foo", Literal["a", "b"], "x: expected one of a, b, got foo"),
        (["a"], Literal["a", "b"], "x: expected one of a, b, got ['a']"),
        ("a\nb", Literal["a", "b"], "x: expected one of a, b, got 'a\\nb'"),
        ("no", bool, "x: expected true or false, got 'no'"),
        (1, bool, "x: expected true or false, got 1"),
        (1.5, int, "x: expected an integer, got 1.5"),
        (8.0, int, "x: expected an integer, got 8.0"),
        (True, int, "x: expected an integer, got True"),
        (float("inf"), int, "x: expected an integer, got inf"),
        (BIG, int, "x: expected an integer below 2^128, got 100000000000000000...0000000000000000000"),
        (-BIG, int, "x: expected an integer below 2^128, got -10000000000000000...0000000000000000000"),
        (True, float, "x: expected a number, got True"),
        ("1", float, "x: expected a number, got '1'"),
        (BIG, float, "x: expected a number, got 100000000000000000...0000000000000000000"),
        ("x", float | None, "x: expected a number or null, got 'x'"),
        (BIG, float | None, "x: expected a number or null, got 100000000000000000...0000000000000000000"),
        (5, str, "x: expected a string, got 5"),
        (5, tuple[int, ...], "x: expected a list, got 5"),
        ([1, "a"], tuple[int, ...], "x[1]: expected an integer, got 'a'"),
        ([8], tuple[int, int, int], "x: expected a list of 3 values, got [8]"),
        ([8], Mapping[str, str], "x: expected an object, got [8]"),
        ({"a": 1}, Mapping[str, str], "x.a: expected a string, got 1"),
    ],
)
def test_a_value_of_another_type_is_rejected_by_its_name(value: object, kind: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=r"^x") as caught:
        checked(value, kind, "x")
    assert str(caught.value) == complaint


def test_a_small_integer_and_a_missing_entry_are_rejected() -> None:
    assert checked([1, 0], tuple[int, ...], "x", least=0) == (1, 0)
    with pytest.raises(ValueError, match=r"^x\[1\]: expected an integer >= 1, got 0$"):
        checked([1, 0], tuple[int, ...], "x", least=1)
    assert entry({"a": 1}, "a", int) == 1
    with pytest.raises(ValueError, match=r"^of\.b: expected an entry, got none$"):
        entry({"a": 1}, "b", int, "of.")


def test_a_type_that_json_cannot_hold_is_an_error_of_the_caller() -> None:
    with pytest.raises(TypeError, match="is not a type of JSON"):
        checked(1, bytes, "x")
    with pytest.raises(ValueError, match=r"^Path: expected an object, got 5"):
        as_fields(Path, 5)


def test_values_are_shown_on_one_short_line() -> None:
    assert [shown(value) for value in ("foo", None, 1.5)] == ["foo", "None", "1.5"]
    assert all(len(shown(value)) < 300 and "\n" not in shown(value) for value in ("\n", "a" * 999, [BIG] * 99))


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"b": {"a": 1, "a": 1}}', '{"b": [{"a": 1, "c": 2, "a": 3}]}'])
def test_an_entry_that_is_there_twice_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"^x\.json is damaged: it has the entry a twice\. Restore it from a copy\.$"):
        json_object(text, "x.json")
    assert json_object(text.replace('"a"', '"d"', 1), "x.json")

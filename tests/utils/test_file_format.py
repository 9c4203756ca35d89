"""Format numbers of stored files in messages."""

import pytest

from ict_ref.utils.file_format import LaterFormatError, format_of

BIG = 10**400


@pytest.mark.parametrize("number", [BIG, -BIG, "9" * 5000, [1] * 5000])
def test_a_format_number_is_not_printed_in_full(number: object) -> None:
    with pytest.raises(ValueError, match=r"a\.json: expected") as caught:
        format_of("a.json", {"format": number, "ict_ref": "9" * 400}, 2)
    assert len(str(caught.value)) < 200
    assert isinstance(caught.value, LaterFormatError) == (number == BIG)


def test_the_name_of_a_later_version_is_given_if_it_is_one() -> None:
    for name, words in (("9.0.0", "Version 9.0.0 of ict_ref"), ([1], "A later version"), ("9\n", "A later version")):
        with pytest.raises(LaterFormatError, match=words) as caught:
            format_of("a.json", {"format": 3, "ict_ref": name}, 2)
        assert "\n" not in str(caught.value)

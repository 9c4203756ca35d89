"""Names of other origin cannot control the terminal or write lines of their own."""

import json
import shlex
import sys
from pathlib import Path

import pytest
from tests.support.datasets import random_images, write_images
from tests.support.preparing import prepare

from ict_ref.utils.command_line import say
from ict_ref.utils.printable import printable, printable_lines
from ict_ref.verify.__main__ import main as verify
from ict_ref.verify.target.external_process import ExternalTarget, RefusedError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Straße 犬 a b", "Straße 犬 a b"),
        ("a\x1b[31m", r"a\x1b[31m"),
        ("a\rb\x07\x00", r"a\rb\x07\x00"),
        ("a\nb\u2028c\x85d", r"a\nb\u2028c\x85d"),
        ("a\u202egnp.exe\u2066", r"a\u202egnp.exe\u2066"),
        ("caf\udce9", r"caf\udce9"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_other_than_printable_characters_are_escaped(text: str, expected: str) -> None:
    assert printable(text) == expected
    assert printable(text).isprintable()


def test_the_lines_of_the_command_stay() -> None:
    assert printable_lines("a\nb\x1b\n") == "a\nb\\x1b\n"


def test_a_message_is_one_printable_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert say("ict_ref.x", 2, "got a\x1b[2J\nb\u202e") == 2
    assert capsys.readouterr().err == "ict_ref.x: got a\\x1b[2J b\\u202e\n"


def test_names_of_classes_and_images_are_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_images(tmp_path / "a", random_images(2, 3, 8, 8), [0, 1])
    (source / "c0").rename(source / "\x1b[2Jred")
    (source / "c1").rename(source / "c\nprepared in nowhere")
    assert prepare(source) == 0
    out = capsys.readouterr().out
    assert r"(\x1b[2Jred, c\nprepared in nowhere)" in out
    assert "\x1b" not in out
    assert "\nprepared in" not in out
    next((source / "\x1b[2Jred").iterdir()).write_bytes(b"")
    assert prepare(source, "--out", tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert r"\x1b[2Jred" in line
    assert "\x1b" not in line


def test_the_errors_of_a_peer_are_escaped(tmp_path: Path) -> None:
    answer = {"id": 1, "error": "\x1b[31mno\x07"}
    (tmp_path / "peer.py").write_text(f"input()\nprint({json.dumps(answer)!r}, flush=True)\ninput()")
    command = shlex.join([sys.executable, str(tmp_path / "peer.py")])
    with ExternalTarget(command) as peer, pytest.raises(RefusedError) as error:
        peer._call("c_in", {})
    assert str(error.value) == r"\x1b[31mno\x07"


def test_keys_of_a_trace_and_of_waivers_are_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trace.json").write_text(r'{"\u001b[31mx": 1}')
    assert verify(["trace", str(tmp_path / "trace.json")]) == 2
    (tmp_path / "w.toml").write_text(r'"\u001b[31mx" = 1')
    assert verify(["trace", str(tmp_path / "trace.json"), "--waivers", str(tmp_path / "w.toml")]) == 2
    err = capsys.readouterr().err
    assert err.count(r"\x1b[31mx") == 2
    assert "\x1b" not in err

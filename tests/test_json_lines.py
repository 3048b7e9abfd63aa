"""JSON lines: a line ends at a line feed, whatever its strings hold, and every reader of the product agrees."""

import json

import pytest

from dca_hub import json_lines, results
from dca_hub.errors import DcaHubError
from dca_hub.training import dialogues

ODD = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"


def test_lines_end_at_line_feeds_only():
    assert json_lines.split("\ufeffone\r\ntwo\u2028three\n") == ["one", "two\u2028three", ""]
    text = f"data: {ODD}\r\n\ndata: two\nend"
    for size in (1, 3, 100):
        chunks = [text[k : k + size] for k in range(0, len(text), size)]
        assert list(json_lines.lines_of(chunks)) == [f"data: {ODD}", "", "data: two", "end"]


def test_what_was_written_is_read():
    values = [{"text": ODD}, {"text": "plain"}]
    text = "".join(map(json_lines.line, values))
    assert json_lines.parse("\ufeff" + text.replace("\n", "\r\n"), "f", "fix it") == [
        ("f, line 1", values[0]),
        ("f, line 2", values[1]),
    ]


def test_lines_that_are_not_objects_are_named():
    with pytest.raises(DcaHubError, match="f, line 3 is not JSON: fix it"):
        json_lines.parse('{}\n\n{"a\n', "f", "fix it")
    assert json_lines.parse('{}\n\n{"a\n', "f", "fix it", torn=True) == [("f, line 1", {})]
    with pytest.raises(DcaHubError, match="line 1 is not JSON"):
        json_lines.parse('{"a\n{}\n', "f", "fix it", torn=True)
    with pytest.raises(DcaHubError, match="line 1 is not a JSON object"):
        json_lines.parse("[]\n", "f", "fix it")
    with pytest.raises(DcaHubError, match="is not JSON"):
        json_lines.parse("[" * 100_000, "f", "fix it")


def test_measurements_and_dialogues_hold_any_character(tmp_path):
    measured = results.Measurement("passkey", "accuracy", 1.0, 512, False, "m", data=ODD)
    (tmp_path / "r.jsonl").write_bytes(("\ufeff" + results.to_lines([measured])).encode())
    assert results.read(tmp_path / "r.jsonl") == [measured]
    said = [{"role": "user", "content": ODD}, {"role": "assistant", "content": "Yes."}]
    for text in (
        json_lines.line({"messages": said}),
        "\ufeff" + json_lines.line({"messages": said}),
        json.dumps({"messages": said}, indent=2),
        "\ufeff \n" + json.dumps([{"messages": said}]),
    ):
        (tmp_path / "d.json").write_bytes(text.encode())
        assert dialogues.read(tmp_path / "d.json") == [said]


def test_a_file_that_is_not_utf8_says_so(tmp_path):
    (tmp_path / "f.jsonl").write_bytes(b'{"a": "\xe9"}\n')
    with pytest.raises(DcaHubError, match=r"results 'f.jsonl' is not UTF-8"):
        json_lines.read_text(tmp_path / "f.jsonl", "results")

"""The commands of the evaluation as a user runs them: results, resuming, several processes, and what is refused."""

import signal
import subprocess
import sys

import pytest

from dca_hub import cli, results
from dca_hub.cli import measuring
from dca_hub.evaluation import runs, summary
from support.launching import ENVIRONMENT, launch

PERPLEXITY = ("--lengths", "64,128,256", "--stride", "32", "--windows", "3", "--plain")
PASSKEY = ("--lengths", "200,400", "--depths", "3", "--plain")


def numbers(path):
    """What was measured, without how long it took."""
    [run] = runs.read(path)
    return [{key: value for key, value in sample.items() if key != "seconds"} for sample in run.samples]


@pytest.fixture(scope="module")
def measured(folder, text_file, tmp_path_factory):
    """A folder with the results of each command."""
    place = tmp_path_factory.mktemp("results")
    perplexity = ["perplexity", str(folder), "--text", str(text_file), *PERPLEXITY]
    assert cli.main([*perplexity, "--out", str(place / "perplexity.jsonl")]) == 0
    assert cli.main(["passkey", str(folder), *PASSKEY, "--out", str(place / "passkey.jsonl")]) == 0
    pairs = ["needle", str(folder), "--haystack", "pairs", "--lengths", "400", "--depths", "0.5"]
    assert cli.main([*pairs, "--out", str(place / "needle.jsonl")]) == 0
    return place


def test_the_files_hold_configuration_versions_and_samples(measured):
    [run] = runs.read(measured / "perplexity.jsonl")
    assert run.task == "perplexity" and run.variants == ["DCA", "plain"] and run.lengths == [64, 128, 256]
    assert len(run.samples) == 2 * 3 * 3
    assert run.header["variants"]["DCA"]["dual_chunk_attention_config"]["chunk_size"] == 96
    assert set(run.header["versions"]) == {"dca_hub", "torch", "transformers", "python"}
    assert run.header["settings"]["stride"] == 32 and run.header["command"].startswith("dca-hub")
    for name in ("perplexity", "passkey", "needle"):
        assert (measured / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_plain_model_and_dca_agree_up_to_the_chunk_length_and_not_beyond(measured):
    [run] = runs.read(measured / "perplexity.jsonl")
    dca, plain = ({n: one.value for n, one in summary.numbers(run)[name].items()} for name in run.variants)
    assert dca[64] == pytest.approx(plain[64], rel=1e-6), "shorter than a chunk"
    assert dca[256] != pytest.approx(plain[256], rel=1e-4)


def test_tables_are_printed(measured, folder, text_file, capsys):
    out = str(measured / "perplexity.jsonl")
    assert cli.main(["perplexity", str(folder), "--text", str(text_file), *PERPLEXITY, "--out", out]) == 0
    said = capsys.readouterr()
    assert "| perplexity | 64 | 128 | 256 |" in said.out and "| tiny, DCA |" in said.out and "stride 32" in said.out
    assert "written:" in said.err
    assert cli.main(["passkey", str(folder), *PASSKEY, "--out", str(measured / "passkey.jsonl")]) == 0
    assert "| DCA: depth | 200 | 400 |" in capsys.readouterr().out


def test_results_become_measurements_for_a_card(measured):
    found = summary.read(measured / "perplexity.jsonl")
    assert [(r.dca, r.length, r.samples) for r in found] == [(d, n, 3) for d in (True, False) for n in (64, 128, 256)]
    lines = measured / "measurements.jsonl"
    lines.write_text(results.to_lines(found), encoding="utf-8")
    assert summary.read(lines) == found
    lines.unlink()


def test_two_processes_give_what_one_gives(measured, folder, text_file, tmp_path):
    for name, command in (
        ("perplexity", ["perplexity", str(folder), "--text", str(text_file), *PERPLEXITY]),
        ("passkey", ["passkey", str(folder), *PASSKEY]),
    ):
        out = tmp_path / f"{name}.jsonl"
        done = launch(2, "-m", "dca_hub", *command, "--out", str(out))
        assert done.returncode == 0, done.stderr
        assert numbers(out) == numbers(measured / f"{name}.jsonl")
        assert runs.read(out)[0].header["processes"] == 2 and not list(tmp_path.glob("*part*"))
        assert done.stdout.count("samples;") == 1, "one process alone reports"


def test_two_processes_that_share_one_model_give_what_one_gives(measured, folder, text_file, tmp_path):
    out = tmp_path / "shared.jsonl"
    command = ["perplexity", str(folder), "--text", str(text_file), *PERPLEXITY, "--device", "tensor-parallel"]
    done = launch(2, "-m", "dca_hub", *command, "--out", str(out))
    assert done.returncode == 0, done.stderr
    mine, alone = numbers(out), numbers(measured / "perplexity.jsonl")
    assert [runs.sample_key(one) for one in mine] == [runs.sample_key(one) for one in alone]
    assert [one["nats"] for one in mine] == pytest.approx([one["nats"] for one in alone], rel=1e-4)


def test_ctrl_c_loses_nothing(folder, tmp_path):
    out = tmp_path / "r.jsonl"
    command = ["passkey", str(folder), "--lengths", "400", "--depths", "5", "--trials", "40", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "dca_hub", *command],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
    )
    while process.poll() is None and not (out.is_file() and out.read_text().count("\n") > 4):
        pass
    process.send_signal(signal.SIGINT)
    error = process.stderr.read().decode()
    assert process.wait(timeout=60) == 130 and "stopped" in error and "Traceback" not in error
    held = runs.read(out)[0].samples
    assert 3 <= len(held) < 200
    fewer = ["passkey", str(folder), "--lengths", "400", "--depths", "5", "--trials", "1", "--out", str(out)]
    assert cli.main(fewer) == 0
    after = {runs.sample_key(one): one for one in numbers(out)}
    whole = tmp_path / "whole.jsonl"
    assert cli.main([*fewer[:-1], str(whole)]) == 0
    assert {runs.sample_key(one) for one in held} <= after.keys()
    assert all(after[runs.sample_key(one)] == one for one in numbers(whole)), "as if it had never been stopped"


def test_plot_draws_several_files_into_one_picture(measured, tmp_path, capsys):
    out = tmp_path / "both.png"
    file = str(measured / "passkey.jsonl")
    assert cli.main(["plot", file, str(measured / "needle.jsonl"), "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert cli.main(["plot", file, str(measured / "perplexity.jsonl"), "--out", str(out)]) == 2
    assert "cannot share a picture" in capsys.readouterr().err


@pytest.mark.parametrize(
    "args, words",
    [
        (("perplexity", "{folder}", "--text", "{empty}"), "No text was found"),
        (("perplexity", "{folder}", "--text", "/no/such.txt"), "no file or folder"),
        (("perplexity", "{folder}", "--text", "{text}", "--lengths", "64k"), "give a longer text"),
        (("perplexity", "{folder}", "--text", "{text}", "--lengths", "128"), "longer than the stride"),
        (("perplexity", "{folder}", "--text", "{text}", "--compare", "plane"), "to compare with"),
        (("perplexity", "{folder}", "--text", "{text}", "--no-dca"), "nothing to measure"),
        (("perplexity", "{folder}", "--text", "{text}", "--out", "results.csv"), "end in .jsonl"),
        (("perplexity", "{folder}", "--text", "{text}", "--lengths", "512", "--out", "{measured}"), "another run"),
        (("passkey", "{folder}", "--lengths", "64"), "too few for a pass-key prompt"),
        (("needle", "{folder}", "--lengths", "500", "--haystack", "{empty}"), "No text was found"),
        (("needle", "{folder}", "--lengths", "500", "--needles", "99"), "1 to 32 needles"),
        (("passkey", "{folder}", "--lengths", "500", "--device", "tensor-parallel"), "start with torchrun"),
        (("plot", "{text}"), "holds no results"),
        (("plot", "/no/such.jsonl"), "cannot be read"),
        (("plot", "{measured}", "--out", "/no/such.png"), "'such.png' cannot be written"),
        (("plot", "{measured}", "--out", "picture.gif"), "end in .png"),
    ],
)
def test_what_cannot_be_measured_has_its_sentence(args, words, folder, text_file, measured, tmp_path, capsys):
    (tmp_path / "empty.txt").write_text("")
    known = {
        "{folder}": folder,
        "{text}": text_file,
        "{empty}": tmp_path / "empty.txt",
        "{measured}": measured / "perplexity.jsonl",
    }
    assert cli.main([str(known.get(one, one)) for one in args]) == 2
    error = capsys.readouterr().err.strip()
    assert words in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    "command",
    [
        ("passkey", "--lengths", "x"),
        ("passkey", "--lengths", "0"),
        ("passkey", "--depths", "2.5"),
        ("passkey", "--lengths", ","),
        ("perplexity", "--text", "t.txt", "--windows", "-3"),
    ],
)
def test_numbers_that_are_none_are_refused_by_the_parser(command, folder, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command, str(folder)])
    assert stopped.value.code == 2 and "error: argument" in capsys.readouterr().err


def test_the_time_that_is_left_is_that_of_measuring(monkeypatch, capsys):
    """Loading and reading the text, before the first piece, say nothing of how long the rest will take."""
    clock = iter([0.0, 1000.0, 1060.0, 1120.0])
    monkeypatch.setattr(measuring.time, "monotonic", lambda: next(clock))
    with measuring.progress("perplexity") as update:
        for done in (100, 200, 300):
            update(done, 1000)
    assert capsys.readouterr().err.splitlines() == [
        "perplexity: 20% of 1,000 tokens, about 8 min left",
        "perplexity: 30% of 1,000 tokens, about 7 min left",
    ]


def test_the_space_can_load_what_the_command_line_wrote(measured):
    from dca_hub.evaluation import needle

    loaded = needle.from_text((measured / "passkey.jsonl").read_text())
    assert len(loaded) == 2 * 2 * 3 and {one.dca for one in loaded} == {True, False}


def test_pass_keys_at_random_depths_are_shown_by_length_alone(folder, tmp_path, capsys):
    out = tmp_path / "random.jsonl"
    command = ["passkey", str(folder), "--lengths", "700", "--depths", "random", "--trials", "30", "--style", "authors"]
    assert cli.main([*command, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    [run] = runs.read(out)
    assert len({sample["depth"] for sample in run.samples}) == len(run.samples) == 30
    assert "depth" not in said and "30 samples" in said and "style authors" in said
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert cli.main([*command, "--out", str(out)]) == 0, "the same depths again"

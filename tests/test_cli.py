"""The command line, run as a user runs it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dca_hub import cli
from dca_hub.cli import ask
from support.offering import offer_sparse
from support.tiny_checkpoints import write_checkpoint

ROOT = Path(__file__).resolve().parent.parent
REAL_PDFS = (
    Path("/usr/share/doc/shared-mime-info/shared-mime-info-spec.pdf"),
    Path("/usr/share/doc/libtasn1-doc/libtasn1.pdf"),
)


def dca_hub(*args: str, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "dca_hub", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/", timeout=300, **options)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("cli") / "tiny", max_position_embeddings=128)


@pytest.fixture(scope="module")
def pdf(tmp_path_factory):
    from support.pdfs import make_pdf

    path = tmp_path_factory.mktemp("pdf") / "note.pdf"
    path.write_bytes(make_pdf(["The first page is short.", "The second page tells of a lighthouse."]))
    return path


def test_help_names_every_command():
    said = dca_hub("--help")
    assert said.returncode == 0
    for command in ("models", "package", "verify", "ask"):
        assert command in said.stdout
        assert dca_hub(command, "--help").returncode == 0


def test_models():
    assert "smollm-135m-instruct" in dca_hub("models").stdout
    rows = json.loads(dca_hub("models", "demo", "--json").stdout)
    assert rows[0]["name"] == "demo"
    fitting = {row["name"] for row in json.loads(dca_hub("models", "--fits", "4k", "--json").stdout)}
    assert "demo" in fitting and "llama-2-70b" not in fitting, "the larger one has 138 GB of weights"
    far = {row["name"] for row in json.loads(dca_hub("models", "--fits", "20k", "--json").stdout)}
    assert "demo" not in far
    unknown = dca_hub("models", "demmo")
    assert unknown.returncode == 2 and "demo" in unknown.stderr


def test_package_then_verify(source, tmp_path):
    out = tmp_path / "out"
    sizes = ("--pretraining-length", "128", "--chunk-size", "96", "--local-size", "32")
    made = dca_hub("package", source, "--out", out, *sizes, "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["dual_chunk_attention_config"]["chunk_size"] == 96
    untold = dca_hub("package", source, "--out", tmp_path / "other", "--tune-by", "keys")
    assert untold.returncode == 2 and "give --tune TEXT" in untold.stderr and not (tmp_path / "other").exists()
    again = dca_hub("package", source, "--out", out, *sizes)
    assert again.returncode == 2 and "--force" in again.stderr and "Traceback" not in again.stderr
    checked = dca_hub("verify", out, "--json")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    (out / "README.md").write_text("changed")
    changed = dca_hub("verify", out)
    assert changed.returncode == 1 and "README.md has changed" in changed.stdout


def test_ask(source, pdf):
    said = dca_hub("ask", source, "--pdf", pdf, "--max-new-tokens", "6", "What is on the second page?", "--json")
    assert said.returncode == 0, said.stderr
    answer = json.loads(said.stdout)
    assert answer["dca"] and answer["stats"]["prompt_tokens"] > 60 and answer["stats"]["answer_tokens"] <= 6
    spoken = dca_hub("ask", source, "--pdf", pdf, "--max-new-tokens", "6", "--no-dca", "--pages", "2", "What?")
    assert spoken.returncode == 0 and "1 of 2 pages" in spoken.stderr and "DCA is off" in spoken.stderr
    assert "tokens per second" in spoken.stderr
    assert ", float32 (" in spoken.stderr  # the precision, and why
    asked = dca_hub("ask", source, "--pdf", pdf, "--max-new-tokens", "2", "--dtype", "bfloat16", "What?")
    assert ", bfloat16 (as asked)" in asked.stderr


@pytest.mark.parametrize(
    "args, words",
    [
        (("--pdf", "/no/such.pdf"), "such.pdf"),
        (("--pdf", __file__), "PDF"),
        (("--pages", "7"), "2 pages"),
        (("--max-context", "40"), "would fit"),
        (("--device", "cuda:99"), "cannot use the device"),
    ],
)
def test_ask_says_what_is_wrong_in_one_line(args, words, source, pdf):
    given = args if "--pdf" in args else ("--pdf", pdf, *args)
    said = dca_hub("ask", source, *given, "What?")
    assert said.returncode == 2 and words in said.stderr
    assert said.stderr.strip().splitlines()[-1].startswith("dca-hub: ") and "Traceback" not in said.stderr


@pytest.fixture
def long_text(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("The keeper wrote the weather into his book every evening.\n" * 300)
    return path


def ask_here(monkeypatch, capsys, long_text, *options: str) -> str:
    """What `ask` says beside the answer, of a text whose reading counts as long."""
    monkeypatch.setattr(ask, "_LONG", 0)
    assert cli.main(["ask", "demo", "--pdf", str(long_text), "--max-new-tokens", "2", "What?", *options]) == 0
    return capsys.readouterr().err


def test_ask_says_how_long_reading_takes_and_that_there_is_a_choice_where_there_is(monkeypatch, capsys, long_text):
    said = ask_here(monkeypatch, capsys, long_text)
    tokens = re.search(r"reading ([\d,]+) tokens takes about \d+ s\n", said)[1]
    assert said.count("takes about") == 1 and 2000 < int(tokens.replace(",", "")) < 8000
    assert "--sparse" not in said, "a processor gains nothing from it, and the text is short"
    offer_sparse(monkeypatch, 1000)
    assert "\n--sparse is a choice here: an approximation" in ask_here(monkeypatch, capsys, long_text)
    plain = ask_here(monkeypatch, capsys, long_text, "--no-dca")
    assert "takes about" in plain and "--sparse" not in plain
    sparse = ask_here(monkeypatch, capsys, long_text, "--sparse")
    assert re.search(r"takes about \d+ s(, or less where sparse attention turns out to be quicker)?\n", sparse)
    assert "is a choice" not in sparse


def test_ask_says_nothing_of_a_reading_that_is_short(monkeypatch, capsys, long_text):
    assert cli.main(["ask", "demo", "--pdf", str(long_text), "--max-new-tokens", "2", "--json", "What?"]) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(ask, "_LONG", 10_000)
    assert cli.main(["ask", "demo", "--pdf", str(long_text), "--max-new-tokens", "2", "What?"]) == 0
    assert "takes about" not in capsys.readouterr().err


@pytest.mark.parametrize("value", ["nan", "-1", "inf", "warm"])
def test_a_temperature_that_is_none_is_wrong_usage(value, source, pdf):
    said = dca_hub("ask", source, "--pdf", pdf, f"--temperature={value}", "What?")
    assert said.returncode == 2 and "--temperature" in said.stderr and "Traceback" not in said.stderr


@pytest.mark.parametrize("path", REAL_PDFS, ids=lambda path: path.stem)
def test_ask_reads_a_pdf_that_nobody_here_wrote(path, source):
    if not path.is_file():
        pytest.skip(f"{path.name} is not installed")
    said = dca_hub(
        "ask",
        source,
        "--pdf",
        path,
        "--pages",
        "2-5",
        "--max-context",
        "64k",
        "--max-new-tokens",
        "4",
        "--json",
        "What?",
    )
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["stats"]["prompt_tokens"] > 2000


def test_ctrl_c_ends_with_130(source, pdf):
    import signal

    long = ("--max-new-tokens", "20k", "--max-context", "64k")
    command = [sys.executable, "-m", "dca_hub", "ask", str(source), "--pdf", str(pdf), *long, "What?"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd="/",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
    )
    process.stderr.readline()  # the PDF is read; the model is loading or answering
    process.send_signal(signal.SIGINT)
    error = process.stderr.read().decode()
    assert process.wait(timeout=60) == 130 and "stopped" in error

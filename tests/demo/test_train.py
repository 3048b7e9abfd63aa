"""The trainer: it runs, stops, resumes to the same state, and says what is wrong."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from dca_hub.demo import MODEL_DIR
from examples.demo_model import train, trainer
from examples.demo_model.data import MAIN_MIX, Batches

SHAPE = "--window 64 --width 128 --layers 1 --inner 32"
SMALL = f"{SHAPE} --rows 2 --check-rows 16 --dense-steps 2 --workers 0".split()


@pytest.fixture(scope="module")
def text(tmp_path_factory, prose):
    file = tmp_path_factory.mktemp("text") / "book.txt"
    file.write_text(prose(6000))
    return file


def run(text, out, *more: str) -> int:
    return train.main(["--text", str(text), "--out", str(out), "--tokenizer", str(MODEL_DIR), *SMALL, *more])


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(text, tmp_path, monkeypatch):
    assert run(text, tmp_path / "whole", "--steps", "5") == 0

    stepped = trainer.Trainer._step

    def interrupted(trainer, *batch):
        if trainer.progress.step == 3:
            raise KeyboardInterrupt
        return stepped(trainer, *batch)

    monkeypatch.setattr(trainer.Trainer, "_step", interrupted)
    assert run(text, tmp_path / "parts", "--steps", "5") == 130
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "parts").config.num_hidden_layers == 1
    monkeypatch.undo()
    assert run(text, tmp_path / "parts", "--steps", "5", "--resume") == 0

    whole, parts = (load_file(tmp_path / name / "trainer.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys() and any(name.startswith("optimizer.") for name in whole)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_it_ends_with_the_mean_of_the_first_weights_and_the_last(text, tmp_path):
    assert run(text, tmp_path / "first", "--steps", "2") == 0
    begun = ("--start-from", str(tmp_path / "first"), "--steps", "3", "--seed", "4")
    assert run(text, tmp_path / "last", *begun) == 0 == run(text, tmp_path / "mean", *begun, "--average")
    first, last, mean = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "last", "mean"))
    for name in mean:
        expected = (first[name].float() + last[name].float()) / 2
        torch.testing.assert_close(mean[name].float(), expected, rtol=2**-7, atol=1e-4)
    assert any(not torch.equal(mean[name], last[name]) for name in mean)


def test_the_mix_of_windows_is_the_usual_one_but_for_what_is_named(capsys):
    options = train.parser().parse_args(["--text", "t", "--out", "o", "--mix", "key=0.3,prose=0"])
    assert options.mix == MAIN_MIX | {"key": 0.3, "prose": 0.0}
    with pytest.raises(SystemExit):
        train.parser().parse_args(["--text", "t", "--out", "o", "--mix", "keys=1"])
    assert "keys is none of prose, recall" in capsys.readouterr().err


def test_windows_are_drawn_by_the_mix():
    class Named:
        def make(self, kind, rng):
            return np.full(3, len(kind), np.int32), np.ones(3, np.float32)

    batches = Batches(Named(), rows=4, steps=9, seed=1, dense_steps=0, mix={"prose": 0.0, "fact": 0.5})
    assert all(batches[step][0].eq(len("fact")).all() for step in range(9))


def test_it_learns(text, tmp_path, capsys):
    assert run(text, tmp_path, "--steps", "60", "--check-steps", "15", "--dense-steps", "0", "--seed", "3") == 0
    checks = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert checks[-1]["prose"] < checks[0]["prose"] - 0.5


def test_the_schedule_warms_up_holds_and_falls():
    settings = trainer.Settings(10_000, None, 1.0, 0.1, 1, 0, False, 5)
    rates = [trainer.rate_at(settings, trainer.Progress(step)) for step in (0, 100, 3_000, 4_000, 7_000, 9_999)]
    assert rates[0] < rates[1] < rates[2] == rates[3] == 1 > rates[4] > rates[5] > 0
    by_time = trainer.Settings(10_000, 10.0, 1.0, 0.1, 1, 0, False, 5)
    assert trainer.rate_at(by_time, trainer.Progress(300, 600.0)) == pytest.approx(trainer.FINAL_RATE)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--text", "nowhere"], "There is no file or folder"),
        (["--resume"], "start without --resume"),
    ],
)
def test_it_says_what_is_wrong(text, tmp_path, capsys, options, said):
    assert run(text, tmp_path / "none", *options) == 2
    assert said in capsys.readouterr().err


def test_a_state_of_another_shape_is_refused(text, tmp_path, capsys):
    assert run(text, tmp_path, "--steps", "1") == 0
    assert run(text, tmp_path, "--steps", "2", "--resume", "--inner", "64") == 2
    assert "another shape" in capsys.readouterr().err

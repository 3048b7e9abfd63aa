"""Fine-tuning: packed rows equal documents alone, shards equal one process, and the result is a package."""

import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerControl

from dca_hub import card_text, sources
from dca_hub.errors import DcaHubError
from dca_hub.loading import load
from dca_hub.training import dialogues, stopping
from dca_hub.training.finetune import Settings, finetune, make_trainer, prepare
from dca_hub.training.saving import merged, save
from dca_hub.training.stopping import StopAtStep
from dca_hub.verification import Outcome, verify
from support.launching import launch

trl = pytest.importorskip("trl", reason="needs the optional packages: pip install -r requirements-finetune.txt")
peft = pytest.importorskip("peft", reason="needs the optional packages: pip install -r requirements-finetune.txt")

HERE = Path(__file__).resolve().parent
SETTINGS = Settings(length=256, steps=4, batch=1, accumulate=1, learning_rate=1e-3, save_every=2)


def silent(words: str) -> None:
    pass


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_packed_row_teaches_what_its_documents_teach_alone(folder, data, tmp_path, checkpointing):
    """Loss and gradients, through the very trainer: rows cross several chunks (s = 40) and hold several documents."""
    settings = Settings(length=256, steps=1, batch=1, accumulate=1, checkpointing=checkpointing)
    loaded = load(str(folder), device="cpu")
    documents = prepare(loaded, dialogues.read(data), settings, silent)
    trainer = make_trainer(trl, loaded, documents, settings, tmp_path)
    rows = list(trainer.get_train_dataloader())
    row = max(rows, key=lambda one: int((one["position_ids"] == 0).sum()))
    starts = (row["position_ids"][0] == 0).nonzero()[:, 0].tolist()
    assert len(starts) > 2 and row["input_ids"].shape[1] <= 256 and "attention_mask" not in row
    model = loaded.model.train()
    packed = trainer.compute_loss(model, row)
    packed.backward()
    mine = gradients(model)
    model.zero_grad()
    total, counted = 0.0, 0
    for start, end in zip(starts, [*starts[1:], row["input_ids"].shape[1]]):
        ids, labels = row["input_ids"][:, start:end], row["labels"][:, start:end]
        logits = model(input_ids=ids, use_cache=False).logits
        kept = labels[:, 1:] != dialogues.IGNORED
        total += torch.nn.functional.cross_entropy(logits[:, :-1][kept], labels[:, 1:][kept], reduction="sum")
        counted += int(kept.sum())
    loss = total / counted
    loss.backward()
    alone = gradients(model)
    torch.testing.assert_close(packed, loss, rtol=1e-5, atol=1e-6)
    assert mine.keys() == alone.keys()
    for name, gradient in mine.items():
        assert (gradient - alone[name]).norm() <= 1e-4 * alone[name].norm() + 1e-7, name


def launched(how: str, processes: int, folder, data, out) -> dict:
    script = str(HERE / "train_some_steps.py")
    done = launch(processes, script, str(folder), str(data), str(out), str(2 // processes), how)
    assert done.returncode == 0, done.stderr[-3000:]
    [line] = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    return json.loads(line.removeprefix("RESULT "))


@pytest.mark.parametrize(("how", "rounding"), [("trainer", 1e-4), ("fsdp2", 1e-4), ("fsdp2-bfloat16", 1e-3)])
def test_two_processes_train_as_one_does(how, rounding, folder, data, tmp_path):
    one, two = (launched(how, n, folder, data, tmp_path / str(n)) for n in (1, 2))
    assert two["processes"] == 2 and len(set(one["losses"])) == 3
    assert two["sharded"] == (0 if how == "trainer" else two["parameters"])
    assert two["losses"] == pytest.approx(one["losses"], rel=rounding)
    assert two["losses"][0] == pytest.approx(one["losses"][0], rel=1e-4)
    assert two["norms"] == pytest.approx(one["norms"], rel=10 * rounding)
    assert two["weights"] == pytest.approx(one["weights"], rel=rounding)


@pytest.fixture(scope="module")
def tuned(folder, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("tuned") / "package"
    finetune(str(folder), data, out, SETTINGS, silent)
    return out


def test_the_result_is_a_package_that_passes(tuned, folder):
    findings = list(verify(tuned, tokens=512))
    assert [one for one in findings if one.outcome is Outcome.FAILED] == []
    before, after = load(str(folder)), load(str(tuned))
    assert not torch.equal(before.base.lm_head.weight, after.base.lm_head.weight)
    assert after.geometry == before.geometry and "USER: " in after.tokenizer.chat_template
    card = (tuned / "README.md").read_text()
    assert card_text.front_matter(card)[0]["library_name"] == "transformers"
    assert "without any training" not in card and "base model's own" not in card and "nothing was trained" not in card
    assert f"fine-tuned with DCA from tiny: all weights, {SETTINGS.steps} steps of" in card
    assert f"of {SETTINGS.length} tokens" in card and "dialogues.json" in card
    assert "python -m dca_hub finetune tiny --data dialogues.json --length" in card


def test_it_goes_on_from_a_checkpoint_to_the_same_end(tuned, folder, data, tmp_path):
    """Ctrl-C comes in the middle of the first step: the step ends, a checkpoint is written, and nothing is packaged."""
    out, said = tmp_path / "package", []
    begun = threading.Thread(target=press_ctrl_c_once_training)
    begun.start()
    with pytest.raises(KeyboardInterrupt):
        finetune(str(folder), data, out, SETTINGS, silent)
    begun.join()
    [checkpoint] = (tmp_path / "package.training").glob("checkpoint-*")
    assert not out.exists() and int(checkpoint.name.rpartition("-")[2]) < SETTINGS.steps
    finetune(str(folder), data, out, SETTINGS, said.append)
    assert f"resuming from {checkpoint.name}" in said
    for mine, whole in zip(load(str(out)).base.parameters(), load(str(tuned)).base.parameters()):
        torch.testing.assert_close(mine, whole, rtol=1e-5, atol=1e-7)
    with pytest.raises(DcaHubError, match="exists already"):
        finetune(str(folder), data, out, SETTINGS, silent)
    with pytest.raises(DcaHubError, match="other settings"):
        finetune(str(folder), data, out, Settings(length=128), silent, force=True)


def press_ctrl_c_once_training():
    """Sends SIGINT to this process as soon as the training handles it."""
    for _ in range(60_000):
        if getattr(signal.getsignal(signal.SIGINT), "__qualname__", "") == "StopAtStep._tell":
            os.kill(os.getpid(), signal.SIGINT)
            return
        time.sleep(0.001)


def test_tied_weights_that_were_gathered_one_by_one_are_written_once(tmp_path):
    model, tokenizer = (loaded := load("demo", device="cpu")).model, loaded.tokenizer
    state = {name: value.clone() for name, value in model.state_dict().items()}
    shards = SimpleNamespace(get_state_dict=lambda model: state, unwrap_model=lambda model: model)
    trainer = SimpleNamespace(model=model, accelerator=shards, is_world_process_zero=lambda: True)
    save(
        trainer,
        tokenizer,
        sources.resolve("demo", weights=False),
        tmp_path,
        lambda: pytest.fail("there are no adapters to merge"),
        {"steps": 1},
    )
    written = load_file(tmp_path / "model.safetensors")
    assert state.keys() - written.keys() == {"lm_head.weight"}
    assert load(str(tmp_path), device="cpu").geometry == loaded.geometry


class Trigger:
    """What accelerate's trigger is to several processes: set by one, seen by all."""

    def __init__(self):
        self.set = False

    def set_trigger(self):
        self.set = True

    def check_trigger(self):
        return self.set


def test_ctrl_c_in_one_process_stops_all_after_the_same_step(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: clock[0])
    trigger = Trigger()
    told, other = StopAtStep(trigger), StopAtStep(trigger)
    before = signal.getsignal(signal.SIGINT)
    with told:
        os.kill(os.getpid(), signal.SIGINT)
        clock[0] += 1
        os.kill(os.getpid(), signal.SIGINT)  # the same one, passed on by torchrun
        for one in (told, other):
            control = TrainerControl()
            one.on_step_end(None, None, control)
            assert one.asked and control.should_save and control.should_training_stop
        clock[0] += 5
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    assert signal.getsignal(signal.SIGINT) == before


def test_adapters_of_shards_are_merged_as_peft_merges_whole_ones(folder):
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    trained = peft.get_peft_model(load(str(folder), device="cpu").model, config)
    for name, weight in trained.named_parameters():
        if ".lora_" in name:
            torch.nn.init.normal_(weight)
    state = {name: value.clone() for name, value in trained.state_dict().items()}
    mine, whole = merged(load(str(folder), device="cpu").model, config, state), trained.merge_and_unload()
    for (name, a), (_, b) in zip(mine.named_parameters(), whole.named_parameters()):
        assert torch.equal(a, b), name
    state.pop(next(name for name in state if ".lora_" in name))
    with pytest.raises(RuntimeError, match="do not match the model"):
        merged(load(str(folder), device="cpu").model, config, state)


def test_adapters_are_merged_into_a_package_with_the_window_that_was_asked_for(folder, data, tmp_path):
    out = tmp_path / "package"
    settings = Settings(
        length=256, steps=2, batch=1, accumulate=1, learning_rate=1e-2, lora=4, save_every=10, pretraining_length=48
    )
    finetune(str(folder), data, out, settings, silent)
    assert load(str(folder)).geometry.chunk_size == 48 and load(str(out)).geometry.chunk_size == 36
    before, after = load(str(folder)).base, load(str(out)).base
    names = {name for name, _ in after.named_parameters()}
    assert names == {name for name, _ in before.named_parameters()}
    changed = {
        n for (n, a), (_, b) in zip(before.named_parameters(), after.named_parameters()) if not torch.equal(a, b)
    }
    assert any("q_proj" in name for name in changed) and not any("embed" in name for name in changed)
    assert [one for one in verify(out, tokens=256) if one.outcome is Outcome.FAILED] == []


def test_long_dialogues_are_joined_cut_and_said(folder, data):
    said, loaded = [], load(str(folder), device="cpu")
    found = prepare(loaded, dialogues.read(data), Settings(length=150, concatenate=True), said.append)
    assert all(len(document.input_ids) <= 150 for document in found) and any("are cut there" in one for one in said)
    with pytest.raises(DcaHubError, match="No dialogue has an answer within 5 tokens"):
        prepare(loaded, dialogues.read(data), Settings(length=5), said.append)


def test_a_scheduler_is_chosen_and_rows_are_held_out(folder, data, tmp_path):
    loaded = load(str(folder), device="cpu")
    documents = prepare(loaded, dialogues.read(data), Settings(length=256), silent)
    settings = Settings(length=256, steps=4, scheduler="linear", held_out=0.25, save_every=2)
    trainer = make_trainer(trl, loaded, documents, settings, tmp_path)
    assert trainer.args.lr_scheduler_type == "linear" and trainer.args.eval_steps == 2
    assert str(trainer.args.eval_strategy.value) == "steps" and len(trainer.eval_dataset) > 0
    trained, held = (
        {tuple(ids) for ids in rows["input_ids"]} for rows in (trainer.train_dataset, trainer.eval_dataset)
    )
    assert trained and held and not trained & held
    with pytest.raises(DcaHubError, match="at least two dialogues"):
        make_trainer(trl, loaded, documents[:1], settings, tmp_path)


def test_only_so_many_dialogues_are_trained_and_a_reporter_must_be_there(folder, data, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("dca_hub.training.finetune.prepare", lambda loaded, said, *_: seen.append(len(said)) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        finetune(str(folder), data, tmp_path / "few", replace(SETTINGS, most_dialogues=3), silent)
    assert seen == [3]
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(DcaHubError, match="needs the package wandb"):
        finetune(str(folder), data, tmp_path / "told", replace(SETTINGS, report_to="wandb"), silent)

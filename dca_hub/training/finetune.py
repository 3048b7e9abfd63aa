"""Supervised fine-tuning of a DCA model on dialogues, with TRL's trainer; the result is a package.

One process or many, CPU or GPUs, whole weights or shards: as the configuration of `accelerate launch` says. The
gradients of Dual Chunk Attention are exact, and packed dialogues stay apart: chunks restart where positions do.
"""

import hashlib
import json
import os
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from dca_hub.errors import DcaHubError, Fix
from dca_hub.loading import Loaded, load
from dca_hub.packaging import Package, package
from dca_hub.progress import OnMessage
from dca_hub.training import dialogues
from dca_hub.training.dialogues import TEMPLATE, Document
from dca_hub.training.saving import save
from dca_hub.training.stopping import StopAtStep


@dataclass(frozen=True)
class Settings:
    """How to train; the defaults are those of the authors' recipe.

    length: tokens of a row. batch: rows a device. lora: the rank of LoRA adapters, or None to train every weight.
    concatenate: join dialogues into ones of that length, as the authors did, in place of packing them apart.
    pretraining_length: the window that DCA goes by, where it is not the model's own; chunks follow from it.
    most_dialogues: only so many of the data. held_out: the share of rows whose loss is measured and not trained.
    report_to: "none", or "trackio" or "wandb", where they are installed.
    """

    length: int = 16384
    steps: int = 1600
    batch: int = 1
    accumulate: int = 2
    learning_rate: float = 2e-5
    warmup: float = 0.03
    scheduler: str = "cosine"
    save_every: int = 400
    lora: int | None = None
    checkpointing: bool = True
    concatenate: bool = False
    seed: int = 0
    pretraining_length: int | None = None
    most_dialogues: int | None = None
    held_out: float = 0.0
    report_to: str = "none"


def finetune(
    model: str,
    data: Path,
    out: Path,
    settings: Settings,
    on_message: OnMessage,
    *,
    dtype: str | None = None,
    force: bool = False,
) -> Package | None:
    """Trains a model, and packages it in `out`; checkpoints are kept in `OUT.training` beside it, and gone on from.

    Gives None in all processes but the first.

    Raises:
        DcaHubError: a package is missing, the data will not do, or there is something else in `out`.
        KeyboardInterrupt: it was stopped; a checkpoint was written first.
    """
    reporting = [] if settings.report_to == "none" else [settings.report_to]
    trl = require("trl", "datasets", *(["peft"] if settings.lora else []), *reporting)
    if out.exists() and not force:
        raise DcaHubError(
            f"{out.name!r} exists already", Fix("choose another {}", "out"), Fix("replace it with {}", "force", True)
        )
    work = out.with_name(f"{out.name}.training")
    said = dialogues.read(data, on_message)[: settings.most_dialogues]
    # The trainer moves the model to its device, or shards it there.
    window = settings.pretraining_length
    source = _with_window(model, work, window) if window else model
    anew = lambda: load(source, device="cpu", dtype=dtype or "float32")
    loaded = anew()
    documents = prepare(loaded, said, settings, on_message)
    text = f"{data.name} {hashlib.sha256(data.read_bytes()).hexdigest()[:8]}"
    _keep_settings(work, {**asdict(settings), "model": model, "dtype": str(loaded.model.dtype), "data": text})
    trainer = make_trainer(trl, loaded, documents, settings, work)
    stop = StopAtStep(trainer.accelerator)
    trainer.add_callback(stop)
    checkpoint = _last_checkpoint(work)
    if checkpoint:
        on_message(f"resuming from {Path(checkpoint).name}")
    with stop:
        trainer.train(resume_from_checkpoint=checkpoint)
    if stop.asked:
        raise KeyboardInterrupt
    folder = work / "model"
    rows = settings.batch * settings.accumulate * trainer.accelerator.num_processes
    training = {**asdict(settings), "rows_a_step": rows, "data": text, "model": _name(loaded), "dtype": dtype}
    save(trainer, loaded.tokenizer, loaded.source, folder, lambda: anew().model, training)
    return package(str(folder), out, weights="copy", force=force) if trainer.is_world_process_zero() else None


def _with_window(model: str, work: Path, length: int) -> str:
    """A package of the model in `work` with the sizes that a window of that many tokens has; its weights are links."""
    folder = work / f"window-{length}" / Path(model).name
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            package(model, folder, pretraining_length=length, weights="link")
        except DcaHubError:
            if not folder.is_dir():  # another process may have been quicker
                raise
    return str(folder)


def _name(loaded: Loaded) -> str:
    """What others call the model: as in the catalogue, on the Hub, or the folder it was in."""
    source = loaded.source
    return source.entry.name if source.entry else source.base or source.folder.name


def require(*names: str):
    """The first of these packages, all being there. Raises DcaHubError saying how to install what is not."""
    from importlib import import_module

    found = []
    for name in names:
        try:
            found.append(import_module(name))
        except ImportError:
            raise DcaHubError(
                f"Fine-tuning needs the package {name}: pip install -r requirements-finetune.txt."
            ) from None
    return found[0]


def prepare(loaded: Loaded, said: list, settings: Settings, on_message: OnMessage) -> list[Document]:
    """The dialogues as tokens, none longer than a row. What is cut or left out is said."""
    tokenizer = loaded.tokenizer
    if not tokenizer.chat_template:
        tokenizer.chat_template = TEMPLATE
        on_message("note: the model has no chat format; it gets that of Vicuna, which the package will carry.")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenized = dialogues.usable(said, lambda one: (one, dialogues.tokenize(tokenizer, one)), on_message)
    whole = [document for _, document in tokenized]
    if settings.concatenate:
        random.Random(settings.seed).shuffle(tokenized)
        sizes = {id(one): len(document.input_ids) for one, document in tokenized}
        longer = dialogues.joined([one for one, _ in tokenized], settings.length, lambda one: sizes[id(one)])
        whole = dialogues.usable(longer, lambda one: dialogues.tokenize(tokenizer, one), on_message)
    cut = [document.cut(settings.length) for document in whole]
    found = [document for document in cut if document.teaches]
    longer = sum(len(document.input_ids) > settings.length for document in whole)
    if longer:
        on_message(
            f"note: {longer:,} of {len(whole):,} dialogues have more than {settings.length:,} tokens and are cut there."
        )
    if len(found) < len(cut):
        on_message(f"note: {len(cut) - len(found):,} dialogues hold no answer within the length and are left out.")
    if not found:
        raise DcaHubError(
            f"No dialogue has an answer within {settings.length:,} tokens", Fix("give a greater {}", "length")
        )
    return found


def make_trainer(trl, loaded: Loaded, documents: list[Document], settings: Settings, work: Path):
    """TRL's trainer over ready tokens and labels."""
    from datasets import Dataset

    on_gpu = torch.cuda.is_available()
    recent = on_gpu and torch.cuda.get_device_capability() >= (8, 0)  # older GPUs have neither of the formats
    config = trl.SFTConfig(
        output_dir=str(work),
        max_length=settings.length,
        packing=not settings.concatenate,
        packing_strategy="bfd",
        shuffle_dataset=True,
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate,
        weight_decay=0.0,
        warmup_steps=round(settings.warmup * settings.steps),
        lr_scheduler_type=settings.scheduler,
        gradient_checkpointing=settings.checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        save_strategy="steps",
        save_steps=settings.save_every,
        save_total_limit=2,
        logging_steps=1,
        report_to=settings.report_to,
        run_name=work.name.removesuffix(".training"),
        eval_strategy="steps" if settings.held_out else "no",
        eval_steps=settings.save_every,
        per_device_eval_batch_size=1,
        seed=settings.seed,
        bf16=recent,
        tf32=True if recent else None,
        use_cpu=not on_gpu,
        dataloader_pin_memory=on_gpu,
        disable_tqdm=False,
    )
    rows, held_out = Dataset.from_list([asdict(document) for document in documents]), None
    if settings.held_out:
        if len(rows) < 2:
            raise DcaHubError("Holding rows out needs at least two dialogues", Fix("leave {} out", "held_out"))
        parts = rows.train_test_split(settings.held_out, seed=settings.seed)
        rows, held_out = parts["train"], parts["test"]
    trainer = _trainer_class(trl)(
        model=loaded.model,
        args=config,
        train_dataset=rows,
        eval_dataset=held_out,
        processing_class=loaded.tokenizer,
        peft_config=_lora(settings),
    )
    round_as_alone(trainer.accelerator.state)
    return trainer


def _trainer_class(trl):
    class Trainer(trl.SFTTrainer):
        """TRL's trainer, which trains shards of FSDP2 in the precision of one device."""

        def autocast_smart_context_manager(self, cache_enabled: bool | None = True):
            # accelerate puts the forward pass of a model in autocast, but not that of one which FSDP2 shards.
            if self.accelerator.is_fsdp2:
                return self.accelerator.autocast()
            return super().autocast_smart_context_manager(cache_enabled)

    return Trainer


def round_as_alone(state) -> None:
    """Lets autocast alone round in shards of FSDP2: accelerate's own policy for bfloat16 rounds the residual stream,
    the sums of gradients over the devices and the loss as well.

    state: accelerate's, before the model is prepared.
    """
    plugin = getattr(state, "fsdp_plugin", None)
    if plugin is not None and plugin.fsdp_version == 2:
        from torch.distributed.fsdp import MixedPrecisionPolicy

        plugin.mixed_precision_policy = MixedPrecisionPolicy()


def _lora(settings: Settings):
    if not settings.lora:
        return None
    from peft import LoraConfig

    return LoraConfig(r=settings.lora, lora_alpha=2 * settings.lora, target_modules="all-linear", task_type="CAUSAL_LM")


def _keep_settings(work: Path, settings: dict[str, Any]) -> None:
    """Writes down what is trained and how; DcaHubError where the folder holds another training."""
    path = work / "settings.json"
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != settings:
        raise DcaHubError(
            f"{work.name!r} holds a training run with other settings",
            Fix("choose another {}", "out"),
            "remove that folder",
        )
    work.mkdir(parents=True, exist_ok=True)
    own = path.with_name(f"{path.name}.{os.getpid()}")  # of several processes none may read what another half wrote
    own.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    own.replace(path)


def _last_checkpoint(work: Path) -> str | None:
    from transformers.trainer_utils import get_last_checkpoint

    return get_last_checkpoint(str(work))

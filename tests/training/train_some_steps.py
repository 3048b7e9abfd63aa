"""A few steps of training in as many processes as there are; prints what happened as one line of JSON.

train_some_steps.py MODEL DATA OUT ROWS_A_PROCESS trainer|fsdp2|fsdp2-bfloat16

`trainer` trains as the command does. `fsdp2` shards the model by accelerate's own function for that, which accelerate
itself calls on GPUs alone, and takes the steps here: same rows, same loss, same optimizer. `fsdp2-bfloat16` does so
with what accelerate sets for bfloat16 and `make_trainer` replaces, and in the context that the trainer computes a loss
in; one process of it computes in autocast, which accelerate puts around a model that is not sharded.
"""

import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import torch
import trl
from accelerate import FullyShardedDataParallelPlugin
from accelerate.utils import DistributedType
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from torch.distributed.tensor import DTensor

from dca_hub.loading import load
from dca_hub.training import dialogues
from dca_hub.training.finetune import Settings, make_trainer, prepare, round_as_alone

STEPS, RATE = 3, 1e-3


def main() -> None:
    model, data, out, batch, how = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
    settings = Settings(length=256, steps=STEPS, batch=batch, accumulate=1, learning_rate=RATE, warmup=0, save_every=10)
    loaded = load(model, device="cpu", dtype="float32")
    documents = prepare(loaded, dialogues.read(data), settings, lambda words: None)
    trainer = make_trainer(trl, loaded, documents, settings, out)
    losses, norms = through_trainer(trainer) if how == "trainer" else through_fsdp2(trainer, how.endswith("bfloat16"))
    held = list(trainer.model.parameters())
    whole = [one.full_tensor() if isinstance(one, DTensor) else one for one in held]
    if trainer.is_world_process_zero():
        said = {
            "processes": trainer.accelerator.num_processes,
            "sharded": sum(isinstance(one, DTensor) and one.to_local().numel() < one.numel() for one in held),
            "parameters": len(held),
            "losses": losses,
            "norms": norms,
            "weights": [one.detach().double().norm().item() for one in whole],
        }
        print("RESULT " + json.dumps(said), flush=True)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    sys.stdout.flush()
    os._exit(0)  # threads of gloo and of data sets have been seen to wait for each other at the end


def through_trainer(trainer) -> tuple[list[float], list[float]]:
    trainer.train()
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    return [entry["loss"] for entry in history], [entry["grad_norm"] for entry in history]


def through_fsdp2(trainer, low: bool) -> tuple[list[float], list[float]]:
    group, model = trainer.accelerator, trainer.model.train()
    rounding = (lambda: torch.autocast("cpu", torch.bfloat16)) if low else nullcontext
    if group.num_processes > 1:
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            auto_wrap_policy="transformer_based_wrap",
            reshard_after_forward=True,
            cpu_ram_efficient_loading=False,
        )
        state = SimpleNamespace(fsdp_plugin=plugin)
        if low:
            plugin.set_mixed_precision("bf16")
            round_as_alone(state)
            group.state.distributed_type, group.state.fsdp_plugin = DistributedType.FSDP, plugin
            group.state._mixed_precision, group.native_amp = "bf16", True
            rounding = trainer.compute_loss_context_manager
        model = fsdp2_prepare_model(
            SimpleNamespace(state=state, mixed_precision="no", is_main_process=True, device=group.device), model
        )
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    losses, norms = [], []
    for row in list(trainer.get_train_dataloader())[:STEPS]:
        counted = group.gather((row["labels"][:, 1:] != dialogues.IGNORED).sum()).sum()
        with rounding():  # the loss times the processes, as FSDP averages
            loss = trainer.compute_loss(model, row, num_items_in_batch=counted)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(group.gather(loss.detach()).mean().item())
        norms.append((norm.full_tensor() if isinstance(norm, DTensor) else norm).item())
    return losses, norms


main()

"""Run by torchrun on two processes: loads a model in tensor parallel and compares it with the logits of one process.

Usage: tensor_parallel.py SAVED, a folder with `ids.pt` and `expected.pt` beside the model.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM


@torch.no_grad()
def main(saved: Path) -> None:
    ids, expected = (torch.load(saved / name, weights_only=True) for name in ("ids.pt", "expected.pt"))
    model = AutoModelForCausalLM.from_pretrained(
        saved, trust_remote_code=True, local_files_only=True, tp_plan="auto", dtype=torch.float32
    )
    projection = model.model.layers[0].self_attn.q_proj.weight
    local = projection.to_local() if hasattr(projection, "to_local") else projection
    assert local.shape[0] == 32, f"the model is not split: {tuple(local.shape)}"
    logits = model(ids).logits
    head = model(ids[:, :37])
    name = "cache" if "cache" in head else "past_key_values"
    tail = model(ids[:, 37:], **{name: head[name]}).logits
    step = model.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0)[0, ids.shape[1] :].tolist()
    for out in (logits, torch.cat([head.logits, tail], dim=1)):
        out = out.full_tensor() if hasattr(out, "full_tensor") else out
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-4)
    if dist.get_rank() == 0:
        print("generated", step)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Two processes in tensor parallel give what one process gives, where layers are alike and where they are not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from support.tiny_models import tiny_dca, tokens


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen3", "gemma3_text", "smollm3"])
def test_two_ranks_are_one(family, tmp_path):
    dca, ids = tiny_dca(family, DualChunkGeometry(24, 8, 32, temperature=0.2)), tokens(60)
    dca.save_pretrained(tmp_path)
    with torch.no_grad():
        torch.save(dca(ids).logits, tmp_path / "expected.pt")
        alone = dca.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0)[0, 60:].tolist()
    torch.save(ids, tmp_path / "ids.pt")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    run = subprocess.run(
        [*command, Path(__file__).with_name("tensor_parallel.py"), tmp_path],
        env=kept | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert f"generated {alone}" in run.stdout

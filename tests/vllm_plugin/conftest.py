"""Fixtures of the plug-in's tests: checkpoints on disk, vLLM's engine in another process, and what it must give."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from support.tiny_models import as_dca, tiny_model

ENGINE = Path(__file__).with_name("engine.py")
# vLLM's CPU kernels take head sizes from 32 on; s = 48 is no multiple of the pages of 32 tokens.
GEOMETRY = DualChunkGeometry(chunk_size=64, local_size=16, pretraining_length=64, temperature=0.1)
SHAPE = {
    "hidden_size": 256,
    "head_dim": 64,
    "intermediate_size": 128,
    "max_position_embeddings": 1024,
    "initializer_range": 0.1,  # sharp attention, yet logits whose float32 noise stays well below 1e-4
}


@dataclass(frozen=True)
class Served:
    """A DCA model as a folder for the engine and as a model of transformers, for what the engine must give."""

    folder: Path
    plain: torch.nn.Module
    model: torch.nn.Module

    @torch.no_grad()
    def logprobs(self, ids: list[int], dca: bool = True) -> list[float]:
        """The log-probability of each token but the first, from one whole forward without a cache."""
        logits = (self.model if dca else self.plain)(torch.tensor([ids]), use_cache=False).logits
        return logits.float().log_softmax(-1)[0, :-1].gather(1, torch.tensor(ids[1:]).unsqueeze(1))[:, 0].tolist()

    @torch.no_grad()
    def greedy(self, ids: list[int], count: int) -> list[int]:
        """The most probable continuation, each token from a whole forward without a cache."""
        written = list(ids)
        for _ in range(count):
            written.append(int(self.model(torch.tensor([written]), use_cache=False).logits[0, -1].argmax()))
        return written[len(ids) :]


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """Gives the DCA model of a family in a folder, once for each set of changes."""
    made = {}

    def get(family: str = "llama", geometry: DualChunkGeometry = GEOMETRY, **changes) -> Served:
        key = (family, geometry, json.dumps(changes, sort_keys=True))
        if key not in made:
            plain = tiny_model(family, **SHAPE | changes)
            model = as_dca(plain, geometry)
            folder = tmp_path_factory.mktemp(family)
            model.save_pretrained(folder)
            made[key] = Served(folder, plain, model)
        return made[key]

    return get


@pytest.fixture
def engine(tmp_path):
    """Runs vLLM's engine on rounds of requests; gives its result, or its error output where it stops."""

    def run(model: Path, *rounds: list[dict], fails: bool = False, env=(), broken=(), first=(), **options):
        job = {"model": str(model), "options": options, "rounds": rounds, "broken": list(broken), "first": list(first)}
        (tmp_path / "job.json").write_text(json.dumps(job), encoding="utf-8")
        finished = subprocess.run(
            [sys.executable, ENGINE, tmp_path / "job.json", tmp_path / "result.json"],
            env=os.environ | {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"} | dict(env),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        assert (finished.returncode != 0) == fails, finished.stderr[-4000:]
        if fails:
            return finished.stderr
        return json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))

    return run

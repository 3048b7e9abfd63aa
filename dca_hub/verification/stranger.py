"""Loads a package as a stranger would and checks what it does; a script of its own, run in a fresh process.

Imports torch and transformers and nothing of this project: `stranger.py FOLDER TOKENS DEVICE`. Prints a line of JSON
for each check.
"""

import gc
import inspect
import json
import sys
from pathlib import Path

sys.path.pop(0)  # this script's own folder
sys.stdout.reconfigure(line_buffering=True)

import torch  # noqa: E402
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM, DynamicCache, PreTrainedModel, logging  # noqa: E402

DCA_KEYS = ("auto_map", "attn_implementation", "dual_chunk_attention_config")
SMALL = {"chunk_size": 64, "local_size": 16}  # where the real chunks are too long to cross
FLOAT32_BYTES = 16e9
DENSE_TOKENS = 2048  # the definition is computed with every score at once


class Skipped(Exception):
    """A check that cannot be made here; the message says why."""


class Stranger:
    def __init__(self, folder: Path, tokens: int, device: str):
        self.folder, self.tokens, self.device = folder, tokens, device
        self.settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.sizes = self.settings["dual_chunk_attention_config"]
        self.chunk = self.sizes["chunk_size"] - self.sizes["local_size"]
        weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        self.dtype = torch.float32 if weights < FLOAT32_BYTES / 8 else "auto"
        self.tolerance = 1e-4 if self.dtype == torch.float32 else 3e-2

    def load(self, **options):
        return self.load_told(**options)[0]

    def load_told(self, **options) -> tuple[PreTrainedModel, list[str]]:
        """The model, and the weights that the checkpoint lacks: the library fills them with random numbers."""
        options = {"dtype": self.dtype, "output_loading_info": True, **options}
        model, found = AutoModelForCausalLM.from_pretrained(self.folder, **options)
        return model.to(self.device).eval(), sorted(found["missing_keys"])

    def load_dca(self, sizes: dict | None = None):
        if sizes is None:
            return self.load(trust_remote_code=True)
        config = AutoConfig.from_pretrained(self.folder, trust_remote_code=True)
        config.dual_chunk_attention_config = {**self.sizes, **sizes}
        return self.load(trust_remote_code=True, config=config)

    def ids(self, length: int, batch: int = 1) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randint(0, self.settings["vocab_size"], (batch, length), generator=generator).to(self.device)

    def crossing(self) -> tuple[dict | None, int, str]:
        """Sizes whose chunks can be crossed twice within the tokens allowed, and a length that does so."""
        if 2 * self.chunk + 40 <= self.tokens:
            return None, 2 * self.chunk + 40, f"{2 * self.chunk + 40:,} tokens"
        chunk = SMALL["chunk_size"] - SMALL["local_size"]
        return SMALL, 4 * chunk + 40, f"{4 * chunk + 40} tokens, in chunks of {chunk} to keep it short"

    def native(self):
        """The base model's own configuration."""
        return AutoConfig.for_model(**{k: v for k, v in self.settings.items() if k not in DCA_KEYS})

    def agree(self, got: torch.Tensor, wanted: torch.Tensor, what: str) -> str:
        """The greatest difference, relative to the spread of the logits, in words; raises where it is too great."""
        error = ((got.float() - wanted.float()).abs().max() / wanted.float().std()).item()
        if not error <= self.tolerance:
            raise AssertionError(f"logits differ by {error:.1e} of their spread over {what}")
        return f"logits within {error:.1e} of their spread over {what}"

    def loads(self) -> str:
        model, missing = self.load_told(trust_remote_code=True)
        if missing:
            raise AssertionError(f"the weights do not hold {missing[0]}")
        names = {name for name, _ in model.named_parameters()}
        return f"{type(model).__name__}, {len(names)} tensors, {model.dtype}".replace("torch.", "")

    def refuses(self) -> str:
        try:
            self.load()
        except Exception as error:
            return f"{type(error).__name__}"
        raise AssertionError("it loads as a plain model without a word")

    @torch.inference_mode()
    def equals_base(self) -> str:
        ids = self.ids(min(self.chunk, self.tokens))
        base = self.load(config=self.native())
        wanted = base(ids, use_cache=False).logits
        del base
        gc.collect()
        return self.agree(self.load_dca()(ids, use_cache=False).logits, wanted, f"{ids.shape[1]:,} tokens")

    @torch.inference_mode()
    def definition(self) -> str:
        """The base model with attention written out from the definition, against the package's."""
        sizes, length, words = self.crossing()
        if length > DENSE_TOKENS:
            sizes, length, words = SMALL, 232, "232 tokens, in chunks of 48 to keep it short"
        ids, chosen = self.ids(length), {**self.sizes, **(sizes or {})}
        base = self.load(config=self.native())
        AttentionInterface.register("definition", defined_attention(base.base_model.rotary_emb, chosen))
        base.config._attn_implementation = "definition"
        wanted = base(ids, use_cache=False).logits
        del base
        gc.collect()
        return self.agree(self.load_dca(sizes)(ids, use_cache=False).logits, wanted, words)

    @torch.inference_mode()
    def decodes(self) -> str:
        sizes, length, words = self.crossing()
        model, ids = self.load_dca(sizes), self.ids(length)
        wanted = model(ids, use_cache=False, logits_to_keep=12).logits
        cache, got, at = DynamicCache(config=model.config), [], 0
        for piece in (length // 3, length - 12 - length // 3, *[1] * 12):
            out = model(ids[:, at : at + piece], **{cache_name(model): cache}, logits_to_keep=1).logits
            got.append(out)
            at += piece
        return self.agree(torch.cat(got[2:], dim=1), wanted, words)

    @torch.inference_mode()
    def pads(self) -> str:
        sizes, length, words = self.crossing()
        model, ids = self.load_dca(sizes), self.ids(length, batch=2)
        mask = torch.ones_like(ids)
        mask[1, :17] = 0
        got = model(ids, attention_mask=mask, use_cache=False, logits_to_keep=1).logits
        alone = [model(ids[:1], use_cache=False, logits_to_keep=1).logits]
        alone.append(model(ids[1:, 17:], use_cache=False, logits_to_keep=1).logits)
        return self.agree(got, torch.cat(alone), words)

    @torch.inference_mode()
    def long_context(self) -> str:
        trained = self.sizes["original_max_position_embeddings"]
        length = min(4 * trained, self.tokens)
        if length < 2 * trained:
            raise Skipped(f"needs {2 * trained:,} tokens: give --tokens {2 * trained}")
        model = self.load_dca()
        block = self.ids(trained // 4)
        ids = block.repeat(1, -(-length // block.shape[1]))[:, :length]
        loss = torch.cat(list(losses(model, ids)))
        if not torch.isfinite(loss).all():
            raise AssertionError("the loss is not finite")
        near, far = loss[trained // 2 : trained].mean().item(), loss[-length // 4 :].mean().item()
        words = f"loss {near:.2f} within the trained length, {far:.2f} at {length:,} tokens (a recurring text)"
        if far > near + 1:
            raise AssertionError(words)
        return words


def cache_name(model) -> str:
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def defined_attention(rotary, sizes: dict):
    """Dual Chunk Attention from its definition (arXiv 2402.17463), for queries and keys rotated at their positions.

    Rotations compose, so what stands at i is moved to where the definition puts it by a rotation of the difference.
    """
    largest, window = sizes["chunk_size"], sizes["local_size"]
    trained, growth, chunk = sizes["original_max_position_embeddings"], sizes.get("temperature", 0.0), largest - window

    def moved(x: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
        angle = by.double().unsqueeze(-1) * rotary.inv_freq.double()
        cos, sin = angle.cos(), angle.sin()
        a, b = x.double().chunk(2, dim=-1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)

    def attention(module, query, key, value, attention_mask, scaling, **kwargs):
        at, group = torch.arange(query.shape[2], device=query.device), query.shape[1] // key.shape[1]
        within, numbers = at % chunk, at // chunk
        keys = moved(key, within - at).repeat_interleave(group, dim=1).transpose(2, 3)
        places = (within, (within + chunk).clamp(max=largest), torch.full_like(at, largest))
        intra, successive, inter = (moved(query, place - at) @ keys for place in places)
        apart = numbers[:, None] - numbers[None, :]
        score = torch.where(apart == 0, intra, torch.where(apart == 1, successive, inter)) * scaling
        grown = torch.where(at >= trained, 1 + growth * torch.log((at + 1) / trained), 1.0)
        score = (score * grown[:, None]).masked_fill(at[:, None] < at[None, :], float("-inf"))
        out = score.softmax(-1) @ value.double().repeat_interleave(group, dim=1)
        return out.to(query.dtype).transpose(1, 2), None

    return attention


def losses(model, ids: torch.Tensor, piece: int = 512):
    """The loss of every token but the first, a piece at a time over the cache."""
    cache = DynamicCache(config=model.config)
    for at in range(0, ids.shape[1] - 1, piece):
        inputs, labels = ids[:, at : at + piece], ids[0, at + 1 : at + piece + 1]
        logits = model(inputs, **{cache_name(model): cache}).logits[0, : len(labels)].float()
        yield torch.nn.functional.cross_entropy(logits, labels, reduction="none")


def main() -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    stranger = Stranger(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    checks = {
        "loads with remote code": stranger.loads,
        "refuses without remote code": stranger.refuses,
        "equals the base up to the chunk length": stranger.equals_base,
        "equals the definition beyond it": stranger.definition,
        "prefill and decode equal one forward": stranger.decodes,
        "padding changes nothing": stranger.pads,
        "stays sane past the trained length": stranger.long_context,
    }
    for name, check in checks.items():
        try:
            outcome, detail = "passed", check()
        except Skipped as reason:
            outcome, detail = "skipped", str(reason)
        except Exception as error:
            outcome, detail = "failed", " ".join(f"{type(error).__name__}: {error}".split())[:300]
        print(json.dumps({"check": name, "outcome": outcome, "detail": detail}))
        gc.collect()


if __name__ == "__main__":
    main()

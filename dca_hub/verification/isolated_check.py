"""Loads a package as somebody else would and checks how it behaves; a script of its own, run in a fresh process.

`isolated_check.py FOLDER TOKENS DEVICE PRECISION` imports torch and transformers and nothing of this project, and
prints a line of JSON for each check. PRECISION is "float32", "own" (the checkpoint's) or "auto": float32 for weights
below FLOAT32_LIMIT.

A package may differ from itself or its base by twice as much as the plain base model differs from itself in that
precision, where it computes one thing in two ways: decoding against one call, padded against alone, positions shifted,
attention from the definition. In float32 the greatest difference counts, and up to FLOAT32_TOLERANCE it is right
without further measurement; more is usual where keys are large, as by the biases of Qwen2.5. In a lower precision the
greatest difference is a matter of luck, and the root mean square counts. What that could hide is looked for in the
first layers, which are run in float32 as well.
"""

import gc
import inspect
import json
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this script's own folder
sys.stdout.reconfigure(line_buffering=True)  # pyright: ignore[reportAttributeAccessIssue]

import torch  # noqa: E402
from transformers import (  # noqa: E402
    AttentionInterface,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    PreTrainedModel,
    logging,
)

MANIFEST = "dca_package.json"
DCA_KEYS = ("auto_map", "attn_implementation", "dual_chunk_attention_config")
SMALL = {"chunk_size": 64, "local_size": 16}  # where the real chunks are too long to cross
FLOAT32_LIMIT = 2e9  # bytes of weights
FLOAT32_TOLERANCE = 1e-4  # of the spread of the logits
TIMES_THE_BASE = 2  # how much more than the plain base model a package may err in a low precision
FIRST_LAYERS = 2
DENSE_TOKENS, DENSE_ROWS = 2048, 256  # the definition is computed with the scores of that many rows at once
COMPARED = 256  # positions of a text whose logits are compared: all of a large vocabulary would not fit in memory
DECODED = 12  # tokens


class Skipped(Exception):
    """A check that cannot be made here; the message says why."""


@dataclass(frozen=True)
class Arithmetic:
    """How models are run: all layers, or the first ones (`layers`), in a dtype ("auto": the checkpoint's own)."""

    dtype: torch.dtype | str
    layers: int | None = None

    @property
    def is_exact(self) -> bool:
        return self.dtype == torch.float32

    def distance(self, got: torch.Tensor, wanted: torch.Tensor) -> float:
        """How far two sets of logits are apart, relative to their spread: at most, or by root mean square."""
        difference = got.float() - wanted.float()
        far = difference.abs().max() if self.is_exact else difference.square().mean().sqrt()
        return (far / wanted.float().std()).item()


@dataclass(frozen=True)
class Reference:
    """The plain base model's logits: over the first chunk, and, by the definition of attention, over a longer text."""

    near: torch.Tensor
    defined: torch.Tensor


class Checker:
    def __init__(self, folder: Path, tokens: int, device: str, precision: str):
        self.folder, self.tokens, self.device = folder, tokens, device
        self.settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.sizes = self.settings["dual_chunk_attention_config"]
        self.chunk = self.sizes["chunk_size"] - self.sizes["local_size"]
        self.is_quantized = bool(self.settings.get("quantization_config"))
        weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        exact = not self.is_quantized and (precision == "float32" or (precision == "auto" and weights < FLOAT32_LIMIT))
        whole = Arithmetic(torch.float32 if exact else "auto")
        few = [] if exact or self.is_quantized else [Arithmetic(torch.float32, first_layers(self.settings))]
        self.arithmetics = [whole, *few]
        self.held: dict[Arithmetic, tuple[str, PreTrainedModel]] = {}
        self.references: dict[Arithmetic, Reference] = {}
        self.noises: dict[Arithmetic, float] = {}

    @property
    def whole(self) -> Arithmetic:
        return self.arithmetics[0]

    def load(self, arithmetic: Arithmetic, config=None, **options) -> tuple[PreTrainedModel, list[str]]:
        """The model, and the weights that the checkpoint lacks: the library fills them with random numbers."""
        if arithmetic.layers and config is not None:
            config = shortened(config, arithmetic.layers)
        options |= {"config": config} if config is not None else {}
        options |= {"device_map": {"": self.device}} if self.is_quantized else {}
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            self.folder, dtype=arithmetic.dtype, output_loading_info=True, **options
        )
        model, found = loaded
        model = model if self.is_quantized else model.to(self.device)
        return model.eval(), sorted(found["missing_keys"])

    def only(self, arithmetic: Arithmetic, name: str, load) -> PreTrainedModel:
        """The model of that name; of each arithmetic one model is in memory at a time."""
        held = self.held.pop(arithmetic, None)
        if held is None or held[0] != name:
            del held
            gc.collect()
            held = (name, load())
        self.held[arithmetic] = held
        return held[1]

    def base(self, arithmetic: Arithmetic) -> PreTrainedModel:
        """The base model, by its own configuration."""
        native = AutoConfig.for_model(**{k: v for k, v in self.settings.items() if k not in DCA_KEYS})
        return self.only(arithmetic, "base", lambda: self.load(arithmetic, native)[0])

    def dca(self, arithmetic: Arithmetic, sizes: dict | None = None) -> PreTrainedModel:
        def load() -> PreTrainedModel:
            config = AutoConfig.from_pretrained(self.folder, trust_remote_code=True)
            config.dual_chunk_attention_config = {**self.sizes, **(sizes or {})}
            return self.load(arithmetic, config, trust_remote_code=True)[0]

        return self.only(arithmetic, f"dca {sizes}", load)

    def ids(self, length: int, batch: int = 1) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randint(0, self.settings["vocab_size"], (batch, length), generator=generator).to(self.device)

    @cached_property
    def crossing(self) -> tuple[dict | None, int, str]:
        """Sizes whose chunks can be crossed twice within the tokens allowed, and a length that does so."""
        if 2 * self.chunk + 40 <= self.tokens:
            return None, 2 * self.chunk + 40, f"{2 * self.chunk + 40:,} tokens"
        chunk = SMALL["chunk_size"] - SMALL["local_size"]
        return SMALL, 4 * chunk + 40, f"{4 * chunk + 40} tokens, in chunks of {chunk} to keep it short"

    @cached_property
    def dense_crossing(self) -> tuple[dict | None, int, str]:
        """As `crossing`, short enough for the definition."""
        if self.crossing[1] <= DENSE_TOKENS:
            return self.crossing
        return SMALL, 232, "232 tokens, in chunks of 48 to keep it short"

    @torch.inference_mode()
    def reference(self, arithmetic: Arithmetic) -> Reference:
        if arithmetic not in self.references:
            base = self.base(arithmetic)
            sizes, length, _ = self.dense_crossing
            ids, near = self.ids(length), self.ids(min(self.chunk, self.tokens))
            defined = by_definition(base, ids, {**self.sizes, **(sizes or {})})
            self.references[arithmetic] = Reference(logits(base, near), defined)
            if not arithmetic.is_exact:
                self.noise(arithmetic)  # while the base is in memory
        return self.references[arithmetic]

    def noise(self, arithmetic: Arithmetic) -> float:
        """How far the plain base model is from itself when it computes one thing in two ways."""
        if arithmetic not in self.noises:
            self.noises[arithmetic] = self.measured_noise(arithmetic, self.base(arithmetic), self.dense_crossing[1])
        return self.noises[arithmetic]

    def measured_noise(self, arithmetic: Arithmetic, base: PreTrainedModel, length: int) -> float:
        ids, once = self.ids(length), logits(base, self.ids(length))
        unchunked = {**self.sizes, "chunk_size": 2 * length, "local_size": 0, "temperature": 0.0}
        ways = (
            decoded(base, ids),
            padded(base, self.ids(length, batch=2)),
            (logits(base, ids, shift=length), once),
            (by_definition(base, ids, unchunked), once),
        )
        return max(arithmetic.distance(*both) for both in ways)

    def agree(self, arithmetic: Arithmetic, got: torch.Tensor, wanted: torch.Tensor, what: str) -> str:
        """How far the logits are apart, in words; raises AssertionError where that is too far."""
        error = arithmetic.distance(got, wanted)
        words = f"{error:.1e} of their spread over {what}"
        if arithmetic.layers:
            words = f"{error:.1e} in the first {arithmetic.layers} layers in float32"
        bound = FLOAT32_TOLERANCE
        if not (arithmetic.is_exact and error <= bound):
            noise = self.noise(arithmetic)
            bound = max(bound, TIMES_THE_BASE * noise)
            by = "" if arithmetic.is_exact else "root mean square; "
            words += f" ({by}the plain base from itself: {noise:.1e})"
        if not error <= bound:
            raise AssertionError(f"logits differ by {words}")
        return f"logits within {words}"

    def loads(self) -> str:
        model, missing = self.load(self.whole, trust_remote_code=True)
        if missing:
            raise AssertionError(f"the weights do not hold {missing[0]}")
        names = {name for name, _ in model.named_parameters()}
        return f"{type(model).__name__}, {len(names)} tensors, {model.dtype}".replace("torch.", "")

    def refuses(self) -> str:
        try:
            self.load(self.whole)
        except Exception as error:
            return f"{type(error).__name__}"
        raise AssertionError("it silently loads as a plain model")

    def tokenizer(self) -> str:
        """The tokens of the strings in the manifest, which packaging wrote down with the source's tokenizer."""
        known = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8")).get("tokenizer")
        if known is None:
            raise Skipped("the package has no tokenizer, or was made by a version that did not record its tokens")
        tokenizer = AutoTokenizer.from_pretrained(self.folder, trust_remote_code=True)
        for text, wanted in known.items():
            got = tokenizer(text, verbose=False)["input_ids"]
            if list(got) != list(wanted):
                raise AssertionError(f"{text[:40]!r} gives other tokens than the source's tokenizer")
        return f"{type(tokenizer).__name__}, {len(known)} strings give the source's tokens"

    @torch.inference_mode()
    def equals_base(self) -> str:
        ids, wanted = self.ids(min(self.chunk, self.tokens)), self.reference(self.whole).near
        return self.agree(self.whole, logits(self.dca(self.whole), ids), wanted, f"{ids.shape[1]:,} tokens")

    @torch.inference_mode()
    def definition(self) -> str:
        """The base model with attention written out from the definition, against the package's."""
        sizes, length, words = self.dense_crossing

        def compared(arithmetic: Arithmetic) -> str:
            wanted = self.reference(arithmetic).defined
            return self.agree(arithmetic, logits(self.dca(arithmetic, sizes), self.ids(length)), wanted, words)

        return "; ".join(map(compared, self.arithmetics))

    @torch.inference_mode()
    def decodes(self) -> str:
        sizes, length, words = self.crossing

        def compared(arithmetic: Arithmetic) -> str:
            self.reference(arithmetic)  # before the package's model is loaded, so that one is in memory at a time
            return self.agree(arithmetic, *decoded(self.dca(arithmetic, sizes), self.ids(length)), words)

        return "; ".join(map(compared, self.arithmetics))

    @torch.inference_mode()
    def pads(self) -> str:
        sizes, length, words = self.crossing

        def compared(arithmetic: Arithmetic) -> str:
            self.reference(arithmetic)
            return self.agree(arithmetic, *padded(self.dca(arithmetic, sizes), self.ids(length, batch=2)), words)

        return "; ".join(map(compared, self.arithmetics))

    @torch.inference_mode()
    def long_context(self) -> str:
        trained = self.sizes["original_max_position_embeddings"]
        length = min(4 * trained, self.tokens)
        if length < 2 * trained:
            raise Skipped(f"needs {2 * trained:,} tokens: raise `tokens` to that")
        model = self.dca(self.whole)
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


def first_layers(settings: dict) -> int:
    """How many layers the short comparison takes: as many as bring one with full attention."""
    kinds = settings.get("layer_types") or ["full_attention"]
    return max(FIRST_LAYERS, kinds.index("full_attention") + 1)


def shortened(config, layers: int):
    """A configuration of the first layers alone."""
    config.num_hidden_layers = min(layers, config.num_hidden_layers)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    return config


def logits(model, ids: torch.Tensor, shift: int = 0) -> torch.Tensor:
    """The logits at up to COMPARED positions, evenly spread over the text, whose positions begin at `shift`."""
    length = ids.shape[1]
    kept = torch.linspace(0, length - 1, min(length, COMPARED), device=ids.device).round().long()
    moved = {"position_ids": torch.arange(shift, shift + length, device=ids.device)[None]} if shift else {}
    return model(ids, use_cache=False, logits_to_keep=kept, **moved).logits


def decoded(model, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The last logits of a text: read in two pieces and then token by token, and in one call."""
    length = ids.shape[1]
    wanted = model(ids, use_cache=False, logits_to_keep=DECODED).logits
    cache, got, at = DynamicCache(config=model.config), [], 0
    for piece in (length // 3, length - DECODED - length // 3, *[1] * DECODED):
        got.append(model(ids[:, at : at + piece], **{cache_name(model): cache}, logits_to_keep=1).logits)
        at += piece
    return torch.cat(got[2:], dim=1), wanted


def padded(model, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The last logits of two texts: one of them padded in a batch, and each alone."""
    mask = torch.ones_like(ids)
    mask[1, :17] = 0
    got = model(ids, attention_mask=mask, use_cache=False, logits_to_keep=1).logits
    alone = [model(ids[:1], use_cache=False, logits_to_keep=1).logits]
    alone.append(model(ids[1:, 17:], use_cache=False, logits_to_keep=1).logits)
    return got, torch.cat(alone)


def by_definition(base, ids: torch.Tensor, sizes: dict) -> torch.Tensor:
    """The logits of the base model with attention from the definition, in its layers that see everything and rotate;
    the others attend as they always did."""
    own = base.config._attn_implementation
    AttentionInterface.register("definition", defined_attention(base.config, base.base_model.rotary_emb, sizes))
    base.config._attn_implementation = "definition"
    try:
        return logits(base, ids)
    finally:
        base.config._attn_implementation = own


def cache_name(model) -> str:
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def window_of(config, layer: int) -> int | None:
    """The window that a layer attends through, in tokens, or None, as its configuration says."""
    kinds = getattr(config, "layer_types", None)
    return config.sliding_window if kinds and kinds[layer] == "sliding_attention" else None


def rotates(config, layer: int) -> bool:
    """Whether a layer has rotary positions, as its configuration says."""
    return bool((getattr(config, "no_rope_layers", None) or [1] * (layer + 1))[layer])


def defined_attention(config, rotary, sizes: dict):
    """Dual Chunk Attention from its definition (arXiv 2402.17463), for queries and keys rotated at their positions.

    Rotations compose, so what stands at i is moved to where the definition puts it by a rotation of the difference.
    Layers with a window or without rotary positions attend plainly; a sink is one more logit, of no value.
    """
    inv_freq = next(getattr(rotary, name) for name in ("full_attention_inv_freq", "inv_freq") if hasattr(rotary, name))
    largest, local = sizes["chunk_size"], sizes["local_size"]
    trained, growth, chunk = sizes["original_max_position_embeddings"], sizes.get("temperature", 0.0), largest - local

    def moved(x: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
        angle = by.double().unsqueeze(-1) * inv_freq.double()
        cos, sin = angle.cos(), angle.sin()
        half = cos.shape[-1]
        a, b, rest = x.double().split((half, half, x.shape[-1] - 2 * half), dim=-1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], dim=-1)

    def attention(module, query, key, value, attention_mask, scaling, **kwargs):
        at, group = torch.arange(query.shape[2], device=query.device), query.shape[1] // key.shape[1]
        within, numbers = at % chunk, at // chunk
        window, sinks = window_of(config, module.layer_idx), kwargs.get("s_aux")
        changed = window is None and rotates(config, module.layer_idx)
        keys = (moved(key, within - at) if changed else key.double()).repeat_interleave(group, dim=1).transpose(2, 3)
        values = value.double().repeat_interleave(group, dim=1)
        positions = (within, (within + chunk).clamp(max=largest), torch.full_like(at, largest))
        grown = torch.where(at >= trained, 1 + growth * torch.log((at + 1) / trained), 1.0)
        grown = grown if changed else torch.ones_like(grown)

        def rows(some: slice) -> torch.Tensor:
            part, back = query[:, :, some], at[some, None] - at[None, :]
            if changed:
                intra, successive, inter = (moved(part, (position - at)[some]) @ keys for position in positions)
                apart = numbers[some, None] - numbers[None, :]
                score = torch.where(apart == 0, intra, torch.where(apart == 1, successive, inter))
            else:
                score = part.double() @ keys
            unseen = (back < 0) | (back >= (window or len(at)))
            score = (score * scaling * grown[some, None]).masked_fill(unseen, float("-inf"))
            if sinks is not None:
                score = torch.cat([score, sinks.double().view(1, -1, 1, 1).expand(*score.shape[:3], 1)], dim=-1)
            return score.softmax(-1)[..., : len(at)] @ values

        out = [rows(slice(first, first + DENSE_ROWS)) for first in range(0, len(at), DENSE_ROWS)]
        return torch.cat(out, dim=2).to(query.dtype).transpose(1, 2), None

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
    checker = Checker(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
    checks = {
        "loads with remote code": checker.loads,
        "refuses without remote code": checker.refuses,
        "tokenizer is the source's": checker.tokenizer,
        "equals the base up to the chunk length": checker.equals_base,
        "matches the reference implementation beyond it": checker.definition,
        "prefill and decode equal one forward": checker.decodes,
        "padding changes nothing": checker.pads,
        "loss stays low beyond the trained length": checker.long_context,
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

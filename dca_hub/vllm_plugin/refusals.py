"""What a DCA model cannot be served with: each refused with one sentence that names the way out."""

# The families whose layers all have full attention and half-split rotary positions, and were compared in vLLM.
FAMILIES = ("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe")
# Families that are packaged, and have what the back ends here do not know.
_UNSERVED = {
    "gemma3_text": "layers with a window beside full ones",
    "glm4_moe": "rotary positions in a part of each head",
    "gpt_oss": "layers with a window beside full ones, and attention sinks",
    "olmo3": "layers with a window beside full ones",
    "qwen3_5_text": "linear layers beside full ones",
    "qwen3_next": "linear layers beside full ones",
    "smollm3": "layers without rotary positions",
}
ROPE_TYPES = ("default", "linear", "llama3", "yarn")
# Drafts that come from the text itself, or from a model of its own, plain or DCA; what shares the model's layers or
# reads its hidden states has not been looked at.
SPECULATIVE_METHODS = ("ngram", "ngram_gpu", "suffix", "draft_model")


# Block sizes of vLLM's flash attention, in tokens, the fastest first; a chunk must be made of whole blocks.
PAGE_SIZES = (128, 64, 32, 16)


def refuse_model(model_config) -> None:
    """Raises ValueError for a model whose positions Dual Chunk Attention does not know."""
    config = model_config.hf_config
    if config.model_type in _UNSERVED:
        raise ValueError(
            f"Dual Chunk Attention in vLLM does not serve models of type {config.model_type!r}, which have "
            f"{_UNSERVED[config.model_type]}: load the model with transformers, or leave dual_chunk_attention_config "
            "out to serve the plain model."
        )
    if config.model_type not in FAMILIES:
        raise ValueError(
            f"Dual Chunk Attention in vLLM has not been verified for models of type {config.model_type!r}: it serves "
            f"{', '.join(FAMILIES)}; leave dual_chunk_attention_config out to serve the plain model."
        )
    size = getattr(config, "head_dim", None)
    if config.model_type == "qwen2" and size not in (None, config.hidden_size // config.num_attention_heads):
        raise ValueError(
            "vLLM takes the head size of a qwen2 model to be hidden_size / num_attention_heads, and this one's is "
            f"{size}: load the model with transformers."
        )
    rope = getattr(config, "rope_parameters", None) or {}
    kind = rope.get("rope_type", "default")
    if kind not in ROPE_TYPES or "mrope_section" in rope:
        raise ValueError(
            f"Dual Chunk Attention in vLLM does not serve rope_type {'mrope' if 'mrope_section' in rope else kind!r}, "
            f"only {', '.join(ROPE_TYPES)}: load the model with transformers."
        )
    windows = [layer for layer in getattr(config, "layer_types", None) or () if layer != "full_attention"]
    # Qwen2 names a window that `use_sliding_window` turns off.
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    if windows or window is not None:
        raise ValueError(
            "this model attends through a sliding window, which Dual Chunk Attention replaces: pass "
            "--hf-overrides '{\"sliding_window\": null}' to let every layer see everything."
        )


def refuse_engine(vllm_config) -> None:
    """Raises ValueError for options of the engine under which a DCA model would not be right."""
    speculative = vllm_config.speculative_config
    if speculative is not None and speculative.method not in SPECULATIVE_METHODS:
        raise ValueError(
            f"speculative decoding by {speculative.method!r} is not supported with Dual Chunk Attention: use "
            "the method 'ngram', or 'draft_model' with a smaller model."
        )
    if vllm_config.kv_transfer_config is not None:
        raise ValueError(
            "the cached keys of a DCA model are not those of a plain one, and a KV connector cannot tell them apart: "
            "serve it without kv_transfer_config."
        )
    parallel = vllm_config.parallel_config
    if parallel.decode_context_parallel_size > 1 or parallel.prefill_context_parallel_size > 1:
        raise ValueError(
            "Dual Chunk Attention reads whole chunks and cannot share one request's keys among processes: use tensor "
            "or pipeline parallel in place of context parallel."
        )
    if parallel.use_ubatching:
        raise ValueError(
            "Dual Chunk Attention lays out a step's requests together and does not support microbatches: "
            "serve it without --enable-dbo."
        )


def refuse_graphs(compilation, breakable: bool) -> None:
    """Raises ValueError if keys would be written within a CUDA graph of steps that differ: where to turn them to would
    be what it was when the graph was captured. `breakable`: whether vLLM was asked for graphs with breaks in them."""
    within = breakable or "vllm::unified_kv_cache_update" not in (compilation.splitting_ops or ())
    if within and compilation.cudagraph_mode.has_piecewise_cudagraphs():
        raise ValueError(
            "Dual Chunk Attention writes keys outside of piecewise CUDA graphs, and these options put that inside: "
            "leave splitting_ops, use_inductor_graph_partition and VLLM_USE_BREAKABLE_CUDAGRAPH at their defaults, or "
            "ask for cudagraph_mode FULL_DECODE_ONLY."
        )


def refuse_selection(asked, device: str) -> None:
    """Raises ValueError for an attention layer that vLLM is about to build, by its `AttentionSelectorConfig`."""
    if device not in ("cpu", "cuda"):
        raise ValueError(f"Dual Chunk Attention has no vLLM back end for {device!r}: run it on a CPU or an NVIDIA GPU.")
    unfit = {
        "latent attention": asked.use_mla,
        "attention sinks": asked.has_sink,
        "sparse attention": asked.use_sparse,
        "bidirectional prefixes": asked.use_mm_prefix,
        "a sliding window": asked.has_sliding_window,
        "non-causal attention": asked.use_non_causal or asked.attn_type != "decoder",
        "a quantized KV cache": asked.kv_cache_dtype not in (None, "auto", "bfloat16", "float16"),
        "the batch-invariant mode": asked.use_batch_invariant,
    }
    _refuse_first(unfit)


def refuse_backend(backend, asked, capability) -> None:
    """Raises ValueError for a GPU, dtype or head size that vLLM's own backend under ours cannot serve."""
    if capability is None:  # a CPU, which checks for itself
        return
    reasons = backend.validate_configuration(device_capability=capability, **asked._asdict())
    if reasons:
        raise ValueError(
            f"Dual Chunk Attention runs on vLLM's flash attention, which cannot serve this ({', '.join(reasons)}): it "
            "takes float16 and bfloat16 on GPUs of compute capability 8.0 and more."
        )


def refuse_pages(geometry, page_size: int) -> None:
    """Raises ValueError for a block size of the cache, in tokens, that does not divide the chunk length."""
    if geometry.chunk_length % page_size:
        fitting = [size for size in PAGE_SIZES if geometry.chunk_length % size == 0]
        fix = (
            f"pass --block-size {fitting[0]}"
            if fitting
            else (f"package the model with sizes whose difference is a multiple of {PAGE_SIZES[-1]}")
        )
        raise ValueError(
            f"the chunk length ({geometry.chunk_length:,} tokens) must be a multiple of the KV-cache block size "
            f"({page_size}) on a GPU: {fix}."
        )


def refuse_layer(**unfit) -> None:
    """Raises ValueError for a layer with a feature that is given (not None, not zero)."""
    _refuse_first({name.replace("_", " "): bool(value) for name, value in unfit.items()})


def _refuse_first(unfit: dict[str, bool]) -> None:
    for feature, found in unfit.items():
        if found:
            raise ValueError(f"Dual Chunk Attention does not serve {feature}: turn it off, or serve the plain model.")

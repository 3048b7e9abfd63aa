"""What the attention layers of both devices refuse, mixed in before vLLM's own class."""

from dca_hub.vllm_plugin.refusals import refuse_layer


class DualChunkLayer:
    """Mixed into vLLM's implementation of a layer, first: `attend` is its `forward` once it is known to be served."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        refuse_layer(
            ALiBi=self.alibi_slopes is not None,
            a_sliding_window=self.sliding_window not in (-1, (-1, -1)),  # as the CPU writes none, and as CUDA does
            a_cap_on_logits=self.logits_soft_cap,
            attention_sinks=self.sinks is not None,
            keys_shared_between_layers=self.kv_sharing_target_layer_name,
            a_quantized_KV_cache=getattr(self, "is_fp8_kv_cache", False),  # the CPU's: see also refuse_selection
        )

    def forward(
        self,
        layer,
        query,
        key,
        value,
        kv_cache,
        attn_metadata,
        output,
        output_scale=None,
        output_block_scale=None,
    ):
        """Attention of queries [N, H, D] into `output` [N, H, D]; keys and values come from the cache."""
        if output_scale is not None or output_block_scale is not None:
            raise NotImplementedError("Dual Chunk Attention has no fused quantization of its output.")
        return self.attend(layer, query, key, value, kv_cache, attn_metadata, output)

    def attend(self, layer, query, key, value, kv_cache, attn_metadata, output):
        """As `forward`; `attn_metadata` is None while vLLM warms up."""
        raise NotImplementedError

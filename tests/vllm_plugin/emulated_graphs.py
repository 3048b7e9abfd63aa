"""The emulated CUDA backend with the metadata that a CUDA graph reads: every step of one token a request is laid out in
the same memory, steps within the first chunk too."""

from emulated_cuda import EmulatedBackend
from vllm.config import CUDAGraphMode

from dca_hub.vllm_plugin import hooks
from dca_hub.vllm_plugin.cuda import backend

SPLITS = 32  # what vLLM cuts a sequence into at most where graphs are captured


class Builder(backend.DualChunkFlashMetadataBuilder):
    def __init__(self, kv_cache_spec, layer_names, vllm_config, device):
        asked = vllm_config.compilation_config
        kept = asked.cudagraph_mode, asked.max_cudagraph_capture_size
        asked.cudagraph_mode, asked.max_cudagraph_capture_size = CUDAGraphMode.FULL_DECODE_ONLY, 16
        super().__init__(kv_cache_spec, layer_names, vllm_config, device)
        asked.cudagraph_mode, asked.max_cudagraph_capture_size = kept
        self.places = set()

    def build(self, common_prefix_len, common_attn_metadata, fast_build=False):
        metadata = super().build(common_prefix_len, common_attn_metadata, fast_build)
        if common_attn_metadata.max_query_len == 1:
            layout = metadata.layout
            read = [*vars(layout.rows).values(), layout.intra.starts, layout.intra.lengths, layout.intra.pages]
            self.places.add(tuple(x.data_ptr() for x in [*read, layout.intra.schedule]))
            assert len(self.places) == 1 and layout.intra.splits == SPLITS
        return metadata


class GraphBackend(EmulatedBackend):
    @staticmethod
    def get_builder_cls():
        return Builder


hooks.BACKENDS["cpu"] = f"{__name__}.GraphBackend"

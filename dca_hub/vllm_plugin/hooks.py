"""The two places where the plug-in enters vLLM: the check of a model's configuration, and the choice of attention.

Both wrap a method of vLLM and hand on everything that is not about a DCA model. vLLM's own way in, `register_backend`,
is not enough: CPUs ignore it, and for a GPU the automatic choice may prefer another backend and run plain attention.
"""

import re
from functools import wraps

import vllm
from vllm import envs
from vllm.config import ModelConfig, get_current_vllm_config
from vllm.platforms import current_platform
from vllm.utils.import_utils import resolve_obj_by_qualname
from vllm.v1.attention import selector

from dca_hub.vllm_plugin import VLLM_VERSIONS, stage
from dca_hub.vllm_plugin.architectures import register_architectures
from dca_hub.vllm_plugin.config import asks_for_dca, prepare
from dca_hub.vllm_plugin.refusals import refuse_backend, refuse_engine, refuse_graphs, refuse_selection

BACKENDS = {
    "cpu": "dca_hub.vllm_plugin.cpu.backend.DualChunkCPUBackend",
    "cuda": "dca_hub.vllm_plugin.cuda.backend.DualChunkFlashBackend",
}
_MARK = "_dca_hub_wrapped"


def install() -> None:
    """Wraps both methods, once a process.

    Raises:
        RuntimeError: this vLLM, or its platform, is not one that the plug-in knows.
    """
    _check_version(vllm.__version__)
    register_architectures()
    _wrap(ModelConfig, "verify_dual_chunk_attention_config", _checked)
    _wrap(type(current_platform), "get_attn_backend_cls", _routed)


def _check_version(version: str) -> None:
    found = re.match(r"\d+\.\d+", version)
    if not found or found[0] not in VLLM_VERSIONS:
        raise RuntimeError(f"it serves vLLM {' and '.join(VLLM_VERSIONS)}, not {version}")


def _wrap(request: type, name: str, make) -> None:
    method = getattr(request, name)
    if not hasattr(method, _MARK):
        wrapper = make(method)
        setattr(getattr(wrapper, "__func__", wrapper), _MARK, True)
        setattr(request, name, wrapper)


def _checked(verify):
    @wraps(verify)
    def wrapper(self, load_config):
        # vLLM remembers its choice of attention for a process, by head size and dtype and not by model.
        selector._cached_get_attn_backend.cache_clear()
        prepare(self)
        return verify(self, load_config)

    return wrapper


def _routed(choose):
    plain = choose.__func__

    @wraps(plain)
    def wrapper(cls, selected_backend, attn_selector_config, num_heads=None):
        vllm_config = get_current_vllm_config()
        if not asks_for_dca(vllm_config):
            return plain(cls, selected_backend, attn_selector_config, num_heads)
        refuse_engine(vllm_config)
        refuse_graphs(vllm_config.compilation_config, bool(envs.VLLM_USE_BREAKABLE_CUDAGRAPH))
        refuse_selection(attn_selector_config, cls.device_name)
        backend = resolve_obj_by_qualname(BACKENDS[cls.device_name])
        refuse_backend(backend, attn_selector_config, cls.get_device_capability())
        stage.building(cls.device_name)
        return BACKENDS[cls.device_name]

    return classmethod(wrapper)

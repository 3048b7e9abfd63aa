"""What a model takes: parameters, bytes of weights and bytes of KV cache, from the numbers of its config.json alone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from dca_hub.errors import DcaHubError

_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
_SHORT = {"fp64": "float64", "fp32": "float32", "float": "float32", "bf16": "bfloat16", "fp16": "float16"}

# bitsandbytes. 8-bit: one byte a weight, a float32 scale a row. 4-bit: half a byte a weight, a one-byte scale for each
# block of 64, and a float32 for each 256 of those (double quantization).
_NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)

# What the code of a family fixes and no config.json says.
_QKV_BIAS = {"qwen2"}
_QK_NORM = {"qwen3", "qwen3_moe", "gemma3_text", "qwen3_next", "qwen3_5_text"}
_WHOLE_QK_NORM = {"olmo3"}
_FOUR_NORMS = {"gemma3_text"}
_OUTPUT_GATE = {"qwen3_next", "qwen3_5_text"}
_SINKS = _EXPERT_BIAS = {"gpt_oss"}
_TIED = {"gemma3_text", "smollm3"}
_NO_OUTPUT_BIAS = {"glm4_moe"}

GIB = 2**30


def dtype_bytes(dtype: object) -> int:
    """Bytes of one number: `dtype` is a torch.dtype, its name, or one of fp64, fp32, fp16, bf16.

    Raises DcaHubError for anything else.
    """
    name = str(dtype).removeprefix("torch.").lower()
    name = _SHORT.get(name, name)
    if name not in _BYTES:
        raise DcaHubError(f"Unknown dtype {name!r}: use one of {', '.join(_BYTES)}.")
    return _BYTES[name]


@dataclass(frozen=True)
class RopeScaling:
    """`rope_scaling` of a config.json: `factor`, and for llama3 the window it starts from and its two borders."""

    rope_type: Literal["linear", "dynamic", "yarn", "llama3"]
    factor: float
    original_max_position_embeddings: int | None = None
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None


@dataclass(frozen=True)
class LinearLayers:
    """Layers of linear attention (the gated delta rule of Qwen3-Next and Qwen3.5): how many there are, and their
    sizes. They hold a state of fixed size in place of keys and values."""

    count: int
    num_key_heads: int
    num_value_heads: int
    key_head_dim: int
    value_head_dim: int
    conv_kernel_dim: int

    def weights(self, hidden_size: int) -> int:
        """The weights of the projections of one layer."""
        keys, values = self.num_key_heads * self.key_head_dim, self.num_value_heads * self.value_head_dim
        return hidden_size * (2 * keys + 3 * values + 2 * self.num_value_heads)

    @property
    def other(self) -> int:
        """The other parameters of one layer: convolution, decay, step and norm."""
        keys, values = self.num_key_heads * self.key_head_dim, self.num_value_heads * self.value_head_dim
        return (2 * keys + values) * self.conv_kernel_dim + 2 * self.num_value_heads + self.value_head_dim


@dataclass(frozen=True)
class Architecture:
    """The numbers of a decoder that its memory follows from, under the names that config.json gives them.

    `attention_bias` says which projections have a bias, `qk_norm` whether queries and keys have an RMSNorm (Qwen3;
    `whole_qk_norm`: one over all heads, Olmo), `layer_norms` how many others a layer has, `output_gate` whether queries
    come with a gate, `attention_sinks` whether each head has a sink: all are fixed by the family's code and appear in
    no config.json. `windowed_layers` of the layers attend through a window of `sliding_window` tokens; where they are
    0 and there is a window, all do. `num_experts` counts the routed experts of each layer (0: a dense model) and
    `moe_intermediate_size` is the width of one; the first `dense_layers` of the layers have an MLP in their place.
    `shared_expert_gate` says whether a gate weighs the shared expert: in the Qwen line it does, in GLM it does not.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rope_theta: float
    tie_word_embeddings: bool
    attention_bias: Literal["none", "qkv", "qkvo"] = "none"
    qk_norm: bool = False
    sliding_window: int | None = None
    rope_scaling: RopeScaling | None = None
    num_experts: int = 0
    num_experts_per_tok: int = 0
    moe_intermediate_size: int = 0
    shared_expert_intermediate_size: int = 0
    shared_expert_gate: bool = True
    dense_layers: int = 0
    expert_bias: bool = False
    windowed_layers: int = 0
    linear_layers: LinearLayers | None = None
    whole_qk_norm: bool = False
    layer_norms: int = 2
    output_gate: bool = False
    attention_sinks: bool = False

    def __post_init__(self):
        for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_key_value_heads", "head_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError("num_attention_heads must be a multiple of num_key_value_heads")
        if self.full_layers < 1:
            raise ValueError("num_hidden_layers must exceed windowed_layers and linear_layers together")
        if self.windowed_layers and not self.sliding_window:
            raise ValueError("windowed_layers needs sliding_window")
        if self.num_experts and not (self.num_experts_per_tok and self.moe_intermediate_size):
            raise ValueError("num_experts needs num_experts_per_tok and moe_intermediate_size")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Architecture":
        """From the contents of a config.json, of any of the families here.

        Raises DcaHubError when a number that memory depends on is not there.
        """
        config = config.get("text_config") or config  # of a model of text and images
        get = config.get
        family, kinds = get("model_type", ""), _layer_types(config)
        try:
            heads, hidden = config["num_attention_heads"], config["hidden_size"]
            experts = get("num_local_experts") or get("num_experts") or get("n_routed_experts") or 0
            expert_width = (get("moe_intermediate_size") or config["intermediate_size"]) if experts else 0
            shared = (get("n_shared_experts") or 0) * expert_width
            return cls(
                vocab_size=config["vocab_size"],
                hidden_size=hidden,
                intermediate_size=config["intermediate_size"],
                num_hidden_layers=config["num_hidden_layers"],
                num_attention_heads=heads,
                num_key_value_heads=get("num_key_value_heads") or heads,
                head_dim=get("head_dim") or hidden // heads,
                max_position_embeddings=get("max_position_embeddings") or 0,
                rope_theta=_rope_theta(config),
                # transformers leaves the key out of the file where it has the library's default.
                tie_word_embeddings=bool(get("tie_word_embeddings", family in _TIED)),
                attention_bias=_bias(config),
                qk_norm=family in _QK_NORM or bool(get("use_qk_norm")),
                sliding_window=_sliding_window(config),
                rope_scaling=_rope_scaling(config),
                num_experts=experts,
                num_experts_per_tok=(get("num_experts_per_tok") or 0) if experts else 0,
                moe_intermediate_size=expert_width,
                shared_expert_intermediate_size=shared or (get("shared_expert_intermediate_size") or 0) * bool(experts),
                shared_expert_gate=not shared,
                dense_layers=(get("first_k_dense_replace") or 0) if experts else 0,
                expert_bias=family in _EXPERT_BIAS,
                windowed_layers=kinds.count("sliding_attention") if _sliding_window(config) else 0,
                linear_layers=_linear_layers(config, kinds.count("linear_attention")),
                whole_qk_norm=family in _WHOLE_QK_NORM,
                layer_norms=4 if family in _FOUR_NORMS else 2,
                output_gate=family in _OUTPUT_GATE,
                attention_sinks=family in _SINKS,
            )
        except KeyError as error:
            raise DcaHubError(f"The config.json has no {error.args[0]}: this is not a decoder with RoPE.") from error

    @property
    def parameters(self) -> int:
        """How many numbers the checkpoint holds; tied embeddings count once."""
        layers = self._all_mlps + self._all_experts + self._expert_layers * self._expert_extras
        norms = (self.num_hidden_layers * self.layer_norms + 1) * self.hidden_size
        extras = self._attention_layers * self._biases_and_norms
        if self.linear_layers:
            extras += self.linear_layers.count * self.linear_layers.other
        return self._embeddings + layers + self._all_attention + extras + norms

    def weights_bytes(self, dtype: object, quantization: Literal["8bit", "4bit"] | float | None = None) -> int:
        """Bytes of the weights in memory.

        With `quantization`, bitsandbytes' arithmetic: the linear layers of the decoder shrink; embeddings, output head,
        norms, biases and the fused experts of Mixtral and Qwen3-MoE stay in `dtype`. A number is the bytes that each
        weight of a linear layer takes, experts included, as `stored_quantization` gives it.
        """
        size = dtype_bytes(dtype)
        if isinstance(quantization, float):
            linear = self._all_attention + self._all_mlps + self._all_experts
            return round((self.parameters - linear) * size + linear * quantization)
        if quantization is None:
            return self.parameters * size
        if quantization not in ("8bit", "4bit"):
            raise DcaHubError(f"Unknown quantization {quantization!r}: use 8bit or 4bit.")
        linear = self._all_attention + self._all_mlps
        shrunk = round(linear * _NF4_BYTES) if quantization == "4bit" else linear + 4 * self._linear_rows
        return (self.parameters - linear) * size + shrunk

    def cache_bytes_per_token(self, dtype: object, bits: int = 16) -> int:
        """Bytes of keys and values that each token of context leaves in the cache, all layers together; with 8 `bits`
        in `dual_chunk_cache.EightBitLayer`s. Layers with a window of their own and linear ones hold an amount that does
        not grow, and is not counted."""
        row = self.head_dim + 4 if bits == 8 else self.head_dim * dtype_bytes(dtype)
        return 2 * self.full_layers * self.num_key_value_heads * row

    def offloaded_bytes_per_token(self, dtype: object, bits: int = 16) -> int:
        """As `cache_bytes_per_token`, of what an offloaded cache leaves on the device: two layers, and the sixteenth
        that a `GrowingLayer` has more."""
        return -(-self.cache_bytes_per_token(dtype, bits) * 2 * 17 // (16 * max(2, self.full_layers)))

    @property
    def operations_per_token(self) -> int:
        """Multiplications and additions that reading a token takes beside attention: by every weight but those of
        embeddings, which are looked up, of the output head, which reads the last token alone, and of experts that are
        not chosen."""
        chosen = replace(self, num_experts=self.num_experts_per_tok) if self.num_experts else self
        return 2 * (chosen.parameters - self._embeddings)

    @property
    def operations_per_pair(self) -> int:
        """Multiplications and additions for each query and key that it sees, of all layers that see everything."""
        return 4 * self.full_layers * self.num_attention_heads * self.head_dim

    @property
    def full_layers(self) -> int:
        """How many layers attend to everything, or all through one window."""
        return self._attention_layers - self.windowed_layers

    @property
    def _embeddings(self) -> int:
        return self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)

    @property
    def _attention_layers(self) -> int:
        return self.num_hidden_layers - (self.linear_layers.count if self.linear_layers else 0)

    @property
    def _all_attention(self) -> int:
        """The weights of the projections of attention and of linear layers."""
        linear = self.linear_layers
        extra = linear.count * linear.weights(self.hidden_size) if linear else 0
        return self._attention_layers * self._attention + extra

    @property
    def _widths(self) -> tuple[int, int]:
        return self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim

    @property
    def _attention(self) -> int:
        query, key_value = self._widths
        return self.hidden_size * ((3 if self.output_gate else 2) * query + 2 * key_value)

    @property
    def _expert_layers(self) -> int:
        return self.num_hidden_layers - self.dense_layers if self.num_experts else 0

    @property
    def _mlp_layers(self) -> int:
        return self.num_hidden_layers - self._expert_layers

    @property
    def _all_mlps(self) -> int:
        return self._mlp_layers * 3 * self.hidden_size * self.intermediate_size

    @property
    def _all_experts(self) -> int:
        # + 1: the router, and the gate of the shared expert
        routed = self.num_experts * (3 * self.moe_intermediate_size + 1)
        gate = 1 if self.shared_expert_gate else 0
        shared = 3 * self.shared_expert_intermediate_size + gate if self.shared_expert_intermediate_size else 0
        return self._expert_layers * self.hidden_size * (routed + shared)

    @property
    def _expert_extras(self) -> int:
        return self.num_experts * (2 * self.moe_intermediate_size + self.hidden_size + 1) if self.expert_bias else 0

    @property
    def _biases_and_norms(self) -> int:
        query, key_value = self._widths
        bias = {"none": 0, "qkv": query + 2 * key_value, "qkvo": query + 2 * key_value + self.hidden_size}
        norms = query + key_value if self.whole_qk_norm else 2 * self.head_dim if self.qk_norm else 0
        return bias[self.attention_bias] + norms + (self.num_attention_heads if self.attention_sinks else 0)

    @property
    def _linear_rows(self) -> int:
        query, key_value = self._widths
        attention = query + 2 * key_value + self.hidden_size
        mlps = self._mlp_layers * (2 * self.intermediate_size + self.hidden_size)
        return self.num_hidden_layers * attention + mlps


def stored_quantization(config: Mapping[str, Any]) -> Literal["8bit", "4bit"] | float | None:
    """How a checkpoint's weights are quantized in its files, for `Architecture.weights_bytes`; None where they are not,
    or in a way that is not known here.

    GPTQ, AWQ and compressed-tensors keep a 2-byte scale and a zero point for each group of weights; FP8, one scale a
    block.
    """
    settings = config.get("quantization_config")
    if not isinstance(settings, Mapping):
        return None
    method = settings.get("quant_method")
    if method == "bitsandbytes" or settings.get("load_in_4bit") or settings.get("load_in_8bit"):
        return "4bit" if settings.get("load_in_4bit") else "8bit"
    bits, group = (
        settings.get("bits") or settings.get("w_bit"),
        settings.get("group_size") or settings.get("q_group_size"),
    )
    if method == "compressed-tensors":
        groups = settings.get("config_groups")
        first = next(iter(groups.values()), None) if isinstance(groups, Mapping) else None
        weights = first.get("weights") if isinstance(first, Mapping) else None
        weights = weights if isinstance(weights, Mapping) else {}
        bits, group = weights.get("num_bits"), weights.get("group_size")
    if method in ("fp8", "fbgemm_fp8"):
        bits, group = 8, None
    if not isinstance(bits, int) or not 1 <= bits <= 16:
        return None
    group = group if isinstance(group, int) and group > 0 else 4096
    return bits / 8 + (2 + bits / 8) / group


def _bias(config: Mapping[str, Any]) -> Literal["none", "qkv", "qkvo"]:
    family = config.get("model_type", "")
    if family in _QKV_BIAS:
        return "qkv"
    if not config.get("attention_bias"):
        return "none"
    return "qkv" if family in _NO_OUTPUT_BIAS else "qkvo"


def _sliding_window(config: Mapping[str, Any]) -> int | None:
    """The window that is in force: the Qwen line writes one into its files and leaves it switched off.

    Mistral is the trap: without the key, transformers gives it a window of 4,096.
    """
    family = config.get("model_type", "")
    if not config.get("use_sliding_window", not family.startswith("qwen")):
        return None
    return config.get("sliding_window", 4096 if family == "mistral" else None)


def _rope_theta(config: Mapping[str, Any]) -> float:
    rope = config.get("rope_parameters") or {}
    rope = rope.get("full_attention", rope)
    return float(config.get("rope_theta") or rope.get("rope_theta") or 10_000)


def _layer_types(config: Mapping[str, Any]) -> list[str]:
    """The kind of each layer, where a config.json says it: layer by layer, or by the distance between full ones."""
    if config.get("layer_types"):
        return list(config["layer_types"])
    other, every = "sliding_attention", config.get("sliding_window_pattern")
    if config.get("linear_num_key_heads"):
        other, every = "linear_attention", config.get("full_attention_interval", 4)
    layers = range(1, (config.get("num_hidden_layers") or 0) + 1)
    return [other if every and number % every else "full_attention" for number in layers]


def _linear_layers(config: Mapping[str, Any], count: int) -> LinearLayers | None:
    if not count:
        return None
    names = ("num_key_heads", "num_value_heads", "key_head_dim", "value_head_dim", "conv_kernel_dim")
    return LinearLayers(count, *(config[f"linear_{name}"] for name in names))


def _rope_scaling(config: Mapping[str, Any]) -> RopeScaling | None:
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    scaling = scaling.get("full_attention", scaling)  # where each kind of layer has a table
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind == "default":
        return None
    keys = ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor")
    return RopeScaling(kind, float(scaling.get("factor") or 1.0), **{key: scaling.get(key) for key in keys})

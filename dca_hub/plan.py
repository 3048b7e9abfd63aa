"""Decides what a package of a checkpoint will be, before anything is written."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from huggingface_hub.errors import StrictDataclassError

from dca_hub import families
from dca_hub.catalogue import Entry
from dca_hub.checkpoints import Weights, find_weights
from dca_hub.errors import DcaHubError, one_line
from dca_hub.families import Family
from dca_hub.modeling.dual_chunk_config import CONFIG_KEY, PUBLIC_ATTENTION, config_from_geometry, own_architectures
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.modeling.dual_chunk_guards import refuse_unfit
from dca_hub.sizes import NOTHING_ASKED, Asked, geometry_of, may_change_length, reach_of
from dca_hub.sources import ADAPTER, Source

# How the weights come into a package; "reference" leaves them with the base model. Its manifest calls that "none".
WeightsMode = Literal["copy", "link", "reference"]


@dataclass(frozen=True)
class Plan:
    """What a package will be: `sizes_from` says where its sizes come from, `context` how many tokens it is for."""

    source: Source
    family: Family
    geometry: DualChunkGeometry
    sizes_from: str
    context: int
    weights: Weights | None
    mode: WeightsMode

    @property
    def entry(self) -> Entry | None:
        return self.source.entry


def make_plan(source: Source, asked: Asked = NOTHING_ASKED, mode: WeightsMode = "copy") -> Plan:
    """The plan for a source; DcaHubError where it cannot become a package."""
    family = families.find(source.model_type)
    name = source.folder.name
    _refuse_other_heads(name, source.config)
    if (source.folder / ADAPTER).is_file():
        raise DcaHubError(
            f"{name!r} holds an adapter ({ADAPTER}), which a package would drop: merge it into the weights first, with "
            "peft's `merge_and_unload()` and `save_pretrained`."
        )
    try:
        native = family.config_class(**{k: v for k, v in source.config.items() if k not in ("auto_map",)})
        refuse_unfit(native)
        sized = geometry_of(source, asked)
    except (ValueError, TypeError, KeyError, StrictDataclassError) as error:
        raise DcaHubError(f"{name!r} cannot be a DCA model: {one_line(error)}") from None
    weights = find_weights(source.folder) if mode != "reference" else None
    context = reach_of(source, sized.geometry)
    return Plan(source, family, sized.geometry, sized.origin, context, weights, mode)


def package_config(plan: Plan) -> dict[str, Any]:
    """config.json of the package: the base's, with the DCA keys beside its own, and the DCA classes named."""
    config = {k: v for k, v in plan.source.config.items() if k not in ("_name_or_path", "auto_map")}
    config["architectures"] = own_architectures(config.get("architectures") or [_causal(plan.family)])
    config["auto_map"] = plan.family.auto_map
    config["attn_implementation"] = PUBLIC_ATTENTION
    config[CONFIG_KEY] = config_from_geometry(plan.geometry)
    if may_change_length(config):
        config["max_position_embeddings"] = plan.context
    return config


def _causal(family: Family) -> str:
    return family.auto_map["AutoModelForCausalLM"].rpartition(".")[2]


def _refuse_other_heads(name: str, config: Mapping[str, Any]) -> None:
    """A package is a causal language model; a checkpoint of another head lacks the weights of that one."""
    heads = config.get("architectures")
    if heads and not any(str(head).endswith("ForCausalLM") for head in heads):
        raise DcaHubError(
            f"{name!r} is a {heads[0]}, not a causal language model: package its base model, or put Dual Chunk "
            "Attention on the loaded model with dca_hub.extend."
        )

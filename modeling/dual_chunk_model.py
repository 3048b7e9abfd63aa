"""What every DCA model class mixes in: the base model's own tree, with positions and attention of its own."""

import contextlib
from functools import partial
from typing import Any

from .dual_chunk_call import enter_layer, lay_out_call
from .dual_chunk_config import geometry_from_config, sparse_from_config
from .dual_chunk_geometry import DualChunkGeometry
from .dual_chunk_guards import (
    ATTENTION,
    LAYERED_ATTENTION,
    refuse_old_torch,
    refuse_other_attention,
    refuse_unfit,
    refuse_windows_alone,
)
from .dual_chunk_layers import Plan, plan_layers, rotary_name, text_model
from .dual_chunk_rotary import DualChunkRotary
from .dual_chunk_sparse import SparseWatch
from .dual_chunk_weights import WeightsOfBase


class DualChunkMixin(WeightsOfBase):
    """Mixed into a transformers model class, first: makes it the DCA model of its base.

    The model tree stays the base's own but for the rotary module, and no forward is copied: a pre-hook on the base
    model lays out each call, and the registered attention function computes it.
    """

    _supports_flash_attn = False
    _supports_sdpa = False
    _supports_flex_attn = False

    def __init__(self, config, *args, **kwargs):
        geometry = geometry_from_config(config)
        refuse_unfit(config)
        with _as_native(config):
            super().__init__(config, *args, **kwargs)
        install(self, geometry)

    def _check_and_adjust_attn_implementation(self, attn_implementation, *args, **kwargs):
        refuse_other_attention(
            attn_implementation.get("") if isinstance(attn_implementation, dict) else attn_implementation
        )
        layered = self.config._attn_implementation == LAYERED_ATTENTION
        return LAYERED_ATTENTION if layered else ATTENTION

    @property
    def dual_chunk_plan(self) -> Plan:
        """Which layers Dual Chunk Attention changes, and why the others stay as they are."""
        return text_model(self).rotary_emb.plan

    @contextlib.contextmanager
    def watch_sparse_attention(self):
        """A `SparseWatch` that sees what sparse attention keeps in the calls of this model within the `with` block. It
        costs a pass over the keys for one query of each slab."""
        rotary: Any = text_model(self).rotary_emb
        watch = SparseWatch()
        before, rotary.watch = rotary.watch, watch
        try:
            yield watch
        finally:
            rotary.watch = before

    @classmethod
    def _can_set_experts_implementation(cls) -> bool:
        """transformers reads the answer off the source of the class's module; here the base class's says it."""
        native = next(base for base in cls.__mro__ if base.__module__.startswith("transformers.models."))
        return native._can_set_experts_implementation()

    @classmethod
    def is_custom_code(cls) -> bool:
        """No: every parameter is the base's own, so what transformers does to checkpoints of the base when it loads and
        saves them (experts are fused), it must do here too."""
        return False

    @staticmethod
    def create_masks_for_generate(config, inputs_embeds=None, attention_mask=None, *args, **kwargs):
        """generate() would build a four-dimensional mask for static caches; the layout wants the plain one."""
        return attention_mask

    def save_pretrained(self, save_directory, *args, **kwargs):
        """As in transformers, with the modeling files beside the weights.

        Raises:
            ValueError: the model was extended from a family that has no modeling files to publish.
        """
        if not getattr(type(self.config), "auto_classes", None):
            raise ValueError(
                f"{type(self).__name__} has no modeling files that could load it again: save the base model, and "
                "extend it after loading."
            )
        return super().save_pretrained(save_directory, *args, **kwargs)


@contextlib.contextmanager
def _as_native(config):
    """The configuration as one of the base model's class: transformers' classification heads build their base model by
    AutoModel, which would look for this class, not find it, and ask on stdin whether to trust its `auto_map`."""
    own = config.__class__
    config.__class__ = next(base for base in own.__mro__ if base.__module__.startswith("transformers."))
    try:
        yield
    finally:
        config.__class__ = own


def register_auto_classes(*classes: type) -> None:
    """Lets `save_pretrained` write the modeling files of these classes and what loads them."""
    for cls in classes:
        reference = f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"
        for auto, served in cls.config_class.auto_classes.items():
            if served == reference:
                cls.register_for_auto_class(auto)


def install(model, geometry: DualChunkGeometry) -> None:
    """Turns the base model inside a freshly built model into a DCA model, in place.

    Raises:
        ValueError: the model has no rotary positions that one module serves, `plan_layers` refuses it, or PyTorch is
            too old.
    """
    refuse_old_torch()
    base = text_model(model)
    name = rotary_name(base)
    if not name:
        refuse_windows_alone(base.config)
        raise ValueError(
            f"{type(base).__name__} has no rotary positions that one module serves: Dual Chunk Attention needs RoPE."
        )
    plan = plan_layers(base, geometry)
    base.rotary_emb = DualChunkRotary(getattr(base, name), geometry, plan, sparse_from_config(model.config))
    setattr(base, name, base.rotary_emb)
    if not plan.is_uniform:
        if base.rotary_emb.is_dynamic:
            raise ValueError(
                f"Dual Chunk Attention does not serve dynamic NTK scaling in {type(model).__name__}, whose layers are "
                "of several kinds."
            )
        base.config._attn_implementation = LAYERED_ATTENTION
    base.register_forward_pre_hook(lay_out_call, with_kwargs=True)
    for layer in plan.layers:
        base.get_submodule(layer.name).register_forward_pre_hook(partial(enter_layer, layer), with_kwargs=True)

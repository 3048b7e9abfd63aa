"""Sizes of Dual Chunk Attention when nothing but the trained length is known.

L is the length that a model was trained at, C (`chunk_size`) the largest relative distance that a query may see, and
w (`local_size`) the window that stays exact across a chunk border. A chunk holds s = C - w tokens.
"""

from dataclasses import replace

from dca_hub.errors import DcaHubError
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry

SMALLEST_TRAINED_LENGTH = 16

# The divisor d of w = L / d, as the authors' released code has it (arXiv 2402.17463): one patch serves Llama, Mistral
# and Mixtral, another the Qwen1.5 line, which is `qwen2` to transformers.
_LOCAL_DIVISOR = {"llama": 8, "mistral": 8, "mixtral": 8, "qwen2": 16}
_OTHER_FAMILIES = 8


def default_sizes(trained: int, family: str) -> tuple[int, int]:
    """C and w, in tokens, for a model of `family` (a transformers model_type) that was trained at `trained` tokens.

    C = 3L/4; w = L/16 for `qwen2` and L/8 for every other family, those that the authors had no code for included.
    Both are rounded down. The numbers are the authors' own for any L, so nothing is moved to make s a multiple of 128
    (what GPU tiles and cache pages like): it is one whenever L is a multiple of 1,024, or of 2,048 for `qwen2`.

    Give the true window. The authors' README has 32384 for Mistral, Mixtral and Qwen1.5, a slip for their 32768: from
    it C would be 24288 and s 20240, which no tile divides; the catalogue says 32768.

    Raises DcaHubError when `trained` is not a whole number of at least 16 tokens.
    """
    if isinstance(trained, bool) or not isinstance(trained, int) or trained < SMALLEST_TRAINED_LENGTH:
        raise DcaHubError(
            f"The trained length must be a whole number of at least {SMALLEST_TRAINED_LENGTH} tokens, not {trained!r}."
        )
    return trained * 3 // 4, trained // _LOCAL_DIVISOR.get(family, _OTHER_FAMILIES)


def choose_geometry(
    known: DualChunkGeometry | None,
    longest: int | None,
    family: str,
    pretraining_length: int | None = None,
    chunk_size: int | None = None,
    local_size: int | None = None,
    temperature: float | None = None,
) -> DualChunkGeometry:
    """The geometry from what was asked for, then what is known of the model, then the rule of its family.

    Args:
        known: the sizes that the model's config or the catalogue states.
        longest: its `max_position_embeddings`, taken for the trained length where nothing else says.

    Raises:
        DcaHubError: no trained length is known, or it is none.
        ValueError: the sizes describe no geometry.
    """
    if temperature is None:
        temperature = known.temperature if known else 0.0
    if known and pretraining_length in (None, known.pretraining_length) and chunk_size is None and local_size is None:
        return replace(known, temperature=temperature)
    if pretraining_length is None:
        pretraining_length = known.pretraining_length if known else longest
    if pretraining_length is None:
        raise DcaHubError("The config.json gives no max_position_embeddings: say the pretraining length.")
    by_rule = default_sizes(pretraining_length, family)
    chunk_size = by_rule[0] if chunk_size is None else chunk_size
    local_size = min(by_rule[1], chunk_size - 1) if local_size is None else local_size
    return DualChunkGeometry(chunk_size, local_size, pretraining_length, temperature)


def sizes_source(family: str) -> str:
    """Where `default_sizes` has its numbers from, in words for a model card."""
    if family not in _LOCAL_DIVISOR:
        return f"authors' patch for Llama, taken over for {family}: C = 3/4 L, w = L/{_OTHER_FAMILIES}"
    return f"authors' patch: C = 3/4 L, w = L/{_LOCAL_DIVISOR[family]}"

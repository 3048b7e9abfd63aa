"""Tiny checkpoints on disk, with a tokenizer, as a user would have them in a folder."""

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from support.tiny_models import tiny_model

SPECIAL = ("<pad>", "<bos>", "<eos>")


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token a byte, and three control tokens: any text round-trips."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    pad, bos, eos = SPECIAL
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token=pad, bos_token=bos, eos_token=eos)


def write_checkpoint(
    folder: Path, family: str = "llama", *, tokenizer: bool = True, shards: bool = False, **changes
) -> Path:
    """A plain checkpoint of `tiny_model(family)`; in `shards`, with an index."""
    changes = {"vocab_size": len(SPECIAL) + 256, "eos_token_id": 2, **changes}
    model = tiny_model(family, **changes)
    model.save_pretrained(folder, **({"max_shard_size": "40KB"} if shards else {}))
    if tokenizer:
        byte_tokenizer().save_pretrained(folder)
    return folder

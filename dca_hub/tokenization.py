"""Tokenizers: loaded without running a checkpoint's code, and what tells two of them apart."""

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from dca_hub.errors import DcaHubError, one_line

# Strings over which tokenizers differ: blanks, line ends, digits, marks, scripts, control tokens written as text.
HARD_STRINGS = (
    "The pass key is 28437. Remember it.",
    "  two blanks before,  two within, one after ",
    "naïve café, Ångström; e\u0301 o\u0308 \ufb01 ½ ２",
    "def f(x):\n\treturn x  # 1,234.5e-6\r\n\r\n\n\n    pass",
    "東京 上海市 서울 กรุงเทพ हिन्दी",
    "مرحبا بالعالم שלום",
    "👩‍👩‍👧 🏳️‍🌈 \u200b\ufeff\u00a0",
    "don't DON'T it's 'quoted' “quoted” --- ... !!!",
    "<s></s><eos><|im_start|>user\n<|endoftext|>[INST]<think>",
)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """A checkpoint's tokenizer. No code of the checkpoint is run.

    Raises:
        DcaHubError: there is none, or it needs code of its own.
    """
    try:
        return AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        if "trust_remote_code" in str(error):
            raise DcaHubError(
                f"The tokenizer of {folder.name!r} needs Python code of its own, which is never run here: convert it "
                "to a tokenizer.json, and remove auto_map from its tokenizer_config.json."
            ) from None
        raise DcaHubError(
            f"{folder.name!r} has no tokenizer that can be loaded ({one_line(error)}): add the base model's "
            "tokenizer files."
        ) from None


def hard_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, list[int]]:
    """The ids of HARD_STRINGS, which a package's manifest keeps for its verification."""
    return {text: list(tokenizer(text, verbose=False)["input_ids"]) for text in HARD_STRINGS}

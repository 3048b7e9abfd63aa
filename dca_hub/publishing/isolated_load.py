"""Loads a model as somebody else would, and writes its logits down; a script of its own, run in a fresh process.

`isolated_load.py NAME REVISION TOKENS OUT`: NAME is a Hub id, with its revision, or a folder, with "-". TOKENS 0 builds
the model without its weights. Imports torch and transformers and nothing of this project; prints one line of JSON.
"""

import json
import sys

sys.path.pop(0)  # this script's own folder

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, logging

TEXT = "The pass key is 28437. Remember it: naïve, 東京, \n\t and the end."


@torch.inference_mode()
def main(name: str, revision: str, tokens: int, out: str) -> dict:
    options = {"trust_remote_code": True, **({} if revision == "-" else {"revision": revision})}
    config = AutoConfig.from_pretrained(name, **options)
    if tokens == 0:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=True)
    else:
        model = AutoModelForCausalLM.from_pretrained(name, dtype="auto", **options).eval()
        sizes = config.dual_chunk_attention_config
        length = min(tokens, 2 * (sizes["chunk_size"] - sizes["local_size"]) + 40)
        ids = torch.randint(0, config.vocab_size, (1, length), generator=torch.Generator().manual_seed(0))
        logits = model(ids, use_cache=False, logits_to_keep=64).logits
        save_file({"logits": logits.float().contiguous()}, out)
    return {"model": type(model).__name__, "tokenizer": encoded(name, options)}


def encoded(name: str, options: dict) -> list[int] | None:
    """The tokens of a text, None where there is no tokenizer."""
    try:
        return AutoTokenizer.from_pretrained(name, **options)(TEXT)["input_ids"]
    except (OSError, ValueError, KeyError):
        return None


if __name__ == "__main__":
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        said = main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
    except Exception as error:
        said = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
    print(json.dumps(said))

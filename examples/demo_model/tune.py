"""Measure the chunk sizes and temperature for the demo model: python -m examples.demo_model.tune --text UNSEEN.txt.gz

Writes one JSON object a line: sizes, temperature, length, and what was measured there (perplexity, keys found,
quotes right). The last lines name the settings that keep what the model promises.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from dca_hub import extend
from dca_hub.demo import MODEL_DIR
from dca_hub.errors import DcaHubError
from dca_hub.evaluation import needle, perplexity
from dca_hub.evaluation.grid import spread
from dca_hub.evaluation.texts import read_books
from dca_hub.generation import PIECE
from examples.demo_model import quoting
from examples.demo_model.asking import FORMS, Asker, batch_tokens, share
from examples.demo_model.wordings import MEASURED


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m examples.demo_model.tune", description=__doc__)
    add = made.add_argument
    add("--text", required=True, help="text that the model was not trained on: a file or a folder")
    add("--model", default=str(MODEL_DIR), help="checkpoint folder (default: the one of the repository)")
    add("--lengths", default="512,1024,4096,16384", type=_numbers, help="default: %(default)s")
    add("--sizes", default="511:255,511:127", help="C:w, with commas between them (default: %(default)s)")
    add("--temperatures", default="0,0.1,0.2,0.3", type=_fractions, help="default: %(default)s")
    add("--plain", action="store_true", help="measure the model without DCA as well")
    add("--tries", type=int, default=1, help="pass keys at each of the 11 depths (default: %(default)s); 0: none")
    add("--trials", type=int, default=0, help="prompts for each of ten wordings, in two forms, over two kinds of text")
    add("--seed", type=int, default=0, help="of those prompts")
    add("--windows", type=int, default=12, help="windows of 256 tokens scored for perplexity; 0: none")
    add("--documents", type=int, default=0, help="documents a length for quotes, 8 questions each (default: 0)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--dtype", default="float32", choices=("float32", "bfloat16"))
    add("--out", help="file to add the lines to (default: standard output only)")
    return made


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        for line in lines(options):
            text = json.dumps(line)
            print(text, flush=True)
            if options.out:
                with open(options.out, "a", encoding="utf-8") as stream:
                    stream.write(text + "\n")
    except DcaHubError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def lines(options: argparse.Namespace) -> Iterator[dict]:
    """One measurement after another, each variant from the shortest to the longest length."""
    text = "\n\n".join(read_books(options.text))
    tokenizer = AutoTokenizer.from_pretrained(options.model, trust_remote_code=False)
    base = AutoModelForCausalLM.from_pretrained(
        options.model, trust_remote_code=False, dtype=getattr(torch, options.dtype)
    )
    base = base.to(options.device).eval()
    asker = Asker(base, tokenizer, text, batch_tokens(options.device))
    for variant, model in _variants(options, base):
        for length in options.lengths:
            began = time.monotonic()
            found = _measure(options, model, asker, text, length)
            yield {**variant, "length": length, **found, "seconds": round(time.monotonic() - began, 1)}


def _variants(options: argparse.Namespace, base: PreTrainedModel) -> Iterator[tuple[dict, PreTrainedModel]]:
    window = base.config.max_position_embeddings
    if options.plain:
        yield {"dca": False}, base
    for size in options.sizes.split(",") if options.sizes else []:
        c, w = _numbers(size.replace(":", ","))
        for f in options.temperatures:
            model = extend(base, pretraining_length=window, chunk_size=c, local_size=w, temperature=f)
            yield {"dca": True, "chunk_size": c, "local_size": w, "temperature": f}, model


def _measure(options, model: PreTrainedModel, asker: Asker, text: str, length: int) -> dict:
    found: dict = {}
    if options.windows:
        bos = asker.tokenizer.bos_token_id
        # The same tokens at every length, or the lengths could not be compared.
        ids, longest = asker.haystack.ids, max(options.lengths)
        one = perplexity.measure(model, ids, [length], bos=bos, windows=options.windows, first=longest)[0]
        found |= {"perplexity": round(one.value, 3), "perplexity_error": round(one.error * one.value, 3)}
    if options.tries:
        cells = [(length, depth, t) for depth in spread(11) for t in range(options.tries)]
        asked = [needle.ask(model, asker.haystack, 0, cell, piece=PIECE) for cell in cells]
        found |= {"keys": len(asked), "keys_found": round(sum(one.found for one in asked) / len(asked), 4)}
    if options.trials:
        cells = asker.cells([length])
        trials = list(asker.over(model).run(cells, options.trials, options.seed))
        found |= {"trials": len(trials)}
        for form in FORMS:
            for numbers in (False, True):
                name = f"{form}s_found" + ("_among_numbers" if numbers else "")
                found[name] = round(share(t for t in trials if (t.form, t.numbers) == (form, numbers)), 4)
        found["worst_wording"] = round(min(share(t for t in trials if t.wording == k) for k in range(len(MEASURED))), 4)
    if options.documents:
        found |= _quotes(quoting.run(model, asker.tokenizer, text, [length], documents=options.documents))
    return found


def _quotes(asked: Iterator[quoting.Quote]) -> dict:
    kinds = defaultdict(list)
    for quote in asked:
        kinds[quote.kind].append(quote.right)
    return {f"quotes_{kind}": round(sum(right) / len(right), 4) for kind, right in kinds.items()}


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _fractions(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())

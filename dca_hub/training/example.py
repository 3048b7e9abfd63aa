"""Long dialogues to try fine-tuning with: several pass keys in a novel, and questions for each of them.

`python -m dca_hub.training.example --text FILE --out dialogues.jsonl` writes them as message lists.
"""

import argparse
import json
import random
import sys
from pathlib import Path

from transformers import AutoTokenizer

from dca_hub.demo import MODEL_DIR
from dca_hub.errors import DcaHubError
from dca_hub.evaluation.passkey import NAMED, NAMES
from dca_hub.evaluation.texts import read_books


def dialogue(sentences: list[str], count_tokens, size: int, keys: int, rng: random.Random) -> list[dict[str, str]]:
    """A dialogue of about `size` tokens: a passage with `keys` pass keys in it, each somebody's, all asked for.

    count_tokens: gives the tokens of a text.
    """
    names, numbers = rng.sample(NAMES, keys), rng.sample(range(10_000, 100_000), keys)
    start, text = rng.randrange(max(1, len(sentences) // 2)), []
    room = size - 60 * keys  # for keys, questions and answers
    for sentence in sentences[start:]:
        room -= count_tokens(sentence)
        if room < 0:
            break
        text.append(sentence)
    for name, number in zip(names, numbers):
        text.insert(rng.randrange(len(text) + 1), NAMED.sentence.format(name=name, key=number))
    asked = list(zip(names, numbers))
    rng.shuffle(asked)
    said = []
    for name, number in asked:
        said.append({"role": "user", "content": f"What is the pass key of {name}?"})
        said.append({"role": "assistant", "content": f"The pass key of {name} is {number}."})
    return [{"role": "system", "content": " ".join(text)}, *said]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m dca_hub.training.example", description=__doc__)
    parser.add_argument("--text", required=True, help="a .txt or .txt.gz file of novels, or a folder of them")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--count", type=int, default=200, help="dialogues (default: 200)")
    parser.add_argument("--tokens", type=int, default=1900, help="of a dialogue, about (default: 1900)")
    parser.add_argument("--keys", type=int, default=4, help="pass keys in each (default: 4)")
    parser.add_argument("--tokenizer", default=str(MODEL_DIR), help="of the model (default: the demo model's)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        books = read_books(options.text)
    except DcaHubError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer, trust_remote_code=False)
    rng = random.Random(options.seed)
    count = lambda text: len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    with options.out.open("w", encoding="utf-8") as file:
        for _ in range(options.count):
            sentences = [one + "." for one in " ".join(rng.choice(books).split()).split(". ")]
            messages = dialogue(sentences, count, options.tokens, options.keys, rng)
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

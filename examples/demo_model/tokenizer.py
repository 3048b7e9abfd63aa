"""The demo model's tokenizer: byte-level BPE with single digits, and the chat template that is the training format."""

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS = "<|pad|>", "<|bos|>", "<|eos|>"

# Line breaks, digits and double quotes are always pieces of their own. So the tokens of a word never depend on
# whether it is quoted or where its line breaks, which is what lets a model find it again.
PIECES = r"""\n| ?\p{L}+(?:['’]\p{L}+)*|\p{N}| ?"| ?[^\s\p{L}\p{N}"]+|[^\S\n]"""

QUESTION = "\n\nQuestion: "
ANSWER = "\nAnswer:"

# A system message is the document. A user message that already carries its document and "Question:" is taken as it is.
CHAT_TEMPLATE = (
    "{{- bos_token -}}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}{{- message['content'] -}}"
    "{%- elif message['role'] == 'user' -%}"
    "{%- if '\\nQuestion: ' not in message['content'] -%}{{- '\\n\\nQuestion: ' -}}{%- endif -%}"
    "{{- message['content'] + '\\nAnswer:' -}}"
    "{%- elif message['role'] == 'assistant' -%}"
    "{% generation %}{{- ' ' + message['content'] + eos_token -}}{% endgeneration %}"
    "{%- endif -%}"
    "{%- endfor -%}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Learn the merges from `texts`."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    core.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, core.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: str | Path) -> None:
    """Save under the class name that every release of transformers, and engines pinned to old ones, can load."""
    tokenizer.save_pretrained(folder)
    file = Path(folder) / "tokenizer_config.json"
    config = json.loads(file.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    for name in ("backend", "is_local", "local_files_only", "model_max_length"):
        config.pop(name, None)  # of this run, not of the tokenizer
    file.write_text(json.dumps(config, indent=2) + "\n")


class PieceEncoder:
    """Encodes short strings exactly as the tokenizer does, remembering everything but the digits.

    Digits are pieces of their own, so a string with a random number is the cached rest and one id a digit.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast):
        self._backend = tokenizer.backend_tokenizer
        self._encode = lru_cache(maxsize=200_000)(
            lambda text: tuple(self._backend.encode(text, add_special_tokens=False).ids) if text else ()
        )
        self.digits = {str(d): tokenizer.convert_tokens_to_ids(str(d)) for d in range(10)}
        self.size = self._backend.get_vocab_size()
        self.bos, self.eos, self.pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id

    def __call__(self, text: str) -> list[int]:
        ids: list[int] = []
        start = 0
        for at, char in enumerate(text):
            if char in self.digits:
                ids += self._encode(text[start:at])
                ids.append(self.digits[char])
                start = at + 1
        return [*ids, *self._encode(text[start:])]

    def many(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._backend.encode_batch(texts, add_special_tokens=False)]

    def pieces(self) -> list[str]:
        """The text of every token that is whole characters, in order of their ids."""
        texts = (self._backend.decode([k]) for k in range(self.size))
        return [text for text in texts if "\ufffd" not in text]

"""Where a model looks: the shares are those of the weights that it computes itself, and noting them changes nothing."""

from dataclasses import replace

import pytest
import torch

from dca_hub import page_attention
from dca_hub.conversation import Answered, Conversation
from dca_hub.documents import Document, Page
from dca_hub.generation import PromptCache, Sampling
from dca_hub.loading import load
from dca_hub.packaging import package
from dca_hub.page_attention import AttentionWatch
from dca_hub.prompts import Prompter, Turn
from support.tiny_checkpoints import byte_tokenizer, write_checkpoint
from support.tiny_models import GEOMETRY, tiny_dca, tokens

SPANS = [(2, 9), (9, 30), (31, 52), (60, 70)]  # across chunks of 16, with tokens of none between


def expected(model, ids: list[int], first: int) -> list[float]:
    """By the weights of one forward over everything; `first` is the position of the first query."""
    with torch.no_grad():
        weights = model(torch.tensor([ids]), output_attentions=True).attentions
    changed = [weights[layer.index][0] for layer in model.dual_chunk_plan.changed]
    mean = torch.stack([one[:, first:] for one in changed]).mean(dim=(0, 1, 2))
    return [float(mean[start:stop].sum()) for start, stop in SPANS]


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt_oss", "gemma3_text"])
@pytest.mark.parametrize("length", [20, 75])
def test_the_shares_are_those_of_the_models_own_weights(family, length, monkeypatch):
    monkeypatch.setattr(page_attention, "_PIECE", 7)
    model = tiny_dca(family, replace(GEOMETRY, temperature=0.2))
    prompt, cache = tokens(length)[0].tolist(), PromptCache(model)
    plain = PromptCache(model).generate(prompt, Sampling(20))
    for _ in cache.read(prompt, 8):
        pass
    with AttentionWatch(model) as watch:
        written = cache.generate(prompt, Sampling(20))
    assert written == plain  # noting changes nothing
    assert not any(module._forward_pre_hooks_with_kwargs is None for module in model.modules())
    whole = [*prompt, *written[:-1]]
    assert watch.shares(SPANS) == pytest.approx(expected(model, whole, length - 1), abs=2e-5)
    # Without the first five tokens, which may be thoughts.
    assert watch.shares(SPANS, 5) == pytest.approx(expected(model, whole, length + 4), abs=2e-5)


def test_a_long_answer_is_noted_at_tokens_spread_over_it_and_nothing_stays_on_the_model():
    model = tiny_dca("llama")
    hooks = [len(module._forward_pre_hooks) for module in model.modules()]
    with AttentionWatch(model, layers=1, queries=8) as watch:
        PromptCache(model).generate(tokens(20)[0].tolist(), Sampling(50))
    assert [len(module._forward_pre_hooks) for module in model.modules()] == hooks
    (layer,) = watch._layers.values()
    assert [query.number for query in layer.queries] == [0, 8, 16, 24, 32, 40, 48]
    assert [query.position for query in layer.queries] == [19 + 8 * number for number in range(7)]
    assert sum(watch.shares([(0, 20)])) > 0 and AttentionWatch(model).shares([(0, 20)]) is None


def test_a_documents_pages_are_found_among_the_tokens_of_a_prompt():
    """Whatever the document holds: control tokens are taken apart, and an empty page has no tokens."""
    texts = ("The first <eos> page. é", "", "The third\npage, which says [page 1].", "The last.")
    document = Document("a.pdf", tuple(Page(number, text) for number, text in enumerate(texts, 1)), 4)
    tokenizer = byte_tokenizer()
    for template in (None, "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"):
        tokenizer.chat_template = template
        prompter, turns = Prompter(tokenizer), [Turn("What is it?")]
        documents = [document, Document("b.pdf", document.pages, 4)]
        text = f"[document a.pdf]\n{document.text}\n\n[document b.pdf]\n{document.text}"
        spans, ids = prompter.page_spans(documents, turns), prompter.tokens(text, turns)
        assert list(spans) == [(source, number) for source in (0, 1) for number in (1, 3, 4)]
        for (_, number), (start, stop) in spans.items():
            assert tokenizer.decode(ids[start:stop]) == f"[page {number}]\n{texts[number - 1]}"


def test_an_answer_says_where_the_model_looked(tmp_path):
    source = write_checkpoint(tmp_path / "tiny", max_position_embeddings=128)
    loaded = load(str(package(str(source), tmp_path / "dca", pretraining_length=128).folder), dtype="float32")
    pages = tuple(Page(number, f"Page {number} speaks of rain and of herons. " * 3) for number in (1, 2, 3))
    document = Document("notes.pdf", pages, 3)

    def ask(**options) -> Answered:
        return list(Conversation(loaded, [document], **options).ask("What?", Sampling(8)))[-1]

    looked = ask(watched=True).looks
    assert [(look.source, look.page) for look in looked] == [(0, 1), (0, 2), (0, 3)]
    assert all(look.share > 0 for look in looked) and sum(look.share for look in looked) < 1
    assert ask().looks == () and ask(watched=True, dca=False).looks == ()

"""ZeroGPU: the GPU is asked for by the tokens, and no call needs what another left."""

import pickle

from dca_hub.space import answers, uploads, zero


def test_the_gpu_is_asked_for_by_the_tokens_and_is_the_identity_elsewhere():
    assert zero.seconds(0, 0) < zero.seconds(100_000, 256) <= 300 == zero.seconds(10**9, 0)

    def function():
        return 1

    assert zero.gpu(lambda: 1)(function) is function


def test_on_zero_gpu_a_question_needs_nothing_from_the_one_before(space, pdfs, monkeypatch):
    """As if every call ran in another process: what goes in and comes out is pickled, no cache is kept."""
    context, asked = space.context, []

    def elsewhere(ask):
        asked.append(zero.seconds(ask.tokens, ask.sampling.max_new_tokens))
        return (pickle.loads(pickle.dumps(event)) for event in context.answers._fresh(pickle.loads(pickle.dumps(ask))))

    monkeypatch.setattr(answers.zero, "is_zero_gpu", lambda: True)
    monkeypatch.setattr(context.answers, "_on_gpu", elsewhere)
    session = context.sessions.make()
    upload = uploads.take(session, str(pdfs["short"]), context.sessions, context.settings)
    list(uploads.read(session, [upload], context.host, context.sessions, context.settings))
    for _ in range(2):
        turn = answers.begin_turn(session, "What is the pass key?", "dca")
        list(context.answers.ask(session, turn, answers.Sampling(32)))
        assert "48213" in turn.answers["dca"].text
    assert len(asked) == 2 and not session.conversations
    context.sessions.free(session)

"""What vLLM's engine wrote in bfloat16, compared with the models of transformers: it may be no more than twice as far
from float32 as the same model of transformers in bfloat16."""

import copy
from dataclasses import replace

import torch


class References:
    """The same model with weights of bfloat16 in float32 and in bfloat16, both of transformers."""

    def __init__(self, served):
        exact = copy.deepcopy(served.model)
        for parameter in exact.parameters():
            parameter.data = parameter.data.bfloat16().float()
        self.exact = replace(served, model=exact)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.low = type(exact).from_pretrained(served.folder, dtype=torch.bfloat16).to(self.device)

    @torch.no_grad()
    def logprobs(self, ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Of every next token at every place, [tokens, vocabulary], in float32 and in bfloat16."""
        tokens = torch.tensor([ids])
        exact = self.exact.model(tokens, use_cache=False).logits[0]
        low = self.low(tokens.to(self.device), use_cache=False).logits[0].float().cpu()
        return exact.log_softmax(-1), low.log_softmax(-1)

    def off(self, request: dict, result: dict) -> list[torch.Tensor]:
        """How far from float32 vLLM's log-probabilities are, and those of transformers in bfloat16; and how much less
        probable than the best token that one is which vLLM wrote."""
        ids, written = request["ids"], result["tokens"]
        exact, low = (x[:-1] for x in self.logprobs(ids + written))
        found = torch.tensor((result["prompt_logprobs"] or []) + result["logprobs"])
        exact, low = exact[-len(found) :], low[-len(found) :]
        tokens = torch.tensor((ids + written)[-len(found) :]).unsqueeze(1)
        expected = exact.gather(1, tokens)[:, 0]
        behind = (exact.max(-1).values - expected)[-len(written) :]
        return [(found - expected).abs(), (low.gather(1, tokens)[:, 0] - expected).abs(), behind]


def check(served, rounds: list[list[dict]], result: dict) -> None:
    references = References(served)
    for requests, results in zip(rounds, result["rounds"]):
        parts = zip(*(references.off(request, found) for request, found in zip(requests, results)))
        off, low, behind = (torch.cat(part) for part in parts)
        assert off.mean() <= 2 * low.mean() and off.max() <= 2 * low.max()
        assert behind.max() <= 4 * low.max()  # rounding could make each token that was written the best

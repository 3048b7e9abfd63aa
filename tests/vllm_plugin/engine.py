"""Runs vLLM's engine on token ids, in a process of its own: `engine.py JOB.json RESULT.json`.

A job has `model`, `options` of `LLM`, and `rounds`, each a list of requests that the engine gets at once. The result
has, for each request, the log-probability of each prompt token but the first (if asked for), and the tokens written
with theirs; the engine's counters; and how many CUDA graphs it captured.
"""

import json
import os
import sys
from importlib import import_module
from pathlib import Path

COUNTERS = ("num_preemptions", "prefix_cache_hits", "spec_decode_num_accepted_tokens", "spec_decode_num_draft_tokens")


def main(job_file: str, result_file: str) -> None:
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    _prepare(job)
    from vllm import LLM, SamplingParams
    from vllm.compilation.counter import compilation_counter

    llm = LLM(
        model=job["model"],
        **{"dtype": "float32", "skip_tokenizer_init": True, "enforce_eager": True, "disable_log_stats": False}
        | job["options"],
    )
    rounds = []
    for requests in job["rounds"]:
        prompts = [{"prompt_token_ids": request["ids"]} for request in requests]
        sampling = [
            SamplingParams(
                max_tokens=request.get("max_tokens", 1),
                temperature=0,
                ignore_eos=True,
                detokenize=False,
                logprobs=0,
                prompt_logprobs=0 if request.get("prompt_logprobs") else None,
            )
            for request in requests
        ]
        rounds.append([_values(output) for output in llm.generate(prompts, sampling, use_tqdm=False)])
    counters = {metric.name.removeprefix("vllm:"): getattr(metric, "value", None) for metric in llm.get_metrics()}
    result = {"rounds": rounds, "counters": {name: counters.get(name) for name in COUNTERS}}
    result["graphs"] = compilation_counter.num_cudagraph_captured
    Path(result_file).write_text(json.dumps(result), encoding="utf-8")


def _prepare(job: dict) -> None:
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    if job["options"].get("tensor_parallel_size", 1) == 1:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    for name in job.get("broken", ()):
        sys.modules[name] = None  # any import of it fails
    for name in job.get("first", ()):
        import_module(name)


def _values(output) -> dict:
    prompt = output.prompt_logprobs
    written = output.outputs[0]
    return {
        "prompt_logprobs": prompt and [at[t].logprob for at, t in zip(prompt[1:], output.prompt_token_ids[1:])],
        "tokens": list(written.token_ids),
        "logprobs": [at[t].logprob for at, t in zip(written.logprobs, written.token_ids)],
    }


if __name__ == "__main__":
    main(*sys.argv[1:])

"""`serve`: an OpenAI-compatible server for a model, on vLLM where it is installed."""

import argparse
import os
import shlex
import sys
import tempfile
from pathlib import Path

from dca_hub.cli.options import SPARSE, add_cache, loading_bar, port_number, positive, quiet, sparse

HELP = "serve a model to others, over the OpenAI protocol"
DESCRIPTION = """\
Serves a model with Dual Chunk Attention over the OpenAI protocol: with vLLM and this package's plug-in, where both are
installed, else with the server that comes with transformers, one request after another. It says which, and why.

MODEL is a package, a plain checkpoint (a folder or a Hub id), or a name from `dca-hub models`. A plain checkpoint gets
DCA at the sizes of the catalogue or the authors' rule. docs/serving.md says what fits where.

While vLLM starts, a line every 10 seconds says what it is doing. Without a GPU the first start compiles the model for
about 90 seconds, during which vLLM may say that some processes are hanging: they are not.
"""
EPILOG = """\
examples:
  dca-hub serve demo-dca
  dca-hub serve Qwen/Qwen2.5-7B-Instruct-1M --max-context 512k --tensor-parallel 4
  dca-hub serve demo-dca --dry-run                           print the command, run nothing
  dca-hub serve demo-dca --vllm="--enforce-eager --api-key secret"      more options of `vllm serve`
  dca-hub ask demo --pdf book.pdf --endpoint http://127.0.0.1:8000/v1 "What is the pass key?"
"""


def add(subparsers) -> None:
    parser = subparsers.add_parser(
        "serve", help=HELP, description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--engine", choices=("vllm", "transformers"), help="default: vllm where it can serve")
    parser.add_argument(
        "--max-context", type=positive, metavar="N", help="longest request, in tokens (default: its reach)"
    )
    parser.add_argument("--context", dest="max_context", type=positive, help=argparse.SUPPRESS)  # until 0.1
    parser.add_argument("--dtype", help="float32, bfloat16 or float16 (default: the checkpoint's own)")
    parser.add_argument("--tensor-parallel", type=positive, default=1, metavar="N", help="share each layer over N GPUs")
    parser.add_argument("--pipeline-parallel", type=positive, default=1, metavar="N", help="share the layers over N")
    parser.add_argument("--memory", type=float, metavar="GIB", help="of KV cache, with vLLM (default: what is free)")
    parser.add_argument(
        "--sparse", nargs="?", const=True, type=sparse, metavar="SHARE", help=f"with transformers: {SPARSE}"
    )
    add_cache(parser, "with transformers: ")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 is every network of this machine")
    parser.add_argument("--port", type=port_number, default=8000)
    parser.add_argument("--name", help="what clients call the model (default: its catalogue or folder name)")
    parser.add_argument("--dry-run", action="store_true", help="print what would be run, and run nothing")
    parser.add_argument("--vllm", default="", metavar="OPTIONS", help="further options of `vllm serve`, in one string")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from dca_hub.serving import engines
    from dca_hub.serving.launch import Wanted, refuse_port

    chosen = engines.choose(args.engine)
    print(f"serving with {chosen.engine}: {chosen.why}", file=sys.stderr)
    wanted = Wanted(
        args.max_context,
        args.dtype,
        args.tensor_parallel,
        args.pipeline_parallel,
        args.memory,
        args.host,
        args.port,
        args.name,
        tuple(shlex.split(args.vllm)),
        args.sparse,
        args.cache_bits,
        args.offload_cache,
    )
    if wanted.listens and not args.dry_run:
        refuse_port(wanted)
    serve = _vllm if chosen.engine == "vllm" else _transformers
    return serve(args.model, wanted, args.dry_run)


def _vllm(name: str, wanted, dry_run: bool) -> int:
    import torch

    from dca_hub import sources
    from dca_hub.devices import free_bytes
    from dca_hub.serving.launch import vllm_launch
    from dca_hub.serving.startup import watch_from_aside
    from dca_hub.sizes import geometry_of
    from dca_hub.vllm_plugin.stage import STAGE_VARIABLE

    source = sources.resolve(name, weights=False)
    free = None if torch.cuda.is_available() else free_bytes("cpu")
    model = source.base or str(source.folder)  # of what is on the Hub, vLLM fetches the weights itself
    launch = vllm_launch(model, source, geometry_of(source).geometry, wanted, free)
    for note in launch.notes:
        print(note, file=sys.stderr)
    shown = [f"{name}={value}" for name, value in launch.environment.items()]
    print(" ".join([*shown, shlex.join(launch.command)]), file=sys.stderr, flush=True)
    if dry_run:
        return 0
    beside = Path(sys.executable).with_name(launch.command[0])
    program = str(beside) if beside.is_file() else launch.command[0]
    environment = os.environ | launch.environment
    if wanted.listens:
        handle, stage_file = tempfile.mkstemp(prefix="dca-hub-start-")
        os.close(handle)
        watch_from_aside(wanted.host, wanted.port, Path(stage_file))
        environment[STAGE_VARIABLE] = stage_file
    os.execvpe(program, [program, *launch.command[1:]], environment)


def _transformers(name: str, wanted, dry_run: bool) -> int:
    from dca_hub.serving.launch import public_note, transformers_command

    command = transformers_command(name, wanted)
    note = public_note(wanted)
    print(*([note] if note else []), shlex.join(command), sep="\n", file=sys.stderr, flush=True)
    if dry_run:
        return 0
    from dca_hub.loading import load
    from dca_hub.serving.startup import url
    from dca_hub.serving.transformers_server import Offer
    from dca_hub.serving.transformers_server import run as run_server

    quiet()
    with loading_bar() as progress:
        loaded = load(
            name, dtype=wanted.dtype, context=wanted.context, sparse=wanted.sparse, cache_bits=wanted.cache_bits,
            offload_cache=wanted.offload_cache, progress=progress,
        )  # fmt: skip
    offer = Offer(loaded, command[command.index("--name") + 1], wanted.context or min(loaded.context, loaded.room()))
    how = ", reading long texts sparsely" if loaded.sparse else ""
    words = f"{offer.name} on {loaded.device}{how}, up to {offer.context:,} tokens, at {url(wanted.host, wanted.port)}"
    print(words, file=sys.stderr, flush=True)
    run_server(offer, wanted.host, wanted.port)
    return 0

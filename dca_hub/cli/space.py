"""`space`: a Space folder."""

import argparse
import json
from importlib.util import find_spec
from pathlib import Path

HELP = "write a Space folder that starts by itself"
DESCRIPTION = """\
Writes a complete folder for a Hugging Face Space: README with its settings, app.py, requirements, and the package with
the demo model. It runs on any machine too, with `python app.py` in it. `dca-hub publish-space` publishes it.
"""


def add(subparsers) -> None:
    parser = subparsers.add_parser(
        "space", help=HELP, description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder to make")
    parser.add_argument("--model", default="demo", metavar="NAME", help="model to begin with (default: demo)")
    parser.add_argument("--models", default="", metavar="A,B,C", help="what visitors may load besides it")
    parser.add_argument("--title", default="DCA Hub", help="the Space's title (default: DCA Hub)")
    parser.add_argument("--suggest-hardware", metavar="NAME", help="such as cpu-basic, t4-small, zero-a10g")
    parser.add_argument("--force", action="store_true", help="replace an earlier Space in DIR")
    parser.add_argument("--json", action="store_true", help="print the files as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from dca_hub.errors import DcaHubError

    if find_spec("gradio") is None:
        raise DcaHubError("A Space needs Gradio, which is not installed: pip install -r requirements.txt, or '.[app]'.")
    from dca_hub.space.folder import write

    files = write(
        Path(args.out),
        model=args.model,
        models=args.models,
        title=args.title,
        hardware=args.suggest_hardware,
        force=args.force,
    )
    if args.json:
        print(json.dumps({"folder": args.out, "files": files}, indent=2, ensure_ascii=False))
    else:
        print(f"{args.out}: {len(files)} files. Try it: cd {args.out} && python app.py")
    return 0

"""Seconds from a PDF to a citation on its page: the example document read, an answer cited, and the page drawn.

`python benchmarks/document_path.py [--against CHECKOUT] [--rounds 15]`. With --against, another checkout of this
project (`git worktree add /tmp/before COMMIT`) takes turns with this one, so that both see the same machine. The least
of all rounds counts: what is above it is the machine's.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parents[1]
_ROUND = """
import json, sys, tempfile, time
from pathlib import Path
from dca_hub.documents import cite, read_pdf, render_page
from dca_hub.documents.example import write_example
times = [time.perf_counter()]
def lap(): times.append(time.perf_counter())
with tempfile.TemporaryDirectory() as folder:
    path = write_example(Path(folder) / "example.pdf")
    times[0] = time.perf_counter()
    document = read_pdf(path); lap()
    citation = cite(" The pass key is 71432.", document, "What is the pass key?")[0]; lap()
    image = render_page(path, citation.page, highlight=citation.quote); lap()
assert citation.page == 15 and image.marked
print(json.dumps([b - a for a, b in zip(times, times[1:])]))
"""


def one_round(checkout: Path) -> list[float]:
    """Seconds to read, to cite and to draw, in a process of the checkout's own."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        [sys.executable, "-c", _ROUND], cwd=checkout, env=environment, capture_output=True, check=True, text=True
    )
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    checkouts = {"this checkout": _HERE} | ({str(args.against): args.against.resolve()} if args.against else {})
    rounds: dict[str, list[list[float]]] = {name: [] for name in checkouts}
    for _ in range(args.rounds):
        for name, checkout in checkouts.items():
            rounds[name].append(one_round(checkout))
    print("| | read, s | cite, s | draw, s | together, s |\n|---|--:|--:|--:|--:|")
    for name, laps in rounds.items():
        least = [min(lap) for lap in zip(*laps)]
        print(f"| {name} | " + " | ".join(f"{seconds:.3f}" for seconds in [*least, sum(least)]) + " |")


if __name__ == "__main__":
    main()

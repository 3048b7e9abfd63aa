"""A Space under load, on this machine alone: `python benchmarks/space_load.py`.

Twelve visitors at once ask one page each for a number that only theirs holds; half of them leave in the middle. Beside
them one runs a needle test and one calls with absurd numbers. Prints the longest wait for an answer, what is held
before and after, and how many answers were wrong. Ends with 1 when an answer was wrong or an absurd call was taken.
"""

import argparse
import gc
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from matplotlib import rc_context
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dca_hub.space.build import build, serve
from dca_hub.space.settings import Settings

_ABSURD = [("512", 30_000_000, 1), ("900000", 3, 1), ("9" * 5000, 1, 1), ("512", 1, 10**15)]
_LONGEST = 300  # seconds that the whole may take


@dataclass
class Seen:
    """What happened."""

    waits: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    left: int = 0


def page(folder: Path, key: str) -> Path:
    """One page, with a number that no other visitor's page has."""
    path, figure = folder / f"{key}.pdf", Figure()
    words = f"The keeper wrote the weather into his book.\nThe pass key is {key}. Remember it.\nIt was a cold winter."
    figure.text(0.1, 0.5, words)
    with rc_context({"pdf.fonttype": 42}):  # letters that can be read back
        figure.savefig(path)
    return path


def stays(url: str, path: Path, seen: Seen) -> None:
    try:
        client, begun = Client(url, verbose=False), time.monotonic()
        result = client.predict(handle_file(str(path)), "What is the pass key?", api_name="/ask")
        seen.waits.append(time.monotonic() - begun)
        answer = result["answers"]["dca"]["text"]
        if path.stem not in answer:
            seen.wrong.append(f"{path.stem}: {answer}")
    except Exception as error:
        seen.failed.append(repr(error))


def leaves(url: str, path: Path, index: int, after: float, seen: Seen) -> None:
    """Asks for a long answer from both models, listens for a while, and hangs up."""
    try:
        sent = httpx.post(f"{url}/gradio_api/upload", files={"files": (path.name, path.read_bytes())}, timeout=30)
        file = {"path": sent.json()[0], "meta": {"_type": "gradio.FileData"}}
        key = uuid.uuid4().hex
        data = [file, "What is the pass key?", "both", "", "", 400, False]
        body = {"data": data, "fn_index": index, "session_hash": key}
        httpx.post(f"{url}/gradio_api/queue/join", json=body, timeout=30).raise_for_status()
        begun = time.monotonic()
        with httpx.stream("GET", f"{url}/gradio_api/queue/data?session_hash={key}", timeout=60) as stream:
            for line in stream.iter_lines():
                if '"success":false' in line:
                    raise RuntimeError(line[:200])
                if time.monotonic() - begun > after:
                    seen.left += 1
                    return
    except Exception as error:
        seen.failed.append(repr(error))


def runs_the_lab(url: str, over: threading.Event, seen: Seen) -> None:
    """A test that would take minutes; it is given up when the others are done."""
    try:
        job = Client(url, verbose=False).submit("4096,8192", 5, 2, "prose", "both", api_name="/needle")
        over.wait(_LONGEST)
        job.cancel()
    except Exception as error:
        seen.failed.append(repr(error))


def asks_absurdly(url: str, seen: Seen) -> None:
    client = Client(url, verbose=False)
    for arguments in _ABSURD:
        try:
            client.predict(*arguments, api_name="/needle")
            seen.taken.append(str(arguments)[:60])
        except AppError:
            continue
        except Exception as error:
            seen.failed.append(repr(error))


def held(context) -> tuple[float, float]:
    """Resident megabytes of this process, and megabytes of visitors' files."""
    gc.collect()
    files = sum(path.stat().st_size for path in context.sessions.root.rglob("*") if path.is_file())
    return psutil.Process().memory_info().rss / 1e6, files / 1e6


def crowd(url: str, visitors: int, folder: Path) -> Seen:
    """All of them at once."""
    seen, over = Seen(), threading.Event()
    config = httpx.get(f"{url}/config", timeout=30).json()
    index = next(d["id"] for d in config["dependencies"] if d["api_name"] == "ask")
    lab = threading.Thread(target=runs_the_lab, args=(url, over, seen), daemon=True)
    lab.start()
    time.sleep(3)  # the test has begun when the others come
    threads = [threading.Thread(target=asks_absurdly, args=(url, seen), daemon=True)]
    for number in range(visitors):
        path = page(folder, str(10_000 + 7919 * (number + 1) % 90_000))
        work = (stays, (url, path, seen)) if number % 2 else (leaves, (url, path, index, 0.3 * number + 0.5, seen))
        threads.append(threading.Thread(target=work[0], args=work[1], daemon=True))
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + _LONGEST
    for thread in threads:
        thread.join(max(1.0, deadline - time.monotonic()))
    over.set()
    lab.join(30)
    return seen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo", help="catalogue name or folder (default: demo)")
    parser.add_argument("--visitors", type=int, default=12, choices=range(2, 41), metavar="N")
    parser.add_argument("--port", type=int, default=7990)
    args = parser.parse_args()
    blocks, context = build(Settings(model=args.model, public=True, host="127.0.0.1", port=args.port))
    url = serve(blocks, context, wait=False).rstrip("/")
    with tempfile.TemporaryDirectory() as folder:
        crowd(url, 2, Path(folder))  # makes pools and code pages that stay
        before = held(context)
        seen = crowd(url, args.visitors, Path(folder))
    time.sleep(3)
    line, after = sum(not job.over for job in context.lane._line), held(context)
    blocks.close(verbose=False)
    context.close()
    print(f"answers: {len(seen.waits)}, wrong: {len(seen.wrong)}, failed: {len(seen.failed)}, left: {seen.left}")
    print(f"longest wait of a one-page question: {max(seen.waits, default=0):.1f} s")
    print(f"memory: {before[0]:.0f} MB before, {after[0]:.0f} MB after; files: {before[1]:.1f}, {after[1]:.1f} MB")
    print(f"absurd calls taken: {len(seen.taken)} of {len(_ABSURD)}; jobs left in the line: {line}")
    for problem in (*seen.wrong, *seen.failed, *seen.taken):
        print(f"  {problem}")
    return int(bool(seen.wrong or seen.failed or seen.taken or line))


if __name__ == "__main__":
    sys.exit(main())

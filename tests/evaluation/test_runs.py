"""The file of a run: what it holds, how it goes on after a stop, and what is refused."""

import json
import threading
import time

import pytest

from dca_hub.errors import DcaHubError
from dca_hub.evaluation import runs
from dca_hub.evaluation.log import Log, run_samples

SAMPLES = [({"variant": "DCA", "length": n, "trial": t}, n) for n in (64, 128) for t in (0, 1)]


def header(**changes):
    value = {
        "run": runs.FORMAT, "task": "passkey", "model": "m", "revision": None, "trained": 64, "dtype": "float32",
        "variants": {"DCA": {"dca": True}}, "settings": {"haystack": "grass", "seed": 0},
    }  # fmt: skip
    return {**value, **changes}


def measure(at, tell):
    tell(1, 2)
    return {"found": at["trial"] == 0}


def test_a_run_that_was_stopped_anywhere_goes_on_to_the_same_end(tmp_path):
    whole = run_samples(Log(tmp_path / "whole.jsonl", header()), SAMPLES, measure)
    for stop in range(1, len(SAMPLES)):
        path, calls = tmp_path / f"{stop}.jsonl", []

        def stopping(at, tell, calls=calls, stop=stop):
            if len(calls) == stop:
                raise KeyboardInterrupt
            calls.append(at)
            return measure(at, tell)

        with pytest.raises(KeyboardInterrupt):
            run_samples(Log(path, header()), SAMPLES, stopping)
        with path.open("a") as file:
            file.write('{"variant": "DC')  # and the machine died in the middle of a line
        assert len(runs.read(path)[0].samples) == stop
        again = []

        def counting(at, tell, again=again):
            again.append(at)
            return measure(at, tell)

        resumed = run_samples(Log(path, header()), SAMPLES, counting)
        assert resumed.samples == whole.samples == runs.read(path)[0].samples
        assert len(again) == len(SAMPLES) - stop


def test_what_is_there_is_not_measured_again_and_nothing_is_written(tmp_path):
    path = tmp_path / "r.jsonl"
    run_samples(Log(path, header()), SAMPLES, measure)
    before = path.read_bytes()
    run_samples(Log(path, header()), SAMPLES, lambda at, tell: pytest.fail("measured again"))
    assert path.read_bytes() == before


def test_progress_counts_what_is_left_by_its_cost():
    told = []
    run_samples(Log(None, header()), SAMPLES, measure, progress=lambda *one: told.append(one))
    assert told[0] == (32, 384) and told[-1] == (384, 384)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def together(path, measure, count=2):
    """As several processes do it, in threads."""
    barrier, found = threading.Barrier(count), {}

    def work(rank):
        try:
            found[rank] = run_samples(Log(path, header(), rank, count), SAMPLES, measure, wait=barrier.wait)
        except (KeyboardInterrupt, threading.BrokenBarrierError):
            barrier.abort()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_several_processes_measure_what_one_does(tmp_path):
    alone = run_samples(Log(tmp_path / "alone.jsonl", header()), SAMPLES, measure)
    found = together(tmp_path / "r.jsonl", measure)
    assert found[0].samples == found[1].samples == alone.samples == runs.read(tmp_path / "r.jsonl")[0].samples
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["alone.jsonl", "r.jsonl"]


def test_what_several_processes_had_finished_survives_a_stop(tmp_path):
    path = tmp_path / "r.jsonl"

    def stopping(at, tell):
        if at == SAMPLES[3][0]:
            other = tmp_path / "r.jsonl.part-0"
            while not other.is_file() or other.read_text().count("\n") < 3:  # its header and both its samples
                time.sleep(0.01)
            raise KeyboardInterrupt
        return measure(at, tell)

    together(path, stopping)
    assert list(tmp_path.glob("*.part-*")), "left for the next start"
    again = []
    run_samples(Log(path, header()), SAMPLES, lambda at, tell: again.append(at) or measure(at, tell))
    assert again == [SAMPLES[3][0]] and not list(tmp_path.glob("*.part-*"))
    assert len(runs.read(path)[0].samples) == 4


def test_files_may_be_joined_and_hold_several_runs(tmp_path):
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    run_samples(Log(first, header()), SAMPLES, measure)
    run_samples(Log(second, header(task="needle")), SAMPLES[:1], measure)
    both = tmp_path / "both.jsonl"
    both.write_bytes(second.read_bytes() + first.read_bytes() + second.read_bytes())
    assert [(run.task, len(run.samples)) for run in runs.read(both)] == [("needle", 1), ("passkey", 4)]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"settings": {"haystack": "prose", "seed": 0}}, "haystack 'grass', and now 'prose'"),
        ({"model": "other"}, "model 'm', and now 'other'"),
        ({"variants": {"DCA": {"dca": True, "dual_chunk_attention_config": {}}}}, "another 'DCA'"),
    ],
)
def test_a_run_goes_on_only_with_the_same_settings(tmp_path, changes, words):
    path = tmp_path / "r.jsonl"
    run_samples(Log(path, header()), SAMPLES, measure)
    with pytest.raises(DcaHubError, match=words):
        run_samples(Log(path, header(**changes)), SAMPLES, measure)


@pytest.mark.parametrize(
    "lines, words",
    [
        ([""], "holds no results"),
        (['{"task": "passkey"}'], "has no header line"),
        ([json.dumps(header()), "nonsense", "{}"], "line 2 is not JSON"),
        ([json.dumps(header()), "[]", "{}"], "line 2 is not a JSON object"),
        ([json.dumps(header(run=1))], "wrong after their first token: measure again"),
        ([json.dumps(header(run=99))], "expected format 2, got 99"),
        ([json.dumps(header(settings=None))], "'settings' is missing"),
        ([json.dumps(header()), '{"variant": "other", "length": 3}'], "not one of the variants"),
        ([json.dumps(header()), '{"variant": "DCA", "length": "3"}'], "length must be"),
    ],
)
def test_damaged_files_are_named(tmp_path, lines, words):
    path = tmp_path / "r.jsonl"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DcaHubError, match=words):
        runs.read(path)


def test_an_older_file_is_not_gone_on_with(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(header(run=1)) + "\n")
    before = path.read_bytes()
    with pytest.raises(DcaHubError, match="measure again, into another file"):
        run_samples(Log(path, header()), SAMPLES, measure)
    assert path.read_bytes() == before


def test_a_run_reads_what_it_has_written_whatever_the_characters(tmp_path):
    path, odd = tmp_path / "r.jsonl", "a\u2028b\u2029c\x85d\x0be\x1cf"
    written = run_samples(Log(path, header()), SAMPLES, lambda at, tell: {"found": True, "answer": odd})
    assert runs.read(path)[0].samples == written.samples and written.samples[0]["answer"] == odd
    run_samples(Log(path, header()), SAMPLES, lambda at, tell: pytest.fail("measured again"))


def test_several_processes_need_a_file_and_a_file_needs_a_place(tmp_path):
    with pytest.raises(DcaHubError, match=r"give out='FILE\.jsonl'"):
        Log(None, header(), 0, 2)
    (tmp_path / "file").write_text("")
    with pytest.raises(DcaHubError, match="cannot be written"):
        run_samples(Log(tmp_path / "file" / "r.jsonl", header()), SAMPLES, measure)

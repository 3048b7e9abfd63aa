"""The Space: `python app.py`. Options are in `python app.py --help`; each is an environment variable too."""

import os
import sys
from pathlib import Path

# Before the libraries are imported: no usage reports.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from dca_hub.space.run import main

if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent))

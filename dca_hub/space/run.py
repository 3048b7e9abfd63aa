"""What app.py does: read the settings, build the interface, serve it until Ctrl-C."""

import sys
from pathlib import Path

from dca_hub.errors import DcaHubError
from dca_hub.space import zero  # noqa: F401  (before torch, as ZeroGPU asks)
from dca_hub.space.leftovers import upload_folder
from dca_hub.space.settings import FILE, read


def main(folder: Path) -> int:
    """Runs the Space whose own settings file, if there is one, is in `folder`; gives the exit code."""
    try:
        settings = read(file=folder / FILE)
        with upload_folder():
            # Torch and the rest are loaded only now, so that --help and a wrong option answer at once.
            from dca_hub.space.build import build, serve

            blocks, context = build(settings)
            try:
                serve(blocks, settings)
            finally:
                context.close()
    except DcaHubError as error:
        print(f"app.py: {error}", file=sys.stderr)
        return 2
    return 0

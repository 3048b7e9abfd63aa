"""Dual Chunk Attention (DCA) for RoPE models: package, load, chat, evaluate, publish."""

from pathlib import Path as _Path

from dca_hub.errors import UserError

_here = _Path(__file__).resolve().parent
if not (_here / "modeling").is_dir():
    # A checkout keeps `modeling/` and `configs/` beside this package; installed, they are inside it.
    # Either way they import as dca_hub.modeling and dca_hub.configs.
    __path__.append(str(_here.parent))

__version__ = "0.1.0"
__all__ = ["UserError", "__version__", "extend"]


def __getattr__(name: str):
    # torch and transformers load with the first use, so that `models` and the PDF worker start at once.
    if name == "extend":
        from dca_hub.extension import extend

        return extend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

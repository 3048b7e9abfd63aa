"""Dual Chunk Attention (DCA) for RoPE models: package, load, chat, evaluate, publish."""

from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING

from dca_hub.errors import DcaHubError

if _TYPE_CHECKING:
    from dca_hub.conversation import Conversation
    from dca_hub.extending import extend
    from dca_hub.loading import load
    from dca_hub.packaging import package
    from dca_hub.verification.run import verify

_here = _Path(__file__).resolve().parent
if not (_here / "modeling").is_dir():
    # A checkout keeps `modeling/` and `configs/` beside this package; installed, they are inside it.
    # Either way they import as dca_hub.modeling and dca_hub.configs.
    __path__.append(str(_here.parent))

__version__ = "0.1.0"
__all__ = ["Conversation", "DcaHubError", "__version__", "extend", "load", "package", "verify"]

# torch and transformers load with the first use, so that `models` and the PDF worker start at once.
_MODULES = {
    "Conversation": "dca_hub.conversation",
    "extend": "dca_hub.extending",
    "load": "dca_hub.loading",
    "package": "dca_hub.packaging",
    "verify": "dca_hub.verification.run",
}


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""Dual Chunk Attention (DCA) for RoPE models: package, load, chat, evaluate, publish."""

import sys as _sys
from importlib import import_module as _import_module
from importlib.util import module_from_spec as _module_from_spec
from importlib.util import spec_from_file_location as _spec_from_file_location
from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING

from dca_hub.errors import DcaHubError
from dca_hub.version import VERSION as __version__

if _TYPE_CHECKING:
    from dca_hub.conversation import Conversation
    from dca_hub.extending import extend
    from dca_hub.loading import load
    from dca_hub.packaging import package
    from dca_hub.publishing.model import publish
    from dca_hub.verification.run import verify


def _attach(name: str) -> None:
    """Makes a package that a checkout keeps beside this one importable as if it were inside, as it is when installed.

    These two alone: with the checkout on `__path__`, `dca_hub.tests` would be importable too.
    """
    folder = _Path(__file__).resolve().parents[1] / name
    spec = _spec_from_file_location(
        f"{__name__}.{name}", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} is not a package", name=f"{__name__}.{name}")
    module = _module_from_spec(spec)
    _sys.modules[spec.name] = globals()[name] = module
    spec.loader.exec_module(module)


for _name in ("modeling", "configs"):
    if not (_Path(__file__).resolve().parent / _name).is_dir():
        _attach(_name)

__all__ = ["Conversation", "DcaHubError", "__version__", "extend", "load", "package", "publish", "verify"]

# torch and transformers load with the first use, so that `models` and the PDF worker start at once.
_MODULES = {
    "Conversation": "dca_hub.conversation",
    "extend": "dca_hub.extending",
    "load": "dca_hub.loading",
    "package": "dca_hub.packaging",
    "publish": "dca_hub.publishing.model",
    "verify": "dca_hub.verification.run",
}


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""The supported families: where the modeling files of each are, and which classes they hold."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal, get_args

from dca_hub.errors import DcaHubError

FamilyName = Literal[
    "llama",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "gemma3_text",
    "glm4_moe",
    "gpt_oss",
    "olmo3",
    "qwen3_5_text",
    "qwen3_next",
    "smollm3",
]
FAMILIES: tuple[str, ...] = get_args(FamilyName)


@dataclass(frozen=True)
class Family:
    """One supported `model_type` of transformers."""

    model_type: str

    @property
    def config_class(self) -> type:
        module = import_module(f"dca_hub.modeling.configuration_dca_{self.model_type}")
        return next(c for c in vars(module).values() if getattr(c, "__module__", None) == module.__name__)

    def dca_class(self, base_class: type) -> type | None:
        """The DCA class of a transformers class of this family, or None where it has none."""
        module = import_module(f"dca_hub.modeling.modeling_dca_{self.model_type}")
        return getattr(module, f"DualChunk{base_class.__name__}", None)

    @property
    def auto_map(self) -> dict[str, str]:
        """What `auto_map` in config.json says: auto class to `module.Class`."""
        return dict(self.config_class.auto_classes)

    def files(self) -> list[Path]:
        """The modeling files that a package of this family needs, and no others, sorted by name."""
        folder = modeling_folder()
        own = [folder / f"{kind}_dca_{self.model_type}.py" for kind in ("configuration", "modeling")]
        return sorted([*own, *folder.glob("dual_chunk_*.py")])


def find(model_type: str) -> Family:
    """The family of a `model_type`; raises DcaHubError for one that is not supported."""
    if model_type not in FAMILIES:
        raise DcaHubError(
            f"Models of type {model_type!r} cannot be packaged: the supported types are {', '.join(FAMILIES)}."
        )
    return Family(model_type)


def modeling_folder() -> Path:
    """The folder of the modeling files, in a checkout or an installation."""
    return Path(str(import_module("dca_hub.modeling").__file__)).parent

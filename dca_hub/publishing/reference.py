"""Reference mode: a repository of a few kilobytes that loads the base model's weights at a pinned revision.

Its config.json names them, and the model classes of its modeling file read them from there, so that the line that
loads it is the line that loads any model: `AutoModelForCausalLM.from_pretrained(ID, trust_remote_code=True)`.
"""

import json
from typing import Any

from dca_hub import families
from dca_hub.errors import UserError

WEIGHTS_KEY = "weights_of_base"
FOLLOWING = "weights_of_base.py"


def point_at(config: dict[str, Any], repository: str, commit: str) -> dict[str, Any]:
    """config.json with the pointer to the weights in it."""
    return {**config, WEIGHTS_KEY: {"repository": repository, "revision": commit}}


def following() -> bytes:
    """The modeling file that follows the pointer."""
    return (families.modeling_folder() / FOLLOWING).read_bytes()


def modeling_module(config: dict[str, Any]) -> str:
    """The name of the file whose classes serve the models of a package."""
    modules = {value.partition(".")[0] for auto, value in config["auto_map"].items() if auto != "AutoConfig"}
    if len(modules) != 1:
        raise UserError("The auto_map of config.json names several modeling files: package the model again.")
    return f"{modules.pop()}.py"


def follow(modeling: bytes, config: dict[str, Any]) -> bytes:
    """The modeling file with every class that `auto_map` names made to follow the pointer.

    Each is shadowed by a class of its own name: a saved copy, whose config holds no pointer, loads with the same file.
    """
    names = sorted({value.partition(".")[2] for auto, value in config["auto_map"].items() if auto != "AutoConfig"})
    parts = [
        modeling.decode("utf-8").rstrip(),
        "\n\n# Here the weights are those of the base model's repository: see weights_of_base.\n"
        "from .weights_of_base import WeightsOfBase  # noqa: E402",
    ]
    parts += [f"\n\nclass {name}(WeightsOfBase, {name}):  # noqa: F811\n    pass" for name in names]
    return ("\n".join(parts) + "\n").encode("utf-8")


def dump(config: dict[str, Any]) -> bytes:
    return (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode("utf-8")

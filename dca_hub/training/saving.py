"""What a training leaves: a checkpoint like any other, which can be packaged."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dca_hub import card_text, licenses
from dca_hub.sources import Source


def save(
    trainer,
    tokenizer: PreTrainedTokenizerBase,
    source: Source,
    folder: Path,
    base: Callable[[], PreTrainedModel],
    training: dict[str, Any],
) -> None:
    """Writes the trained weights, adapters merged, with tokenizer and license, as a checkpoint that can be packaged.

    All processes call it. `source` is what was trained, `base` loads it again, and `training` says how it was trained:
    the package's card repeats it.
    """
    state = trainer.accelerator.get_state_dict(trainer.model)  # whole, in the first process
    if not trainer.is_world_process_zero():
        return
    adapters = getattr(trainer.model, "peft_config", None)
    if adapters:
        merged(base(), adapters["default"], state).save_pretrained(folder)
    else:
        model = trainer.accelerator.unwrap_model(trainer.model)
        # Of shards, tied weights are gathered one by one, so that nothing else tells that they are one.
        once = {key: value for key, value in state.items() if key not in model.all_tied_weights_keys}
        model.save_pretrained(folder, state_dict=once)
    tokenizer.save_pretrained(folder)
    _write_origin(source, folder, training)


def merged(base: PreTrainedModel, config, state: dict[str, torch.Tensor]) -> PreTrainedModel:
    """A model with the adapters of a training's state merged into its weights.

    Into another than the trained one: one process alone cannot write into the shards of all.
    """
    from peft import get_peft_model

    model = get_peft_model(base, config)
    adapters = {name: value for name, value in state.items() if ".lora_" in name}
    left = model.load_state_dict(adapters, strict=False)
    lacking = [name for name in left.missing_keys if ".lora_" in name]
    if lacking or left.unexpected_keys:
        raise RuntimeError(f"The adapters do not match the model: {[*lacking, *left.unexpected_keys][:3]}.")
    return model.merge_and_unload()


def _write_origin(source: Source, folder: Path, training: dict[str, Any]) -> None:
    """License and origin of the base, where packaging looks for them."""
    for path in licenses.license_files(source.folder):
        shutil.copyfile(path, folder / path.name)
    stated: dict[str, Any] = {}
    if source.entry is not None:
        license = licenses.find(source.entry.license)
        stated = {"license": license.hub_id, "language": list(source.entry.languages)}
        if license.hub_id == "other":
            stated |= {"license_name": license.key, "license_link": license.link}
    elif (source.folder / "README.md").is_file():
        held = card_text.front_matter((source.folder / "README.md").read_text(encoding="utf-8", errors="replace"))[0]
        stated = {key: held[key] for key in ("license", "license_name", "license_link", "language") if key in held}
    if source.base:
        stated["base_model"] = source.base
    stated[card_text.TRAINING] = training
    (folder / "README.md").write_text(card_text.with_front_matter(stated, ""), encoding="utf-8")

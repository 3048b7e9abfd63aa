"""The one model that is loaded, and changing it."""

import copy
import dataclasses
import gc
import importlib.util
from collections.abc import Callable
from pathlib import Path

import torch

from dca_hub import sources
from dca_hub.errors import UserError
from dca_hub.load import Loaded, Quantization, free_bytes, load
from dca_hub.prompts import Prompter
from dca_hub.space.settings import Settings

_SPARE = 0.8  # of the free memory, for caches


class Host:
    """Holds the model that all visitors share. `generation` counts the models, so that what belongs to an earlier one
    can be told. `before_change` is called before a model goes, to drop what hangs on it."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.generation = 0
        self.before_change: Callable[[], None] = lambda: None
        self._loaded: Loaded | None = None
        self._prompter: Prompter | None = None
        self._chosen: tuple[str, Quantization | None, str | None] = ("", None, None)

    @property
    def ready(self) -> bool:
        return self._loaded is not None

    @property
    def loaded(self) -> Loaded:
        """Raises UserError while a model is being changed."""
        if self._loaded is None:
            raise UserError("The model is being changed: try again in a moment.")
        return self._loaded

    @property
    def quantization(self) -> Quantization | None:
        return self._chosen[1]

    def begin(self) -> None:
        """Loads the model that the settings name."""
        self._load(self.settings.model, self.settings.quantization or None, self.settings.device or None)

    def change(self, name: str, quantization: Quantization | None = None, device: str | None = None) -> None:
        """Frees the model and loads another one; runs in the lane, where nothing else uses the model.

        Raises UserError when the model may not or cannot be loaded; the one before is then loaded again.
        """
        self.check(name)
        sources.resolve(name, weights=False)  # before the old model goes: there is such a model, and it can be had
        before = self._chosen
        self._free()
        try:
            self._load(name, quantization, device)
        except BaseException:
            self._free()
            self._load(*before)
            raise

    def check(self, name: str) -> None:
        """Raises UserError unless a visitor may load this model."""
        if not name.strip():
            raise UserError("Choose a model first.")
        if not self.settings.any_model and name not in self.settings.choices():
            raise UserError("That model is not offered here: choose one from the list.")

    def count(self, text: str) -> int:
        """Tokens of a text. The lane's thread has the model's own tokenizer; this is another one."""
        self.loaded  # noqa: B018  (says so while a model is being changed)
        return self._prompter.count(text)

    def memory_tokens(self, held: int = 0) -> int:
        """Tokens of cache that memory allows. `held`: bytes of caches that would make room."""
        free = int(free_bytes(str(self.loaded.device)) * _SPARE) + held
        return min(free, self.settings.cache_mb * 1_000_000) // self.loaded.cache_bytes_per_token

    def limit(self, held: int = 0, copies: int = 1) -> int:
        """Tokens that a prompt and its answer may take: what memory allows, and the settings."""
        allowed = self.memory_tokens(held) // copies
        return min(allowed, self.settings.max_tokens or allowed)

    def _load(self, name: str, quantization: Quantization | None, device: str | None) -> None:
        loaded = load(name, device=device, dtype=self.settings.dtype or None, quantization=quantization)
        if Path(loaded.name).is_dir():  # no path of this machine on a stranger's screen
            loaded = dataclasses.replace(loaded, name=Path(loaded.name).resolve().name)
        self._prompter = Prompter(copy.deepcopy(loaded.tokenizer))
        self._loaded, self._chosen = loaded, (name, quantization, device)
        self.generation += 1

    def _free(self) -> None:
        self.before_change()
        self._loaded = self._prompter = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def devices() -> list[str]:
    """What a model can run on here."""
    found = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if len(found) > 1:
        found.insert(0, "auto")
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def can_quantize() -> bool:
    return importlib.util.find_spec("bitsandbytes") is not None

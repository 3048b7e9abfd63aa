"""The one model that is loaded, and changing it."""

import copy
import dataclasses
import gc
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from dca_hub.conversation import Conversation, Stats
from dca_hub.devices import free_bytes
from dca_hub.documents import Document
from dca_hub.errors import DcaHubError
from dca_hub.loading import Loaded, fetch, load
from dca_hub.modeling.dual_chunk_selection import SparseAttention
from dca_hub.pace import Pace
from dca_hub.pretrained import Quantization
from dca_hub.progress import OnLoadProgress
from dca_hub.prompts import Prompter
from dca_hub.serving import client
from dca_hub.serving.client import Served, connect
from dca_hub.space.settings import Settings

_SPARE = 0.8  # of the free memory, for caches
_LEARNS = 0.3  # of each answer, about how quickly the model writes


@dataclass(frozen=True)
class Choice:
    """A model as a visitor asks for it: name, weights quantized or not, device."""

    name: str
    quantization: Quantization | None = None
    device: str | None = None


class Host:
    """Holds the model that all visitors share. `generation` counts the models, so that what belongs to an earlier one
    can be told. `before_change` is called before a model goes, to drop what hangs on it, and `after_change` when one is
    there again."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.generation = 0
        self.before_change: Callable[[], None] = lambda: None
        self.after_change: Callable[[], None] = lambda: None
        self._loaded: Loaded | Served | None = None
        self._prompter: Prompter | None = None
        self._chosen = Choice("")
        self._reserved = 0
        self._sparse: Loaded | None = None  # the model as it reads sparsely, once somebody has chosen that
        self._written_pace = 0.0  # tokens a second
        self.paces: dict[str, Pace] = {}  # of models that have read here with weights as they are, by name

    @property
    def ready(self) -> bool:
        return self._loaded is not None

    @property
    def loaded(self) -> Loaded | Served:
        """The model, or what stands for one behind an endpoint. Raises DcaHubError while a model is being changed."""
        if self._loaded is None:
            raise DcaHubError("The model is being changed: try again in a moment.")
        return self._loaded

    @property
    def quantization(self) -> Quantization | None:
        return self._chosen.quantization

    def begin(self) -> None:
        """Loads the model that the settings name, or connects to the server that has it."""
        settings = self.settings
        if settings.endpoint:
            return self._take(connect(settings.model, settings.endpoint), Choice(settings.model))
        self._load(Choice(settings.model, settings.quantization or None, settings.device or None))

    def fetch(self, choice: Choice, progress: OnLoadProgress | None = None) -> None:
        """Brings a model's files onto this machine, where they are not, while the loaded one goes on being used.

        Raises DcaHubError when the model may not or cannot be had, or would not fit in memory even alone.
        """
        self.check(choice.name)
        fetch(
            choice.name, device=choice.device, dtype=self.settings.dtype or None, quantization=choice.quantization,
            freed=self.freed(choice.device), progress=progress,
        )  # fmt: skip

    def change(self, choice: Choice, progress: OnLoadProgress | None = None) -> None:
        """Frees the model and loads another one, whose files are fetched already; runs in the lane, where nothing else
        uses the model. Whatever `progress` raises gives it up.

        Raises DcaHubError when the model may not or cannot be loaded. The one before is then loaded again, as when
        the loading was given up.
        """
        self.check(choice.name)
        before = self._chosen
        self._free()
        try:
            self._load(choice, progress)
        except BaseException:
            self._free()
            self._load(before)
            raise
        finally:
            if self.ready:
                self.after_change()

    def check(self, name: str) -> None:
        """Raises DcaHubError unless a visitor may load this model."""
        if not name.strip():
            raise DcaHubError("Choose a model first.")
        if self.settings.endpoint:
            raise DcaHubError("The model runs behind an endpoint and cannot be changed from here.")
        if not self.settings.any_model and name not in self.settings.choices():
            raise DcaHubError("That model is not offered here: choose one from the list.")

    def count(self, text: str) -> int:
        """Tokens of a text. The lane's thread has the model's own tokenizer; this is another one."""
        self.loaded  # noqa: B018  (says so while a model is being changed)
        return self._prompter.count(text)

    def memory_tokens(self, held: int = 0) -> int:
        """Tokens of cache that memory allows. `held`: bytes of caches that would make room."""
        if isinstance(self.loaded, Served):
            return self.loaded.context  # the server has the memory, and answers for it
        free = int(free_bytes(str(self.loaded.device)) * _SPARE) + held - self._reserved
        return min(max(0, free), self.settings.cache_mb * 1_000_000) // self.loaded.cache_bytes_per_token

    def converse(self, documents: Sequence[Document], *, sparse: bool = False, **options) -> Conversation:
        """A conversation with the model, wherever it runs; takes what `Conversation` takes."""
        if isinstance(self.loaded, Served):
            return client.converse(self.loaded, documents, watched=True, **options)
        return Conversation(self.reading(sparse), documents, watched=True, **options)

    def reading(self, sparse: bool) -> Loaded:
        """The loaded model as it reads: exactly or sparsely. The two share their weights."""
        if sparse and self._sparse is None:
            self._sparse = self.loaded.with_sparse(True)
        return self._sparse if sparse else self.loaded

    def why_not_sparse(self, tokens: int) -> str | None:
        """Why a visitor cannot choose to have so many tokens read sparsely, in words that follow "sparse reading"."""
        if isinstance(self.loaded, Served):
            return "is chosen where the model is served"
        return self.loaded.why_not_sparse(tokens)

    def refuse_sparse(self, tokens: int) -> None:
        """Raises DcaHubError where so many tokens cannot be read sparsely."""
        if why := self.why_not_sparse(tokens):
            raise DcaHubError(f"Sparse reading {why}: leave sparse out.")

    @contextmanager
    def reserve(self, tokens: int) -> Iterator[None]:
        """Keeps memory for a cache of `tokens` that will grow while others use the model in between."""
        size = tokens * self.loaded.cache_bytes_per_token
        self._reserved += size
        try:
            yield
        finally:
            self._reserved -= size

    def learn(self, stats: Stats, sparse: bool, elsewhere: bool = False) -> None:
        """Remembers how quick the model is. elsewhere: it reads in another process, so that its pace learns nothing."""
        if elsewhere or isinstance(self.loaded, Served):
            begin = stats.prompt_tokens - stats.read_tokens
            self.loaded.pace.learn(
                begin, stats.prompt_tokens, stats.read_seconds, SparseAttention() if sparse else None
            )
        if stats.answer_tokens_per_second:
            self._written_pace = _mixed(self._written_pace, stats.answer_tokens_per_second)

    def reading_seconds(self, begin: int, end: int, sparse: bool = False) -> float | None:
        """How long reading tokens [begin, end) of a text takes; None while that is not known."""
        loaded = self._loaded
        return loaded.pace.seconds(begin, end, SparseAttention() if sparse else None) if loaded is not None else None

    def writing_seconds(self, tokens: int) -> float | None:
        """How long writing so many tokens takes; None while that is not known."""
        return tokens / self._written_pace if self._written_pace else None

    def fits(self, held: int = 0, copies: int = 1) -> int:
        """Tokens that memory and the settings allow, for tests of how far a model reaches."""
        allowed = self.memory_tokens(held) // copies
        return min(allowed, self.settings.max_context or allowed)

    def limit(self, held: int = 0, copies: int = 1) -> int:
        """Tokens that a prompt and its answer may take: what fits, and unless the settings say otherwise no more than
        the model reaches."""
        return min(self.fits(held, copies), self.settings.max_context or self.loaded.context)

    def freed(self, device: str | None) -> int:
        """Bytes that the loaded model would leave on that device."""
        if self._loaded is None or device not in (None, "auto", self._loaded.device.type, str(self._loaded.device)):
            return 0
        return self._loaded.base.get_memory_footprint()

    def _load(self, choice: Choice, progress: OnLoadProgress | None = None) -> None:
        loaded = load(
            choice.name, device=choice.device, dtype=self.settings.dtype or None, quantization=choice.quantization,
            sparse=False, cache_bits=8 if self.settings.cache_in_8bit else 16, progress=progress,
        )  # fmt: skip
        if Path(loaded.name).is_dir():  # no path of this machine on a stranger's screen
            loaded = dataclasses.replace(loaded, name=Path(loaded.name).resolve().name)
        self._take(loaded, choice)

    def _take(self, loaded: Loaded | Served, choice: Choice) -> None:
        self._prompter = Prompter(copy.deepcopy(loaded.tokenizer))
        self._loaded, self._chosen = loaded, choice
        self.generation += 1
        self._written_pace = 0.0
        if not choice.quantization:  # as the catalogue has it
            self.paces[loaded.name] = loaded.pace

    def _free(self) -> None:
        self.before_change()
        self._loaded = self._sparse = self._prompter = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _mixed(before: float, now: float) -> float:
    return now if not before else (1 - _LEARNS) * before + _LEARNS * now


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

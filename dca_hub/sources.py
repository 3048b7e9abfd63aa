"""Where a model comes from: a catalogue name, a Hub id or a local folder, resolved to files on this machine."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dca_hub import catalogue, download, gguf_files
from dca_hub.catalogue import Entry
from dca_hub.errors import DcaHubError
from dca_hub.modeling.dual_chunk_config import CONFIG_KEY
from dca_hub.progress import OnLoadProgress

ADAPTER = "adapter_config.json"
_VOCABULARIES = re.compile(
    r"tokenizer(\.[\d.]+)?\.json|tokenizer\.model(\.v\d+)?|vocab\.(json|txt)|spiece\.model|sentencepiece\.bpe\.model"
    r"|tekken\.json"
)
_BESIDE_THEM = re.compile(
    r"tokenizer_config\.json|special_tokens_map\.json|added_tokens\.json|merges\.txt|chat_template\.(jinja|json)"
    r"|additional_chat_templates/[A-Za-z0-9][\w.-]*\.jinja"
)
_SMALL_FILES = [
    "*.json",
    "*.jinja",
    "*.txt",
    "*.model",
    "*.md",
    "LICEN*",
    "Licen*",
    "NOTICE*",
    "Notice*",
    "USE_POLICY*",
]


# Model types of text and images whose text model transformers loads from the same weights.
_WITH_TEXT_MODEL = {"qwen3_5"}


@dataclass(frozen=True)
class Source:
    """A checkpoint on this machine.

    `folder` holds its files; `base` is the Hub id it came from, and `revision` the commit, where they are known.
    `config` is the contents of its config.json.
    """

    folder: Path
    base: str | None
    revision: str | None
    entry: Entry | None
    config: dict[str, Any]

    @property
    def model_type(self) -> str:
        return self.config["model_type"]


def resolve(
    name: str, *, weights: bool = True, revision: str | None = None, progress: OnLoadProgress | None = None
) -> Source:
    """The files of a model: a folder as it is, anything else through the Hub client and its cache.

    Args:
        name: a catalogue name, a Hub id (`owner/name`), or the path of a folder or of a GGUF file.
        weights: whether the weights are needed too, or only configuration, tokenizer and texts.
        revision: branch, tag or commit on the Hub.
        progress: told how far a download is; whatever it raises ends it.

    Raises:
        DcaHubError: there is no such model, or it cannot be had; the message says what to do.
    """
    folder, entry = Path(name).expanduser(), catalogue.get(name)
    if entry is None and gguf_files.is_gguf(folder):
        folder = gguf_files.as_checkpoint(folder)
    if entry is None and folder.is_dir():
        return Source(folder.resolve(), None, None, None, read_config(folder))
    if entry is not None and entry.is_local:
        return Source(Path(entry.source), None, None, entry, read_config(Path(entry.source)))
    repository = entry.base if entry is not None else name
    if entry is None and (repository.count("/") != 1 or name.startswith((".", "/", "~"))):
        catalogue.find(name)  # raises, with the names that come close
    folder = _download(repository, weights, revision, progress)
    return Source(folder, repository, folder.name, entry, read_config(folder))


def gguf_path(name: str, file: str, *, revision: str | None = None, progress: OnLoadProgress | None = None) -> str:
    """The path of a GGUF file that lies beside others in a folder or in a repository of the Hub, from which it alone is
    fetched; a model's name as `resolve` takes it.

    Raises DcaHubError when there is no such model, or no file of that name in it.
    """
    folder, entry = Path(name).expanduser(), catalogue.get(name)
    if entry is None and folder.is_dir():
        where = folder.name
    else:
        where = entry.base if entry is not None else name
        folder = _fetch(where, revision, [re.sub(r"([*?\[])", r"[\1]", file)], progress)
    path = folder / file
    if not gguf_files.is_gguf(path) or folder not in path.parents or ".." in Path(file).parts:
        raise DcaHubError(f"There is no GGUF file {file!r} in {where}: check its name.")
    return str(path)


def is_vocabulary(name: str) -> bool:
    """Whether a file of that name holds a tokenizer's vocabulary."""
    return _VOCABULARIES.fullmatch(name) is not None


def is_tokenizer_file(name: str) -> bool:
    """Whether a tokenizer is loaded from a file of that name, relative to its checkpoint: vocabulary, settings or chat
    template. Code is none of it."""
    return is_vocabulary(name) or _BESIDE_THEM.fullmatch(name) is not None


def tokenizer_files(folder: Path) -> list[str]:
    """The files of a checkpoint that its tokenizer is loaded from, sorted by name."""
    there = (path.relative_to(folder).as_posix() for path in (*folder.glob("*"), *folder.glob("*/*.jinja")))
    return sorted(name for name in there if is_tokenizer_file(name) and (folder / name).is_file())


def read_config(folder: Path) -> dict[str, Any]:
    """The contents of a checkpoint's config.json, checked to be one of a decoder."""
    if (folder / ADAPTER).is_file() and not (folder / "config.json").is_file():
        raise DcaHubError(
            f"{folder.name!r} holds only an adapter: merge it into its base model with peft's `merge_and_unload()` "
            "and `save_pretrained`, and give that folder."
        )
    packed = sorted(path.name for path in folder.glob("*.gguf"))
    if packed and not (folder / "config.json").is_file():
        raise DcaHubError(f"{folder.name!r} holds GGUF files and no config.json: give the file, such as {packed[0]}.")
    config = read_json(folder / "config.json", "the folder of a transformers checkpoint has one")
    if not isinstance(config.get("model_type"), str):
        raise DcaHubError(f"config.json of {folder.name!r} names no model_type: this is not a transformers checkpoint.")
    return _text_config(config) if config["model_type"] in _WITH_TEXT_MODEL else config


def _text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The text model's part of a configuration of text and images, as that model's own config.json would be."""
    shared = ("quantization_config", "tie_word_embeddings", "dtype", "torch_dtype", CONFIG_KEY)
    heads = [str(head).replace("ForConditionalGeneration", "ForCausalLM") for head in config.get("architectures") or ()]
    kept = {key: config[key] for key in shared if key in config}
    return {**kept, **(config.get("text_config") or {}), "architectures": heads}


def read_json(path: Path, missing: str) -> dict[str, Any]:
    """A JSON object from a file; DcaHubError when it is missing (`missing` ends the sentence) or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DcaHubError(f"There is no {path.name} in {path.parent.name!r}: {missing}.") from None
    except (OSError, ValueError) as error:
        raise DcaHubError(f"{path.name} in {path.parent.name!r} cannot be read ({error}): download it again.") from None
    if not isinstance(value, dict):
        raise DcaHubError(f"{path.name} in {path.parent.name!r} is not a JSON object: download it again.")
    return value


def _download(repository: str, weights: bool, revision: str | None, progress: OnLoadProgress | None) -> Path:
    return _fetch(repository, revision, [*_SMALL_FILES, "*.safetensors"] if weights else _SMALL_FILES, progress)


def _fetch(repository: str, revision: str | None, patterns: list[str], progress: OnLoadProgress | None) -> Path:
    from huggingface_hub import errors, snapshot_download

    if progress is not None:
        download.fetch(repository, revision, patterns, progress)
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except errors.GatedRepoError:
        raise DcaHubError(
            f"{repository} is gated: accept its license on its Hub page, then log in with `hf auth login`."
        ) from None
    except errors.RevisionNotFoundError:
        raise DcaHubError(
            f"{repository} has no revision {revision!r}: see its Hub page for branches and tags."
        ) from None
    except errors.RepositoryNotFoundError:
        raise DcaHubError(
            f"There is no model {repository!r} on the Hub, or it is private: check the name, or log in with "
            "`hf auth login`."
        ) from None
    except errors.HFValidationError:
        raise DcaHubError(f"{repository!r} is neither a local folder nor a Hub repository id (owner/name).") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, ConnectionError):
        raise DcaHubError(
            f"{repository} is not on this machine and the Hub cannot be reached: connect to the network, or give a "
            "local folder; the model `demo` needs neither."
        ) from None
    except errors.HfHubHTTPError as error:
        raise DcaHubError(f"The Hub refused to give {repository}: {str(error).splitlines()[0]}") from None
    except OSError as error:
        raise DcaHubError(f"{repository} could not be stored: {error.strerror or error}; free some space.") from None

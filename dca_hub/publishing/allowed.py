"""What may leave this machine. An allow-list decides by name, and a look at small files keeps secrets in."""

import re
from pathlib import Path, PurePosixPath

from dca_hub import licenses, manifest, results, sources
from dca_hub.checkpoints import INDEX
from dca_hub.errors import DcaHubError

_PACKAGE = {
    "config.json",
    "generation_config.json",
    "README.md",
    INDEX,
    results.FILE,
    manifest.NAME,
}
_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
_MODELING = re.compile(r"(configuration_dca|modeling_dca|dual_chunk)_[a-z0-9_]+\.py")

_SPACE_NAMES = {"requirements.txt", "py.typed", "pre-requirements.txt", "packages.txt", "Dockerfile"}
_SPACE_SUFFIXES = {
    *(".py", ".md", ".txt", ".yaml", ".yml", ".toml", ".json", ".jsonl", ".jinja", ".csv", ".gz"),
    *(".css", ".js", ".html", ".svg", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".ico", ".pdf"),
    *(".safetensors", ".model"),
}
_PRIVATE = re.compile(
    r"\.env.*|.*\.(env|pem|key|p12|pfx|kdbx|crt)|id_(rsa|dsa|ecdsa|ed25519).*|.*(secret|credential|password|token)s?"
    r"(\.(json|txt|yaml|yml|toml))?|\.?netrc|\.?htpasswd|kaggle\.json",
    re.IGNORECASE,
)
_PUBLIC_TOKEN_FILES = {"tokenizer.json", "special_tokens_map.json", "added_tokens.json", "tokenizer_config.json"}
_CACHES = {"__pycache__", "node_modules", "venv", "cache", "runs", "flagged", "gradio_cached_examples"}

_SECRETS = (
    ("a Hub token", re.compile(rb"\bhf_[A-Za-z0-9]{30,}\b")),
    ("a private key", re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")),
    ("an AWS key", re.compile(rb"\bAKIA[0-9A-Z]{16}\b")),
    ("a GitHub token", re.compile(rb"\bgh[pousr]_[A-Za-z0-9]{36,}\b")),
    ("an OpenAI key", re.compile(rb"\bsk-(proj-)?[A-Za-z0-9_-]{32,}")),
)
_LOOKED_AT = 20_000_000  # bytes; above it there are weights and pictures


def in_package(name: str) -> bool:
    """Whether a file of that name belongs into the repository of a model."""
    if sources.is_tokenizer_file(name):
        return True
    if "/" in name or _is_private(name):
        return False
    known = name in _PACKAGE or _WEIGHTS.fullmatch(name) or _MODELING.fullmatch(name)
    return bool(known or licenses.is_license_file(name))


def in_space(path: str) -> bool:
    """Whether a file at that path, relative to the Space's folder, belongs into the repository of a Space."""
    *folders, name = PurePosixPath(path).parts
    if any(folder.startswith(".") or folder.lower() in _CACHES for folder in folders):
        return False
    if name.startswith(".") or _is_private(name):
        return False
    known = name in _SPACE_NAMES or PurePosixPath(name).suffix.lower() in _SPACE_SUFFIXES
    return bool(known or licenses.is_license_file(name))


def _is_private(name: str) -> bool:
    return name not in _PUBLIC_TOKEN_FILES and _PRIVATE.fullmatch(name) is not None


def refuse_secrets(name: str, content: bytes | Path) -> None:
    """DcaHubError when a file holds what looks like a secret; it names the file and the kind, not the secret."""
    if isinstance(content, Path):
        if content.suffix == ".safetensors" or content.stat().st_size > _LOOKED_AT:
            return
        content = content.read_bytes()
    for kind, pattern in _SECRETS:
        if pattern.search(content):
            raise DcaHubError(
                f"{name!r} contains what looks like {kind}: remove it, and revoke it if it was ever shared."
            )

"""Loading in a repository that holds no weights: they are read from the base model's own, at the pinned revision.

config.json says which with the key `weights_of_base`: `repository` and `revision` (a commit). The files are
safetensors; no code of the base's repository is ever run. A configuration without the key changes nothing.
"""

import copy
import os
from typing import TYPE_CHECKING, Any

from transformers.utils.hub import cached_file

if TYPE_CHECKING:
    from transformers import PreTrainedModel as _Base
else:
    _Base = object  # mixed into the model class of any family

WEIGHTS_KEY = "weights_of_base"
# Options of from_pretrained that speak of the repository asked for, not of the one that holds the weights.
_OF_THIS_REPOSITORY = ("revision", "code_revision", "subfolder", "variant", "_commit_hash", "adapter_kwargs")
_OF_THE_MODEL = ("dtype", "torch_dtype", "attn_implementation", "experts_implementation", "quantization_config")
_OF_THE_CLIENT = ("cache_dir", "force_download", "local_files_only", "proxies", "token", "revision", "subfolder")


class WeightsOfBase(_Base):
    """Mixed into a model class, first: `from_pretrained` follows the configuration's `weights_of_base`."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *model_args, config=None, **kwargs):
        """As in transformers. The model that comes back is whole: saving it writes a repository with weights.

        Raises:
            OSError: the base's weights cannot be had; the message says why and what to do.
        """
        if pretrained_model_name_or_path is not None and (config is None or isinstance(config, (str, os.PathLike))):
            # What is no option of the model's may be one of its configuration, as in transformers.
            kept = {name: kwargs[name] for name in (*_OF_THE_CLIENT, *_OF_THE_MODEL) if name in kwargs}
            given = {name: value for name, value in kwargs.items() if name not in _OF_THE_MODEL}
            configs: Any = cls.config_class
            config, unused = configs.from_pretrained(
                config or pretrained_model_name_or_path, return_unused_kwargs=True, **given
            )
            kwargs = {**unused, **kept}
        base = getattr(config, WEIGHTS_KEY, None)
        if base is None or kwargs.get("state_dict") is not None:
            return super().from_pretrained(pretrained_model_name_or_path, *model_args, config=config, **kwargs)
        config = copy.deepcopy(config)
        delattr(config, WEIGHTS_KEY)
        config._commit_hash = None
        kwargs = {name: value for name, value in kwargs.items() if name not in _OF_THIS_REPOSITORY}
        kwargs.update(revision=base["revision"], use_safetensors=True)
        try:
            return super().from_pretrained(base["repository"], *model_args, config=config, **kwargs)
        except OSError as error:
            raise OSError(_explain(pretrained_model_name_or_path, base, error, kwargs)) from error


def _explain(name, base: dict, error: BaseException, options: dict) -> str:
    """Why the base's weights could not be read, told by the Hub client's errors beneath transformers' own."""
    client = {key: value for key, value in options.items() if key in _OF_THE_CLIENT}
    try:  # transformers takes closed doors for missing files here; of a file that must be there, it says what is wrong
        cached_file(base["repository"], "config.json", **client)
    except OSError as reason:
        error = reason
    where = f"{base['repository']} (revision {base['revision']})"
    words = f"{name} holds no weights of its own, they are those of {where}"
    found, last, cause = set(), error, error
    while cause is not None:
        found.update(kind.__name__ for kind in type(cause).__mro__)
        cause, last = cause.__cause__ or cause.__context__, cause
    if "GatedRepoError" in found:
        return (
            f"{words}, which is gated and to which you have no access: accept its license on its Hub page, then log in "
            "with `hf auth login` or set HF_TOKEN."
        )
    if found & {"RevisionNotFoundError", "RepositoryNotFoundError"}:
        return f"{words}, which is not there any more or is private: log in, or ask the publisher for a new revision."
    if found & {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectionError", "TransportError"}:
        return f"{words}, which are not in the cache, and the Hub cannot be reached: load it once with the network."
    return f"{words}, which could not be read: {last}"

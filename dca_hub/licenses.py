"""What the licenses of the base models ask of whoever passes their weights on.

Read in the licenses' own texts: section 1.b of the Llama agreements, section 3 of the Tongyi Qianwen and Qwen
agreements, section 3.1 of Gemma's terms, section 4 of Apache 2.0. Whether a download is gated is a matter of the
repository, not of its license: see `catalogue.Entry.gated`. This is what packages and cards are made to carry, and no
legal advice.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dca_hub.errors import DcaHubError


@dataclass(frozen=True)
class License:
    """The demands of one license.

    `key` is what catalogue entries write; a card writes `hub_id` as `license:` and, where that is `other`, `key` as
    `license_name:` and `link` as `license_link:`. `notice` is the sentence that a text file called `notice_file` must
    hold, word for word. `display` must be shown prominently (a card is such a place). `name_prefix` must begin the name
    of every model made from the weights. `use_policy` binds whoever uses them. `states_changes`: modified files must
    say that they were changed.
    """

    key: str
    title: str
    link: str
    hub_id: str
    copy_needed: bool = True
    notice: str | None = None
    notice_file: str | None = None
    display: str | None = None
    name_prefix: str | None = None
    use_policy: str | None = None
    states_changes: bool = False


def _meta(version: str, title: str, notice: str, **demands: Any) -> License:
    return License(
        key=f"llama{version}", title=title, hub_id=f"llama{version}", notice=notice, notice_file="Notice", **demands
    )


_ALL = (
    License(
        key="apache-2.0",
        title="Apache License 2.0",
        link="https://www.apache.org/licenses/LICENSE-2.0",
        hub_id="apache-2.0",
        states_changes=True,
    ),
    _meta(
        "2",
        "Llama 2 Community License Agreement",
        "Llama 2 is licensed under the LLAMA 2 Community License, Copyright (c) Meta Platforms, Inc. "
        "All Rights Reserved.",
        link="https://ai.meta.com/llama/license/",
        use_policy="https://ai.meta.com/llama/use-policy",
    ),
    _meta(
        "3",
        "Meta Llama 3 Community License Agreement",
        "Meta Llama 3 is licensed under the Meta Llama 3 Community License, Copyright © Meta Platforms, Inc. "
        "All Rights Reserved.",
        link="https://llama.meta.com/llama3/license/",
        use_policy="https://llama.meta.com/llama3/use-policy",
        display="Built with Meta Llama 3",
        name_prefix="Llama 3",
    ),
    _meta(
        "3.1",
        "Llama 3.1 Community License Agreement",
        "Llama 3.1 is licensed under the Llama 3.1 Community License, Copyright © Meta Platforms, Inc. "
        "All Rights Reserved.",
        link="https://www.llama.com/llama3_1/license/",
        use_policy="https://www.llama.com/llama3_1/use-policy/",
        display="Built with Llama",
        name_prefix="Llama",
    ),
    _meta(
        "3.2",
        "Llama 3.2 Community License Agreement",
        "Llama 3.2 is licensed under the Llama 3.2 Community License, Copyright © Meta Platforms, Inc. "
        "All Rights Reserved.",
        link="https://www.llama.com/llama3_2/license/",
        use_policy="https://www.llama.com/llama3_2/use-policy/",
        display="Built with Llama",
        name_prefix="Llama",
    ),
    _meta(
        "3.3",
        "Llama 3.3 Community License Agreement",
        "Llama 3.3 is licensed under the Llama 3.3 Community License, Copyright © Meta Platforms, Inc. "
        "All Rights Reserved.",
        link="https://www.llama.com/llama3_3/license/",
        use_policy="https://www.llama.com/llama3_3/use-policy",
        display="Built with Llama",
        name_prefix="Llama",
    ),
    License(key="mit", title="MIT License", link="https://opensource.org/license/mit", hub_id="mit"),
    License(
        key="gemma",
        title="Gemma Terms of Use",
        link="https://ai.google.dev/gemma/terms",
        hub_id="gemma",
        notice="Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms",
        notice_file="Notice",
        use_policy="https://ai.google.dev/gemma/prohibited_use_policy",
        states_changes=True,
    ),
    License(
        key="qwen",
        title="Qwen License Agreement",
        link="https://huggingface.co/Qwen/Qwen2.5-72B-Instruct/blob/main/LICENSE",
        hub_id="other",
        notice="Qwen is licensed under the Qwen LICENSE AGREEMENT, Copyright (c) Alibaba Cloud. All Rights Reserved.",
        notice_file="Notice",
        display="Built with Qwen",
        states_changes=True,
    ),
    License(
        key="qwen-research",
        title="Qwen Research License Agreement",
        link="https://huggingface.co/Qwen/Qwen2.5-3B-Instruct/blob/main/LICENSE",
        hub_id="other",
        notice="Qwen is licensed under the Qwen RESEARCH LICENSE AGREEMENT, Copyright (c) Alibaba Cloud. "
        "All Rights Reserved.",
        notice_file="Notice",
        display="Built with Qwen",
        states_changes=True,
    ),
    License(
        key="tongyi-qianwen",
        title="Tongyi Qianwen License Agreement",
        link="https://huggingface.co/Qwen/Qwen1.5-7B-Chat/blob/main/LICENSE",
        hub_id="other",
        notice="Tongyi Qianwen is licensed under the Tongyi Qianwen LICENSE AGREEMENT, Copyright (c) Alibaba Cloud. "
        "All Rights Reserved.",
        notice_file="Notice",
        states_changes=True,
    ),
)
LICENSES = {license.key: license for license in _ALL}

_LICENSE_FILE = re.compile(
    r"(licen[cs]e|notice|copying|use_policy)(\.(md|txt|rst|pdf|html?|rtf)|-[a-z0-9.-]+)?", re.IGNORECASE
)


def find(key: str) -> License:
    """The license of that key, which is the Hub's identifier for all but those of Qwen.

    Raises DcaHubError when its demands are not known here: packaging then carries over the license files of the source
    and leaves the rest to the person who publishes.
    """
    try:
        return LICENSES[key.lower()]
    except KeyError:
        known = ", ".join(LICENSES)
        raise DcaHubError(
            f"Nothing is known here about the license {key!r} (only {known}): read it yourself."
        ) from None


def is_license_file(name: str) -> bool:
    """Whether a file of that name is a license, a notice or a use policy."""
    return _LICENSE_FILE.fullmatch(name) is not None


def license_files(folder: Path) -> list[Path]:
    """The license, notice and use-policy files at the top of a checkpoint's folder, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.is_file() and is_license_file(path.name))


def name_problem(license: License, repository: str) -> str | None:
    """Why a model of that name (`owner/name` or `name`) may not be published under the license, or None.

    Hyphens, underscores and blanks are one: `Llama-3-8B-DCA` begins with "Llama 3".
    """
    if license.name_prefix is None:
        return None
    name = repository.rpartition("/")[2]
    if re.sub(r"[-_ ]+", " ", name).lower().startswith(license.name_prefix.lower()):
        return None
    prefix = license.name_prefix.replace(" ", "-")
    return f"The {license.title} requires that the model's name begin with {prefix}: use {prefix}-..., not {name}."


def obligations(license: License) -> list[str]:
    """What the license asks of those who pass the model on, one sentence each, for a model card."""
    sentences = []
    if license.copy_needed:
        sentences.append(f"A copy of the {license.title} ({license.link}) goes with every copy of the weights.")
    if license.notice:
        sentences.append(f'A "{license.notice_file}" file says: "{license.notice}"')
    if license.display:
        sentences.append(f'"{license.display}" is displayed prominently.')
    if license.name_prefix:
        sentences.append(f'The name of a model made from it begins with "{license.name_prefix}".')
    if license.states_changes:
        sentences.append("Modified files are marked as modified.")
    if license.use_policy:
        sentences.append(f"Use is bound by the acceptable use policy ({license.use_policy}).")
    return sentences

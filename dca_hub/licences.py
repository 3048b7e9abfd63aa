"""What the licences of the base models ask of whoever passes their weights on.

Read in the licences' own texts: section 1.b of the Llama agreements, section 3 of the Tongyi Qianwen agreement,
section 4 of Apache 2.0. Whether a download is gated is a matter of the repository, not of its licence: see
`catalogue.Entry.gated`. This is what packages and cards are made to carry, and no legal advice.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from dca_hub.errors import UserError


@dataclass(frozen=True)
class Licence:
    """The demands of one licence.

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


def _meta(version: str, title: str, notice: str, **demands: str) -> Licence:
    return Licence(
        key=f"llama{version}", title=title, hub_id=f"llama{version}", notice=notice, notice_file="Notice", **demands
    )


_ALL = (
    Licence(
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
    Licence(
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
LICENCES = {licence.key: licence for licence in _ALL}

_LICENCE_FILE = re.compile(r"(licen[cs]e|notice|copying|use_policy)(\.[a-z]+|-[a-z0-9.-]+)?", re.IGNORECASE)


def find(key: str) -> Licence:
    """The licence of that key, which is the Hub's identifier for all but `tongyi-qianwen`.

    Raises UserError when its demands are not known here: packaging then carries over the licence files of the source
    and leaves the rest to the person who publishes.
    """
    try:
        return LICENCES[key.lower()]
    except KeyError:
        known = ", ".join(LICENCES)
        raise UserError(f"Nothing is known here about the licence {key!r} (only {known}): read it yourself.") from None


def licence_files(folder: Path) -> list[Path]:
    """The licence, notice and use-policy files at the top of a checkpoint's folder, sorted by name.

    How packaging uses this module, for weights that it copies, links or points at:

    1. Copy what this function finds in the source folder: the licence's own text is the publisher's to give, so none
       is kept here. When `copy_needed` and none of the files is a licence, say so with the licence's `link`.
    2. When `notice` is set and none of the copied files holds it, write it as the only line of `notice_file`.
    3. `name_problem(...)` before a repository name is accepted; `obligations(...)` and `display` go into the card.
    """
    return sorted(path for path in folder.iterdir() if path.is_file() and _LICENCE_FILE.fullmatch(path.name))


def name_problem(licence: Licence, repository: str) -> str | None:
    """Why a model of that name (`owner/name` or `name`) may not be published under the licence, or None.

    Hyphens, underscores and blanks are one: `Llama-3-8B-DCA` begins with "Llama 3".
    """
    if licence.name_prefix is None:
        return None
    name = repository.rpartition("/")[2]
    if re.sub(r"[-_ ]+", " ", name).lower().startswith(licence.name_prefix.lower()):
        return None
    prefix = licence.name_prefix.replace(" ", "-")
    return f"The {licence.title} wants the model's name to begin with {prefix}: call it {prefix}-... instead of {name}."


def obligations(licence: Licence) -> list[str]:
    """What the licence asks of those who pass the model on, one sentence each, for a model card."""
    sentences = []
    if licence.copy_needed:
        sentences.append(f"A copy of the {licence.title} ({licence.link}) goes with every copy of the weights.")
    if licence.notice:
        sentences.append(f'A "{licence.notice_file}" file says: "{licence.notice}"')
    if licence.display:
        sentences.append(f'"{licence.display}" is displayed prominently.')
    if licence.name_prefix:
        sentences.append(f'The name of a model made from it begins with "{licence.name_prefix}".')
    if licence.states_changes:
        sentences.append("Files that were modified say so.")
    if licence.use_policy:
        sentences.append(f"Use is bound by the acceptable use policy ({licence.use_policy}).")
    return sentences

"""What licenses ask, against their own words."""

import pytest

from dca_hub import catalogue, licenses
from dca_hub.errors import DcaHubError

# Section 1.b.iii of the Llama agreements, section 3.c of the Tongyi Qianwen agreement.
NOTICES = {
    "llama2": "Llama 2 is licensed under the LLAMA 2 Community License, Copyright (c) Meta Platforms, Inc. All Rights"
    " Reserved.",
    "llama3": "Meta Llama 3 is licensed under the Meta Llama 3 Community License, Copyright © Meta Platforms, Inc. All"
    " Rights Reserved.",
    "llama3.1": "Llama 3.1 is licensed under the Llama 3.1 Community License, Copyright © Meta Platforms, Inc. All"
    " Rights Reserved.",
    "llama3.2": "Llama 3.2 is licensed under the Llama 3.2 Community License, Copyright © Meta Platforms, Inc. All"
    " Rights Reserved.",
    "tongyi-qianwen": "Tongyi Qianwen is licensed under the Tongyi Qianwen LICENSE AGREEMENT, Copyright (c) Alibaba"
    " Cloud. All Rights Reserved.",
}


@pytest.mark.parametrize("key, notice", NOTICES.items())
def test_notice_word_for_word(key, notice):
    license = licenses.find(key)
    assert (license.notice, license.notice_file, license.copy_needed) == (notice, "Notice", True)
    assert any(notice in sentence for sentence in licenses.obligations(license))


@pytest.mark.parametrize(
    "key, display, prefix",
    [
        ("apache-2.0", None, None),
        ("llama2", None, None),
        ("llama3", "Built with Meta Llama 3", "Llama 3"),
        ("llama3.1", "Built with Llama", "Llama"),
        ("llama3.2", "Built with Llama", "Llama"),
        ("tongyi-qianwen", None, None),
    ],
)
def test_display_and_name(key, display, prefix):
    license = licenses.find(key)
    assert (license.display, license.name_prefix) == (display, prefix)
    assert license.hub_id == ("other" if key == "tongyi-qianwen" else key)


def test_every_license_of_the_catalogue_and_no_other():
    assert {entry.license for entry in catalogue.entries()} == set(licenses.LICENSES)


@pytest.mark.parametrize(
    "key, repository, fine",
    [
        ("llama3", "someone/Llama-3-8B-DCA", True),
        ("llama3", "someone/llama_3_8b_dca", True),
        ("llama3", "someone/Llama-DCA", False),
        ("llama3", "someone/Meta-Llama-3-8B-DCA", False),
        ("llama3.1", "Llama-3.1-8B-DCA", True),
        ("llama3.2", "llama/dca-3.2", False),
        ("llama2", "someone/anything", True),
        ("apache-2.0", "someone/anything", True),
    ],
)
def test_names(key, repository, fine):
    problem = licenses.name_problem(licenses.find(key), repository)
    assert (problem is None) is fine
    if not fine:
        assert repository.rpartition("/")[2] in problem


def test_license_files(tmp_path):
    wanted = ["LICENSE", "LICENSE.pdf", "LICENSE.txt", "Notice", "NOTICE.md", "USE_POLICY.md", "license-llama.txt"]
    for name in [*wanted, "README.md", "config.json", "notices.safetensors", "license_tool.py"]:
        (tmp_path / name).touch()
    (tmp_path / "licenses").mkdir()
    assert sorted(path.name for path in licenses.license_files(tmp_path)) == sorted(wanted)


def test_unknown_license():
    with pytest.raises(DcaHubError, match="deepseek"):
        licenses.find("deepseek")

"""Options, variables and the file of settings, and what is refused."""

import json

import pytest

from dca_hub.errors import DcaHubError
from dca_hub.space import settings


def test_options_win_over_variables_and_those_over_the_file(tmp_path):
    file = tmp_path / settings.FILE
    file.write_text(json.dumps({"max_pages": 5, "queue": 6, "port": 7}))
    read = settings.read(["--max-pages", "9", "--share"], {"DCA_MAX_PAGES": "8", "DCA_QUEUE": "4"}, file)
    assert (read.max_pages, read.queue, read.port, read.share) == (9, 4, 7, True)


def test_every_setting_is_an_option_and_a_variable():
    for name, value in {"max_file_mb": 3, "max_context": 70, "idle_minutes": 2, "port": 99, "cache_mb": 10}.items():
        assert getattr(settings.read([f"--{name.replace('_', '-')}", str(value)], {}), name) == value
        assert getattr(settings.read([], {f"DCA_{name.upper()}": str(value)}), name) == value


def test_the_size_of_a_file_is_the_one_that_the_browser_names():
    assert settings.read(["--max-file-mb", "3"], {}).limits.file_bytes == 3 * 1024 * 1024  # Gradio's megabytes


def test_a_space_is_public_and_offers_its_model_alone():
    read = settings.read([], {"SPACE_ID": "somebody/space"})
    assert read.public and read.host == "0.0.0.0" and read.choices() == ["demo"]
    local = settings.read([], {})
    assert not local.public and len(local.choices()) > 20


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--queue", "0"], {}),
        (["--quantization", "3bit"], {}),
        (["--models", "no-such-model"], {}),
        (["--public", "--any-model"], {}),
        ([], {"DCA_PORT": "many"}),
        ([], {"DCA_SHARE": "perhaps"}),
    ],
)
def test_wrong_settings_are_refused_in_a_sentence(arguments, environment):
    with pytest.raises(DcaHubError):
        settings.read(arguments, environment)

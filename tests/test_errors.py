"""One error, in the words of each face: Python, the command line, the browser."""

import argparse
import pickle

import pytest

from dca_hub.cli.fixes import words_for
from dca_hub.errors import DcaHubError, DoesNotFit, Fix
from dca_hub.space.failures import sentence

FITS = DoesNotFit("It needs 9 GB, and cpu has 8 GB free", Fix("give {}", "context", 4096), tokens=4096)
QUANTIZE = DoesNotFit("It does not fit", Fix("use {}", "quantization", "4bit"), "use a smaller model")


@pytest.mark.parametrize(
    "error, options, words",
    [
        (FITS, {"max_context": None}, "It needs 9 GB, and cpu has 8 GB free: give --max-context 4096."),
        (FITS, {"lengths": (1,)}, "It needs 9 GB, and cpu has 8 GB free: give --lengths 4096."),
        (FITS, {}, "It needs 9 GB, and cpu has 8 GB free."),
        (QUANTIZE, {"quantization": None}, "It does not fit: use --load-in-4bit, or use a smaller model."),
        (QUANTIZE, {}, "It does not fit: use a smaller model."),
        (DcaHubError("There", Fix("choose another {}", "out")), {"out": 1}, "There: choose another --out."),
        (
            DcaHubError("There", Fix("replace it with {}", "force", True)),
            {"force": 0},
            "There: replace it with --force.",
        ),
        (DcaHubError("Plain: do so."), {}, "Plain: do so."),
    ],
)
def test_a_command_names_its_own_options_and_no_others(error, options, words):
    assert error.told(words_for(argparse.Namespace(**options))) == words


def test_python_names_the_argument():
    assert str(FITS) == "It needs 9 GB, and cpu has 8 GB free: give context=4096."
    assert str(QUANTIZE) == "It does not fit: use quantization='4bit', or use a smaller model."


def test_the_browser_names_what_is_on_the_page():
    assert sentence(FITS) == "It needs 9 GB, and cpu has 8 GB free: choose fewer pages."
    assert "--" not in sentence(QUANTIZE) and "=" not in sentence(QUANTIZE)
    assert sentence(DcaHubError("There", Fix("choose another {}", "out"))) == "There."


def test_an_error_crosses_processes_with_its_words():
    assert str(pickle.loads(pickle.dumps(DcaHubError("There", Fix("choose another {}", "out"))))) == str(
        DcaHubError("There", Fix("choose another {}", "out"))
    )
    assert FITS.tokens == 4096

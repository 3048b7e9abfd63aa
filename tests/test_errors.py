"""One error, in the words of each face: Python, the command line, the browser."""

import argparse
import ast
import pickle
import re
from pathlib import Path

import pytest

import dca_hub
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


def _worded(call: ast.Call) -> list[str]:
    return [node.value for node in ast.walk(call) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def test_the_library_names_no_options_of_its_commands():
    """Its errors are shown where those options do not exist: in Python, under another command, in the browser."""
    root, found = Path(dca_hub.__file__).parent, []
    for path in root.rglob("*.py"):
        # The faces name their own options, the plug-in those of vLLM.
        if path.relative_to(root).parts[0] in ("cli", "vllm_plugin") or path.name in ("settings.py", "build.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("DcaHubError", "DoesNotFit", "Fix"):
                found += [f"{path.name}: {words}" for words in _worded(node) if re.search(r"(^|\s)--[a-z]", words)]
    # Of other programs, and of a command that the sentence names.
    others = ("llama-gguf-split", "torchrun", "dca-hub", "package the model")
    assert [line for line in found if not any(other in line for other in others)] == []


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

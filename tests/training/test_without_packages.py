"""Without the optional packages fine-tuning says what to install."""

import pytest

from dca_hub import cli
from dca_hub.errors import DcaHubError
from dca_hub.training.finetune import require


def test_a_package_that_is_not_there_is_named():
    with pytest.raises(DcaHubError, match="surely_not_there: pip install -r requirements-finetune"):
        require("surely_not_there")


def test_missing_data_has_its_sentence(folder, tmp_path, capsys):
    pytest.importorskip("trl", reason="needs the optional packages: pip install -r requirements-finetune.txt")
    command = ["finetune", str(folder), "--data", str(tmp_path / "none.json"), "--out", str(tmp_path / "out")]
    assert cli.main(command) == 2
    assert "cannot be read" in capsys.readouterr().err

"""Loads saved DCA models as a stranger would: a script of its own, in a process that knows nothing of dca_hub.

Usage: stranger.py FOLDER, where each folder in FOLDER holds a saved model. What was found is printed as JSON.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification


def main(folder: Path) -> None:
    torch.manual_seed(0)
    ids = torch.load(folder / "ids.pt", weights_only=True)
    found = {}
    for saved in sorted(path for path in folder.iterdir() if path.is_dir()):
        found[saved.name] = look_at(saved, ids)
    found["dca_hub was imported"] = any(name.partition(".")[0] == "dca_hub" for name in sys.modules)
    print(json.dumps(found))


@torch.no_grad()
def look_at(saved: Path, ids: torch.Tensor) -> dict:
    trusted = {"trust_remote_code": True, "local_files_only": True}
    auto = getattr(transformers, (saved / "auto_class").read_text())
    model, report = auto.from_pretrained(saved, output_loading_info=True, **trusted)
    out = model(ids)
    logits = out.last_hidden_state if hasattr(out, "last_hidden_state") else out.logits
    found = {
        "class": type(model).__name__,
        "problems": sorted(key for key, value in report.items() if value),
        "equal": torch.equal(logits, torch.load(saved / "expected.pt", weights_only=True)),
        "loader's config": type(AutoConfig.from_pretrained(saved, **trusted)).__name__,
    }
    found["experts"] = getattr(model.config, "_experts_implementation", None)
    again = saved / "again"
    model.save_pretrained(again)
    reloaded = auto.from_pretrained(again, **trusted)
    first, second = (json.loads((path / "config.json").read_text()) for path in (saved, again))
    found["config kept"] = first == second or sorted(first.items() ^ second.items(), key=str)
    found["files kept"] = {p.name for p in again.glob("*.py")} == {p.name for p in saved.glob("*.py")}
    again_out = reloaded(ids)
    again_logits = again_out.last_hidden_state if hasattr(again_out, "last_hidden_state") else again_out.logits
    found["equal again"] = torch.equal(again_logits, logits)
    found["untrusted"] = refusal(auto, saved)
    found["refused attention"] = refusal(auto, saved, attn_implementation="flash_attention_2", **trusted)
    found["served attention"] = refusal(auto, saved, attn_implementation="dca", **trusted)
    if auto is AutoModelForCausalLM:
        text = model.generate(ids, max_new_tokens=5, do_sample=False, pad_token_id=0)
        found["generated"] = text[0, ids.shape[1] :].tolist()
        others = [one.from_pretrained(saved, **trusted) for one in (AutoModel, AutoModelForSequenceClassification)]
        found["other heads"] = [type(other).__name__ for other in others]
        hidden = model.base_model(ids)[0]
        found["other heads equal"] = [torch.equal(other.base_model(ids)[0], hidden) for other in others]
    return found


def refusal(auto, saved: Path, **options) -> str | None:
    try:
        auto.from_pretrained(saved, **{"local_files_only": True, **options})
    except (ValueError, ImportError) as error:
        return str(error)
    return None


main(Path(sys.argv[1]))

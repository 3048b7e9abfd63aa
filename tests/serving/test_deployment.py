"""The files of deploy/ agree with the command line, with each other and with docs/deployment.md."""

import argparse
import re
import shlex
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from dca_hub import catalogue, cli
from dca_hub.serving.memory_table import NAMES, cache_tokens, requests_table
from dca_hub.space.settings import Settings
from dca_hub.vllm_plugin import VLLM_VERSIONS

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
GUIDE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
CONTAINERFILE = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
TARGETS = dict(re.findall(r"--target (\S+) +-t (\S+)", CONTAINERFILE))
OPTIONS_OF_SPACE = {f"--{field.name.replace('_', '-')}" for field in fields(Settings)}


def filled(text: str) -> str:
    """With the defaults of its variables, as compose fills them."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def compose(name: str) -> dict:
    return yaml.safe_load(filled((DEPLOY / name).read_text(encoding="utf-8")))["services"]


def served(arguments: list[str]) -> argparse.Namespace:
    return cli._parser().parse_args(["serve", *arguments])


def check_space(arguments: list[str]) -> dict[str, str]:
    """Its options exist; gives their values."""
    flat = [part for argument in arguments for part in argument.split("=", 1)]
    given = {option: value for option, value in zip(flat, [*flat[1:], ""]) if option.startswith("--")}
    assert set(given) <= OPTIONS_OF_SPACE
    return given


def test_the_images_are_targets_of_the_container_file():
    stages = re.findall(r"^FROM \S+ AS (\S+)$", CONTAINERFILE, re.MULTILINE)
    assert sorted(TARGETS) == sorted(stages)
    version = re.search(r"^ARG VLLM=(\d+\.\d+)", CONTAINERFILE, re.MULTILINE)[1]
    assert version in VLLM_VERSIONS
    assert f"VLLM:-{version}" in (DEPLOY / "install_vllm_cpu.sh").read_text()
    for source in re.findall(r"^COPY (\S+) ", CONTAINERFILE, re.MULTILINE):
        assert (ROOT / source).exists()
    commands = [yaml.safe_load(line) for line in re.findall(r"^CMD (\[.*\])$", CONTAINERFILE, re.MULTILINE)]
    for command in commands[:2]:
        assert served(command).host == "0.0.0.0"
    check_space(commands[2])


@pytest.mark.parametrize("gpu", [False, True])
def test_compose(gpu):
    model, space = (compose("compose.yaml")[name] for name in ("model", "space"))
    if gpu:
        over = compose("compose.gpu.yaml")["model"]
        assert set(over["build"]) == {"target"}
        assert over["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
        model = model | over | {"build": model["build"] | over["build"]}
    for service in (model, space):
        assert TARGETS[service["build"]["target"]] == service["image"]
        assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    args, given = served(model["command"]), check_space(space["command"])
    assert args.host == given["--host"] == "0.0.0.0" and args.model == given["--model"]
    assert given["--endpoint"] == f"http://model:{args.port}"
    assert model["ports"] == [f"127.0.0.1:{args.port}:{args.port}"]
    assert space["ports"] == [f"127.0.0.1:{given['--port']}:{given['--port']}"]
    assert str(args.port) in model["healthcheck"]["test"][-1]
    assert space["depends_on"]["model"]["condition"] == "service_healthy"
    assert model["environment"]["VLLM_API_KEY"] == space["environment"]["OPENAI_API_KEY"]
    volumes = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["volumes"]
    assert {volume.partition(":")[0] for service in (model, space) for volume in service["volumes"]} == set(volumes)


def test_kubernetes():
    found = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")))
    by_kind = {(one["kind"], one["metadata"]["name"]): one["spec"] for one in found}
    assert len(by_kind) == len(found) == 5
    arguments = {}
    for name in ("dca-hub-model", "dca-hub-space"):
        deployment, service = by_kind["Deployment", name], by_kind["Service", name]
        labels, pod = deployment["template"]["metadata"]["labels"], deployment["template"]["spec"]
        assert deployment["selector"]["matchLabels"] == service["selector"] == labels
        [container], [port] = pod["containers"], service["ports"]
        assert container["image"] in TARGETS.values()
        assert {one["name"]: one["containerPort"] for one in container["ports"]} == {port["targetPort"]: port["port"]}
        mounted = {mount["name"] for mount in container.get("volumeMounts", ())}
        assert mounted == {volume["name"] for volume in pod.get("volumes", ())}
        probes = [probe for key, probe in container.items() if key.endswith("Probe")]
        assert all(port["name"] in str(probe) for probe in probes) and len(probes) >= 2
        keys = {env["valueFrom"]["secretKeyRef"]["key"] for env in container["env"]}
        assert keys == {"api-key", "hf-token"}
        arguments[name] = container["args"]
    args, given = served(arguments["dca-hub-model"]), check_space(arguments["dca-hub-space"])
    assert args.host == "0.0.0.0" and args.model == given["--model"]
    assert given["--endpoint"] == f"http://dca-hub-model:{args.port}"
    assert by_kind["Service", "dca-hub-model"]["ports"][0]["port"] == args.port
    volumes = by_kind["Deployment", "dca-hub-model"]["template"]["spec"]["volumes"]
    claims = [one["persistentVolumeClaim"]["claimName"] for one in volumes if "persistentVolumeClaim" in one]
    assert claims and all(("PersistentVolumeClaim", claim) in by_kind for claim in claims)


@pytest.mark.parametrize("script", sorted(DEPLOY.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_parse_and_say_how_they_are_called(script):
    assert subprocess.run(["bash", "-n", script], capture_output=True, check=False).returncode == 0
    said = subprocess.run(["bash", script], capture_output=True, text=True, check=False)
    assert said.returncode == 2 and script.name in said.stderr


def test_the_tables_of_the_guide_are_the_catalogues():
    shown = re.search(r"<!-- requests table -->\n(.*?)\n<!-- end", GUIDE, re.DOTALL)[1]
    assert shown == requests_table([catalogue.find(name) for name in NAMES])
    entry = catalogue.find("llama-2-7b-chat")
    left = 2 * 80e9 * 0.9 - entry.weights_bytes("bfloat16") * 1.05
    assert cache_tokens(entry, 2) == int(left / (2 * 32 * 32 * 128 * 2))


@pytest.mark.parametrize("command", re.findall(r"^dca-hub (.*)$", GUIDE, re.MULTILINE))
def test_every_command_of_the_guide_is_one(command):
    assert cli._parser().parse_args(shlex.split(command)).command in ("serve", "verify", "ask")


def test_the_files_that_the_guide_names_exist():
    named = set(re.findall(r"deploy/[\w.-]+", GUIDE))
    assert named and all((ROOT / name).is_file() for name in named)

"""What docker/ holds: linted, held to schemas, read by Ray. No Docker engine; docker/verify.sh builds it."""

import json
import re
import shlex
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import compose_spec
import jsonschema
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml  # type: ignore[import-untyped]
from ray._private.ray_constants import get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import create_package
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.scripts.scripts import start
from road import REPOSITORY

DOCKER = REPOSITORY / "docker"
BIN = Path(sys.executable).parent
MAIN, CHALLENGE = DOCKER / "Dockerfile", DOCKER / "challenge" / "Dockerfile"
SCRIPTS = [*DOCKER.glob("*.sh"), *DOCKER.glob("challenge/*.sh")]
KUBERNETES = ("1.30", "1.37")
KUBERAY = json.loads((REPOSITORY / "tests" / "schemas" / "kuberay.json").read_text())
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?:(:-|:\?)([^}]*))?\}")

Document = dict[str, Any]
Change = Callable[[Document], object]


# images


def lint(tool: str, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / tool), *arguments], input=text, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("path", [MAIN, CHALLENGE], ids=["main", "challenge"])
def test_dockerfile_has_no_finding(path: Path) -> None:
    found = lint("hadolint", "--no-color", str(path))
    assert (found.returncode, found.stdout) == (0, "")


def test_linter_finds_what_is_wrong() -> None:
    found = lint("hadolint", "--no-color", "-", text="FROM debian\nRUN sudo pip install torch\n")
    assert found.returncode == 1
    assert {"DL3006", "DL3004"} <= set(re.findall(r"DL\d+", found.stdout))


def test_scripts_have_no_finding() -> None:
    found = lint("shellcheck", *map(str, SCRIPTS))
    assert (found.returncode, found.stdout) == (0, "")


def instructions(path: Path, name: str) -> list[str]:
    text = re.sub(r"\\\n\s*", "", path.read_text())
    return [line.removeprefix(name).strip() for line in text.splitlines() if line.startswith(name + " ")]


def test_base_is_pinned_by_digest() -> None:
    base = next(a for a in instructions(MAIN, "ARG") if a.startswith("BASE="))
    assert re.fullmatch(r"BASE=python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", base)
    assert {f.split()[0] for f in instructions(MAIN, "FROM")} == {"${BASE}"}


def test_image_does_not_run_as_root() -> None:
    assert instructions(MAIN, "USER") == ["1000"]


def test_context_is_what_the_dockerfile_copies_and_no_more() -> None:
    copied = {
        source
        for copy in instructions(MAIN, "COPY")
        if not copy.startswith("--from")
        for source in copy.split()[:-1]
    }
    lines = [line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line[:1] != "#"]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == copied
    assert all((REPOSITORY / source).exists() for source in copied)


def test_packages_are_installed_by_the_constraints_alone() -> None:
    calls = re.findall(r"pip install ([^&\\]*)", "&&".join(instructions(MAIN, "RUN")))
    assert len(calls) == 3
    assert all("-c constraints.txt" in call or "--no-deps" in call for call in calls)


# compose


def compose(values: dict[str, str] | None = None) -> Document:
    """compose.yaml with its variables filled in, by compose's rules; a KeyError where one has to be given."""

    def value(match: re.Match[str]) -> str:
        name, kind, default = match.groups()
        given = (values or {}).get(name)
        return given or (default if kind == ":-" else (values or {})[name])

    loaded: Document = yaml.safe_load(VARIABLE.sub(value, (DOCKER / "compose.yaml").read_text()))
    return loaded


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What secrets.sh writes, in a folder of its own."""
    folder = tmp_path_factory.mktemp("docker")
    shutil.copy(DOCKER / "secrets.sh", folder)
    subprocess.run(["sh", folder / "secrets.sh"], check=True)
    path = folder / ".env"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = subprocess.run(["sh", folder / "secrets.sh"], capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert again.stderr.startswith("error: ")
    return dict(line.split("=") for line in path.read_text().splitlines())


def check_compose(document: Document) -> None:
    compose_spec.PyCompose.from_json(json.dumps(document)).validate()
    services = document["services"]
    for service in services.values():
        assert service.get("depends_on", {}).keys() <= services.keys()
        named = {v.split(":")[0] for v in service.get("volumes", ()) if v[0] not in "./"}
        assert named <= document["volumes"].keys()


def test_compose_file_holds_to_the_specification(secrets: dict[str, str]) -> None:
    check_compose(compose(secrets))


@pytest.mark.parametrize(
    "change",
    [
        lambda head: head.update(imagee="x"),
        lambda head: head.update(secrets=["unknown"]),
        lambda head: head.update(volumes=["unknown:/x"]),
        lambda head: head.update(mem_limit="much"),
        lambda head: head.update(depends_on={"unknown": {"condition": "service_started"}}),
        lambda head: head.update(depends_on={"store": {"condition": "service_well"}}),
        lambda head: head["healthcheck"].update(interval="soon"),
    ],
    ids=["key", "secret", "volume", "memory", "service", "condition", "duration"],
)
def test_compose_file_with_a_defect_is_refused(secrets: dict[str, str], change: Change) -> None:
    document = deepcopy(compose(secrets))
    change(document["services"]["head"])
    with pytest.raises((ValueError, AssertionError)):
        check_compose(document)


def test_secrets_are_new_each_time_and_stand_in_no_file(secrets: dict[str, str]) -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", secrets["RAY_TOKEN"])
    assert secrets["RAY_TOKEN"] != secrets["S3_SECRET"]
    with pytest.raises(KeyError):
        compose()
    ignored = (DOCKER / ".gitignore").read_text().splitlines()
    assert ".env" in ignored


def test_token_is_a_file_in_the_nodes_and_in_no_environment(secrets: dict[str, str]) -> None:
    document = compose(secrets)
    assert secrets["RAY_TOKEN"] not in json.dumps(document)
    for name in ("head", "worker", "gpu-worker"):
        node = document["services"][name]
        assert node["environment"]["RAY_AUTH_MODE"] == "token"
        assert node["environment"]["RAY_AUTH_TOKEN_PATH"] == f"/run/secrets/{node['secrets'][0]}"


def test_only_the_dashboard_is_published_and_on_loopback_alone(secrets: dict[str, str]) -> None:
    services = compose(secrets)["services"]
    assert [p for s in services.values() for p in s.get("ports", ())] == ["127.0.0.1:8265:8265"]


def test_foreign_images_are_pinned_by_digest(secrets: dict[str, str]) -> None:
    images = {s["image"] for s in compose(secrets)["services"].values()} - {"pwsseg:cpu", "pwsseg:gpu"}
    assert images
    assert all(re.search(r"@sha256:[0-9a-f]{64}$", image) for image in images)


def test_ray_takes_the_options_that_nodes_start_with(secrets: dict[str, str]) -> None:
    services = compose(secrets)["services"]
    head = started(services["head"]["command"])
    assert head["head"]
    for name in ("worker", "gpu-worker"):
        assert started(services[name]["command"])["address"] == f"head:{head['port']}"


def started(command: list[str]) -> dict[str, Any]:
    """The options of `ray start`, parsed by Ray and not run."""
    assert command[:2] == ["ray", "start"]
    return start.make_context("start", command[2:]).params  # type: ignore[no-any-return]


def test_ray_takes_the_options_of_the_slurm_script() -> None:
    script = re.sub(r"\\\n\s*", "", (DOCKER / "slurm.sh").read_text())
    common = re.search(r"(ray start .*) \"\$\{@:2\}\"", script)
    assert common
    numbers = re.sub(r'"\$\w+"', "1", common[1])
    rest = re.findall(r'^\s*start "\$\w+" (.*)$', script, re.MULTILINE)
    assert len(rest) == 2
    for options in rest:
        filled = re.sub(r"\$\(\(.*?\)\)|\"\$port\"", "1", options).replace('"$RAY_ADDRESS"', "head:1")
        assert started(shlex.split(f"{numbers} {filled}"))["num_gpus"] == 1


# KubeRay


def manifest(name: str) -> Document:
    loaded: Document = yaml.safe_load((DOCKER / "kuberay" / name).read_text())
    return loaded


def pods(document: Document) -> list[Document]:
    spec = document["spec"]
    ours = [spec["submitterPodTemplate"]] if "submitterPodTemplate" in spec else []
    cluster = spec.get("rayClusterSpec", spec)
    return [
        *ours,
        cluster["headGroupSpec"]["template"],
        *(g["template"] for g in cluster["workerGroupSpecs"]),
    ]


def check_kuberay(document: Document) -> None:
    jsonschema.validate(document, KUBERAY)
    for template in pods(document):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": template["spec"]}
        for version in KUBERNETES:
            kubernetes_validate.validate(pod, version, strict=True)


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_manifest_holds_to_kuberay_and_kubernetes(name: str) -> None:
    check_kuberay(manifest(name))


def worker_pod(document: Document) -> Document:
    spec: Document = document["spec"]["workerGroupSpecs"][1]["template"]["spec"]
    return spec


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["spec"].update(enableAutoscaling=True),
        lambda d: d["spec"]["workerGroupSpecs"][0].update(maxReplicas="8"),
        lambda d: d["spec"]["workerGroupSpecs"][0].update(rayStartParams={"num-cpus": 8}),
        lambda d: d["spec"]["authOptions"].update(mode="open"),
        lambda d: worker_pod(d).update(toleration=[]),
        lambda d: worker_pod(d)["containers"][0].update(image=None, name=1),
        lambda d: worker_pod(d)["containers"][0]["securityContext"].update(runAsNotRoot=True),
    ],
    ids=["field", "count", "number", "mode", "pod-field", "container", "security"],
)
def test_manifest_with_a_defect_is_refused(change: Change) -> None:
    document = deepcopy(manifest("raycluster.yaml"))
    change(document)
    with pytest.raises(jsonschema.ValidationError):
        check_kuberay(document)


def test_needs_hold_to_kubernetes_and_are_all_that_pods_mount() -> None:
    needs = list(yaml.safe_load_all((DOCKER / "kuberay" / "needs.yaml").read_text()))
    for document in needs:
        for version in KUBERNETES:
            kubernetes_validate.validate(document, version, strict=True)
    there = {(d["kind"], d["metadata"]["name"]) for d in needs}
    text = (DOCKER / "kuberay" / "raycluster.yaml").read_text()
    claims = {("PersistentVolumeClaim", n) for n in re.findall(r"claimName: ([\w-]+)", text)}
    assert claims | {("ConfigMap", n) for n in re.findall(r"configMapRef: {name: ([\w-]+)}", text)} == there


def test_job_runs_on_the_cluster_of_the_other_manifest() -> None:
    assert manifest("rayjob.yaml")["spec"]["rayClusterSpec"] == manifest("raycluster.yaml")["spec"]


def test_version_of_ray_is_that_of_the_image() -> None:
    pinned = re.search(r"^ray==(.*)$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    assert manifest("raycluster.yaml")["spec"]["rayVersion"] == pinned[1]


def groups() -> dict[str, Document]:
    """Worker groups as Ray's autoscaler reads them from the manifest."""
    document = manifest("raycluster.yaml")
    document["metadata"]["namespace"] = "default"
    types: dict[str, Document] = _derive_autoscaling_config_from_ray_cr(document)["available_node_types"]
    return types


def test_autoscaler_reads_pools_that_shrink_to_nothing() -> None:
    found = groups()
    assert found.pop("headgroup")["resources"]["CPU"] == 0
    assert {name for name, g in found.items() if g["resources"].get("GPU")} == {"gpu", "gpu-spot"}
    assert all(g["min_workers"] == 0 < g["max_workers"] for g in found.values())
    assert found["gpu-spot"]["priority"] > found["gpu"].get("priority", 0)


def test_job_asks_for_no_more_than_the_groups_can_give() -> None:
    words = shlex.split(manifest("rayjob.yaml")["spec"]["entrypoint"])
    asked = {kind: int(words[words.index(f"--{kind.lower()}s") + 1]) for kind in ("GPU", "CPU")}
    for kind, number in asked.items():
        assert 0 < number <= sum(g["max_workers"] * g["resources"].get(kind, 0) for g in groups().values())
    script = words[words.index("--") + 2]
    assert (REPOSITORY / script).is_file()


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_pods_are_not_root_and_hold_no_secret(name: str) -> None:
    for template in pods(manifest(name)):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"]
        for container in spec["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert not [e for e in container.get("env", ()) if re.search("KEY|SECRET|TOKEN", e["name"])]


# what a job carries


def test_copy_that_a_job_carries_is_small_and_holds_all_that_it_runs(tmp_path: Path) -> None:
    """Packed by Ray itself, as for `ray job submit --working-dir .`."""
    create_package(
        str(REPOSITORY),
        tmp_path / "copy.zip",
        include_gitignore=True,
        excludes=get_runtime_env_default_excludes(),
    )
    packed = set(zipfile.ZipFile(tmp_path / "copy.zip").namelist())
    listed = subprocess.run(
        ["git", "ls-files", "jobs", "pwsseg"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert set(listed.stdout.split()) <= packed
    assert {name for name in packed if name.split("/")[0] in ("tests", "docs", "benchmarks")} == set()
    assert (tmp_path / "copy.zip").stat().st_size < 2_000_000


@pytest.mark.parametrize("page", ["docs/cluster.md", "docker/README.md"])
def test_files_that_the_manual_names_are_there(page: str) -> None:
    text = (REPOSITORY / page).read_text()
    named = set(re.findall(r"\b(?:docker|jobs|tests)/[\w./-]+\.(?:py|sh|yaml)\b", text))
    assert named
    assert not [name for name in named if not (REPOSITORY / name).is_file()]

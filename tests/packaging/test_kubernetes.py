"""scripts/kubernetes: objects that the API server accepts, and a rule that taints exactly the nodes without SVM."""

from __future__ import annotations

import datetime
import json
import lzma
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions

from kvmprobe.formats import render
from kvmprobe.judge import judge
from tests.helpers import manifests
from tests.helpers import nfd_rules as reader
from tests.helpers.recorded_evidence import RECORDED, recorded, recorded_name
from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT

# From the first one that knows recursiveReadOnly to the newest.
VERSIONS = (next(one for one in all_versions() if one.startswith("1.30.")), all_versions()[-1])
OBJECTS = {
    f"{name} {each['kind']}": each
    for name in manifests.FILES
    for each in manifests.objects(name)
    if each["apiVersion"].partition("/")[0] in ("v1", "apps", "networking.k8s.io")
}
RULE = manifests.only("nodefeaturerule.yaml", "NodeFeatureRule")

NFD = reader.NAMESPACE
READY = {f"{NFD}/kvm-svm.ready": "true"}
FAILED = (f"{NFD}/kvm-svm.not-ready", "failed", "NoSchedule")
UNKNOWN = (f"{NFD}/kvm-svm.not-ready", "unknown", "PreferNoSchedule")


# The objects


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OBJECTS)
def test_the_published_schemas_accept_it(name: str, version: str) -> None:
    kubernetes_validate.validate(OBJECTS[name], version, strict=True)


@pytest.mark.parametrize("place", ["", "/spec/template/spec", "/spec/template/spec/containers/0/securityContext"])
def test_the_schemas_reject_an_unknown_field(place: str) -> None:
    broken = json.loads(json.dumps(OBJECTS["daemonset.yaml DaemonSet"]))
    at = broken
    for step in filter(None, place.split("/")):
        at = at[int(step) if step.isdigit() else step]
    at["priviledged"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[1], strict=True)


def test_rules_beyond_the_schemas() -> None:
    daemonset = manifests.only("daemonset.yaml", "DaemonSet")
    labels = daemonset["spec"]["template"]["metadata"]["labels"]
    assert daemonset["spec"]["selector"]["matchLabels"] == labels
    accounts = {each["metadata"]["name"] for each in manifests.objects("namespace.yaml") if "rules" not in each}
    assert manifests.pod()["serviceAccountName"] in accounts
    volumes = {volume["name"] for volume in manifests.pod()["volumes"]}
    mounted = {mount["name"] for each in manifests.containers().values() for mount in each["volumeMounts"]}
    assert volumes == mounted
    for each in manifests.containers().values():
        security = each["securityContext"]
        # "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
        assert security.get("privileged", False) == ("allowPrivilegeEscalation" not in security)
        # The runtime could not create the default one: /dev is the node's, and read-only.
        assert not each["terminationMessagePath"].startswith("/dev")
    for each in OBJECTS.values():
        if each["kind"] not in ("Namespace", "Pod"):
            assert each["metadata"]["namespace"] == "kvmprobe"


def test_the_containers_have_exactly_these_rights() -> None:
    """What a security review looks for."""
    pod = manifests.pod()
    assert pod["automountServiceAccountToken"] is False
    assert not [name for name in pod if name.startswith("host")]  # hostPID, hostNetwork, hostIPC
    rights = {}
    for name, each in manifests.containers().items():
        security = each["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        privileged = security.get("privileged", False)
        # A runtime drops no capability of a privileged container; node.py does.
        capabilities = security.get("capabilities", {"drop": ["ALL"], "add": ["all"]})
        assert ("capabilities" in security) != privileged
        assert capabilities["drop"] == ["ALL"]
        assert set(each["resources"]["limits"]) == {"memory"}
        writable = {mount["mountPath"] for mount in each["volumeMounts"] if not mount.get("readOnly")}
        rights[name] = (privileged, capabilities["add"], writable)
    assert rights == {
        "prepare": (False, ["SYS_CHROOT", "SYS_MODULE"], {"/opt/kvmprobe"}),
        "kvmprobe": (True, ["all"], {"/features.d"}),
    }


def test_the_image_is_pinned_and_the_paths_of_the_node_are_read_only_with_all_below() -> None:
    pod = manifests.pod()
    of_the_node = {volume["name"] for volume in pod["volumes"] if "hostPath" in volume} - {"features"}
    images = {each["image"] for each in manifests.containers().values()}
    assert len(images) == 1
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+\.\d+-slim@sha256:[0-9a-f]{64}", images.pop())
    for each in manifests.containers().values():
        for mount in each["volumeMounts"]:
            if mount["name"] in of_the_node:
                assert (mount["readOnly"], mount["recursiveReadOnly"]) == (True, "IfPossible")


def test_it_runs_on_tainted_nodes() -> None:
    """Also on those that our own rule taints."""
    assert manifests.pod()["tolerations"] == [{"operator": "Exists"}]


@pytest.fixture(scope="module")
def packed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the folder with the program, made as kustomization.yaml describes."""
    folder = tmp_path_factory.mktemp("kubernetes") / "kubernetes"
    shutil.copytree(manifests.FOLDER, folder)
    xz = ["xz", "-9", "-c", str(built / "kvmprobe.pyz")]
    (folder / "kvmprobe.pyz.xz").write_bytes(subprocess.run(xz, capture_output=True, check=True).stdout)
    return folder


def test_the_program_fits(packed: Path, built: Path) -> None:
    """The limit of a ConfigMap is 1 MiB; half of that leaves room to grow."""
    size = sum((packed / name).stat().st_size for name in ("kvmprobe.pyz.xz", "node.py"))
    assert size < 512 << 10
    assert lzma.decompress((packed / "kvmprobe.pyz.xz").read_bytes()) == (built / "kvmprobe.pyz").read_bytes()


def test_kustomize_combines_the_files(packed: Path) -> None:
    if not shutil.which("kubectl"):
        if os.environ.get("KVMPROBE_REQUIRE_KERNELS"):
            pytest.fail("kubectl is not installed")
        pytest.skip("kubectl is not installed")
    done = subprocess.run(
        ["kubectl", "kustomize", str(packed)], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    made = {each["kind"]: each for each in yaml.safe_load_all(done.stdout)}
    files = manifests.objects("kustomization.yaml")[0]["resources"]
    assert set(made) == {each["kind"] for name in files for each in manifests.objects(name)} | {"ConfigMap"}
    config = made["ConfigMap"]
    assert set(config["binaryData"]) | set(config["data"]) == {"kvmprobe.pyz.xz", "node.py"}
    volumes = {volume["name"]: volume for volume in made["DaemonSet"]["spec"]["template"]["spec"]["volumes"]}
    # The name contains a hash, so a new program starts new pods.
    assert volumes["config"]["configMap"]["name"] == config["metadata"]["name"] != "kvmprobe"
    assert made["NodeFeatureRule"] == RULE
    for each in made.values():
        if each["kind"] != "NodeFeatureRule":
            kubernetes_validate.validate(each, VERSIONS[1], strict=True)


def test_the_container_writes_where_nfd_reads() -> None:
    (mount,) = (each for each in manifests.containers()["kvmprobe"]["volumeMounts"] if each["name"] == "features")
    (volume,) = (each for each in manifests.pod()["volumes"] if each["name"] == "features")
    assert volume["hostPath"]["path"] == "/etc/kubernetes/node-feature-discovery/features.d"
    variables = {each["name"]: each["value"] for each in manifests.containers()["kvmprobe"]["env"]}
    assert variables["KVMPROBE_FEATURES"] == f"{mount['mountPath']}/kvmprobe"
    assert 2 * int(variables["KVMPROBE_PERIOD"]) < 26 * 3600  # one run may fail


# The rule


def node(report: Any, vendor: str = "AMD", hours: float = 1) -> reader.Node:
    """What NFD does to a node some hours after the check; without a report: if there is no feature file."""
    features: Mapping[str, str] = {}
    if report is not None:
        taken = datetime.datetime.strptime(report["evidence"]["taken_at"], "%Y-%m-%dT%H:%M:%S%z")
        features = reader.read(render(report, "nfd").encode(), taken + datetime.timedelta(hours=hours)).features
    return reader.evaluate(RULE, {"local.feature": dict(features), "cpu.model": {"vendor_id": vendor}})


@pytest.mark.parametrize("path", RECORDED, ids=recorded_name)
def test_labels_and_taints_of_a_node(path: Path) -> None:
    report = json.loads(path.read_text())
    expected: dict[str, reader.Node] = {
        "confirmed": reader.Node(READY, set()),
        "usable": reader.Node(READY, set()),
        "failed": reader.Node({}, {FAILED}),
        "inconclusive": reader.Node({}, {UNKNOWN}),
        "not applicable": reader.Node({}, set()),
    }
    assert node(report) == expected[report["verdict"]["status"]]


def test_a_usable_node_is_ready() -> None:
    """No recorded report has this verdict yet, so the feature is given as it would be read."""
    features = {f"{NFD}/kvmprobe.verdict": "usable"}
    found = reader.evaluate(RULE, {"local.feature": features, "cpu.model": {"vendor_id": "AMD"}})
    assert found == reader.Node(READY, set())


def test_a_node_without_a_valid_report() -> None:
    good, bad = (judge(recorded(f"matrix/bookworm/{name}")) for name in ("epyc", "svmdis"))
    for vendor, taints in (("AMD", {UNKNOWN}), ("Hygon", {UNKNOWN}), ("Intel", set())):
        for late in (node(good, vendor, 27), node(bad, vendor, 27), node(None, vendor)):
            assert late == reader.Node({}, taints)
    # If nfd-worker does not run the local source, nothing changes.
    assert reader.evaluate(RULE, {"cpu.model": {"vendor_id": "AMD"}}) == reader.Node({}, set())


def test_nfd_accepts_the_rule() -> None:
    """By its API (v1alpha1) and by what nfd-master checks; unknown fields are errors."""
    assert (RULE["apiVersion"], RULE["kind"]) == ("nfd.k8s-sigs.io/v1alpha1", "NodeFeatureRule")
    assert set(RULE) == {"apiVersion", "kind", "metadata", "spec"}
    assert set(RULE["spec"]) == {"rules"}
    names = [rule["name"] for rule in RULE["spec"]["rules"]]
    assert len(set(names)) == len(names)
    for rule in RULE["spec"]["rules"]:
        assert set(rule) <= {"name", "labels", "taints", "matchFeatures", "matchAny"}
        for name, value in rule.get("labels", {}).items():
            reader.check_name(name)
            reader.check_value(value)
        for taint in rule.get("taints", ()):
            assert set(taint) == {"key", "value", "effect"}
            reader.check_name(taint["key"])
            reader.check_value(taint["value"])
            assert taint["effect"] in ("NoSchedule", "PreferNoSchedule")  # NoExecute would end running pods
        for matcher in (rule, *rule.get("matchAny", ())):
            for term in matcher["matchFeatures"]:
                assert set(term) == {"feature", "matchExpressions"}
                assert term["feature"] in ("local.feature", "cpu.model")
                for expression in term["matchExpressions"].values():
                    values = expression.get("value", [])
                    assert bool(values) == (expression["op"] in ("In", "NotIn"))
                    assert all(isinstance(value, str) for value in values)


# The examples


@pytest.mark.parametrize("kind", ["Pod", "VirtualMachine"])
def test_a_good_node_has_the_labels_of_the_examples(kind: str) -> None:
    example = manifests.only("example.yaml", kind)
    spec = example["spec"] if kind == "Pod" else example["spec"]["template"]["spec"]
    selected = dict(spec["nodeSelector"])
    if kind == "Pod":
        affinity = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        (term,) = affinity["nodeSelectorTerms"]
        selected.update({each["key"]: each["values"][0] for each in term["matchExpressions"]})
    good, bad = (judge(recorded(f"matrix/bookworm/{name}")) for name in ("epyc", "svmdis"))
    assert selected.items() <= labels(good).items()
    assert not selected.items() <= labels(bad).items()


def labels(report: Any) -> dict[str, str]:
    taken = datetime.datetime.strptime(report["evidence"]["taken_at"], "%Y-%m-%dT%H:%M:%S%z")
    return {**reader.read(render(report, "nfd").encode(), taken).labels, **node(report).labels}


def test_every_label_that_is_mentioned_exists() -> None:
    """In the objects, and in the comments of the rule."""
    known = set(labels(judge(recorded("matrix/trixie/epyc"))))
    text = "".join((PROJECT / "scripts/kubernetes" / name).read_text() for name in manifests.FILES)
    mentioned = set(re.findall(rf"{re.escape(NFD)}/[A-Za-z0-9._-]+", text)) - {FAILED[0]}
    assert mentioned
    assert mentioned <= known
    rule = (manifests.FOLDER / "nodefeaturerule.yaml").read_text()
    comment = re.search(r"\((kvmprobe\.ready, .*?)\)", rule, re.DOTALL)
    assert comment
    named = {f"{NFD}/kvmprobe.{word}" for word in re.findall(r"[.]([a-z-]+)", comment[1])}
    assert named | set(READY) == known

"""The DaemonSet's pod on a node with SVM: runc runs the manifest's containers on a real kernel."""

from __future__ import annotations

import copy
import datetime
import json
import lzma
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import container, manifests
from tests.helpers import nfd_rules as reader
from tests.helpers.real_kernels import Guest

PREFIX = "feature.node.kubernetes.io/"

# A node without kvm_amd; later it is loaded, while the pod runs. The script prints each state of the feature file, in
# parts that begin with a line "=== NAME".
SCRIPT = """
cd {folder}
show() {{ echo "=== $1"; cat features/kvmprobe; }}
wait_for() {{ until grep -q "verdict=$1" features/kvmprobe 2>/dev/null; do sleep 0.2; done; }}
{prepare} >&2 || exit 1
{main} >log &
wait_for failed
show failed
modprobe kvm_amd
wait_for confirmed
show fixed
{kill} TERM
wait $! || exit 1
modprobe -r kvm_amd
modprobe kvm_amd
rm features/kvmprobe
{unprivileged} >>log &
wait_for inconclusive
show unprivileged
{kill_unprivileged} TERM
wait $! || exit 1
echo "=== left"
ls -A features
cat log >&2
"""


@pytest.fixture
def bundles(built: Path, tmp_path: Path) -> dict[str, Path]:
    """The pod's containers, and a copy of the second one that is not privileged."""
    volumes: dict[str, str | Path] = {"devices": "/dev", "host": "/"}
    for name in ("config", "program", "features"):
        volumes[name] = tmp_path / name
        (tmp_path / name).mkdir()
    shutil.copy(manifests.FOLDER / "node.py", tmp_path / "config")
    (tmp_path / "config/kvmprobe.pyz.xz").write_bytes(lzma.compress((built / "kvmprobe.pyz").read_bytes()))
    containers = manifests.containers()
    containers["unprivileged"] = copy.deepcopy(containers["kvmprobe"])
    containers["unprivileged"]["securityContext"].update(
        privileged=False, capabilities={"drop": ["ALL"], "add": ["SYS_RAWIO"]}
    )
    often = {"KVMPROBE_PERIOD": "1"}
    return {name: container.bundle(tmp_path / name, each, volumes, often) for name, each in containers.items()}


def runc(folder: Path, command: str) -> str:
    return " ".join([*container.runc(folder), command.format(bundle=folder, name=container.name_of(folder))])


@pytest.mark.kernel
def test_a_node_is_tainted_until_kvm_amd_is_loaded(guest: Guest, bundles: dict[str, Path], tmp_path: Path) -> None:
    run = {name: runc(folder, "run --bundle {bundle} {name}") for name, folder in bundles.items()}
    script = SCRIPT.format(
        folder=tmp_path,
        prepare=run["prepare"],
        main=run["kvmprobe"],
        kill=runc(bundles["kvmprobe"], "kill {name}"),
        unprivileged=run["unprivileged"],
        kill_unprivileged=runc(bundles["unprivileged"], "kill {name}"),
    )
    output = guest(script, prepare=(), deadline=300)
    written = dict(part.split("\n", 1) for part in output.split("=== ")[1:])
    assert written.pop("left") == "kvmprobe\n"  # no temporary file
    rule = manifests.only("nodefeaturerule.yaml", "NodeFeatureRule")
    nodes: dict[str, Any] = {}
    for step, text in written.items():
        features = reader.read(text.encode(), datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)).features
        nodes[step] = reader.evaluate(rule, {"local.feature": features, "cpu.model": {"vendor_id": "AMD"}})
        nodes[step] = (features[f"{PREFIX}kvmprobe.reason"], *nodes[step])
    ready = {f"{PREFIX}kvm-svm.ready": "true"}
    taint = f"{PREFIX}kvm-svm.not-ready"
    assert nodes["failed"] == ("kvm-amd-not-loaded", {}, {(taint, "failed", "NoSchedule")}), json.dumps(nodes)
    assert nodes["fixed"] == ("svme-set-by-create-vm", ready, set())
    # It must be privileged because of the device cgroup.
    assert nodes["unprivileged"] == ("kvm-not-permitted", {}, {(taint, "unknown", "PreferNoSchedule")})

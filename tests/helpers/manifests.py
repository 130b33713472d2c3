"""The objects in the files of scripts/kubernetes."""

from __future__ import annotations

from typing import Any

import yaml

from tests.helpers.run_kvmprobe import PROJECT

FOLDER = PROJECT / "scripts/kubernetes"
FILES = ("namespace.yaml", "daemonset.yaml", "nodefeaturerule.yaml", "example.yaml", "kustomization.yaml")


def objects(name: str) -> list[Any]:
    """All objects of one file."""
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def only(name: str, kind: str) -> Any:
    """The one object of this kind in a file."""
    (found,) = (each for each in objects(name) if each["kind"] == kind)
    return found


def pod() -> Any:
    """The DaemonSet's pod."""
    return only("daemonset.yaml", "DaemonSet")["spec"]["template"]["spec"]


def containers() -> dict[str, Any]:
    """The containers of the DaemonSet by name, the init container first."""
    return {each["name"]: each for each in (*pod()["initContainers"], *pod()["containers"])}

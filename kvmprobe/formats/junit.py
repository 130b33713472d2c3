"""JUnit's XML as Jenkins and GitLab read it. Source: junit-10.xsd of Jenkins' xunit plugin."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats.harness_cases import ERROR, Suite, flat
from kvmprobe.judge.check_result import FAIL, SKIP
from kvmprobe.model.printable import clean

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from kvmprobe.formats.harness_cases import Case

_ELEMENTS = {FAIL: "failure", ERROR: "error", SKIP: "skipped"}
_NOT_XML = re.compile("[\ufffe\uffff]")  # characters that `clean` keeps and XML 1.0, 2.2 forbids


def render(suite: Suite) -> str:
    """The suite as one XML document in ASCII, with character references for all other characters."""
    inner = [case for case in suite.cases if isinstance(case, Suite)]
    rendered = [_suite(one) for one in inner or [suite]]
    root = ElementTree.Element("testsuites", name=_text(suite.name))
    for count in ("tests", "failures", "errors"):
        root.set(count, str(sum(int(one.attrib[count]) for one in rendered)))
    root.extend(rendered)
    ElementTree.indent(root, " ")
    xml = ElementTree.tostring(root, "us-ascii").decode("ascii")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{xml}\n'


def _suite(suite: Suite) -> Element:
    """One suite. A suite that was skipped as a whole has one skipped case."""
    cases = list(flat(suite.cases)) or [(suite.name, suite)]
    statuses = [case.status for _, case in cases]
    attributes = {
        "name": suite.name,
        "tests": str(len(cases)),
        "failures": str(statuses.count(FAIL)),
        "errors": str(statuses.count(ERROR)),
        "skipped": str(statuses.count(SKIP)),
    }
    if suite.seconds is not None:
        attributes["time"] = f"{suite.seconds:.3f}"
    for attribute, name in (("timestamp", "taken-at"), ("hostname", "host")):
        if name in suite.properties:
            attributes[attribute] = suite.properties[name]
    element = _element("testsuite", attributes)
    if suite.properties:
        properties = ElementTree.SubElement(element, "properties")
        for name, value in suite.properties.items():
            properties.append(_element("property", {"name": name, "value": value}))
    element.extend(_case(name, case, suite.name) for name, case in cases)
    return element


def _case(name: str, case: Case, classname: str) -> Element:
    element = _element("testcase", {"classname": classname, "name": name})
    if case.seconds is not None:
        element.set("time", f"{case.seconds:.3f}")
    lines = [case.message, *case.more] if case.message else case.more
    if case.status in _ELEMENTS:
        message = case.skip or case.message
        outcome = ElementTree.SubElement(element, _ELEMENTS[case.status], message=_text(message))
        outcome.text = "\n".join(map(_text, lines))
    elif lines:
        ElementTree.SubElement(element, "system-out").text = "\n".join(map(_text, lines))
    return element


def _element(tag: str, attributes: dict[str, str]) -> Element:
    return ElementTree.Element(tag, {name: _text(value) for name, value in attributes.items()})


def _text(text: str) -> str:
    return _NOT_XML.sub("?", clean(text))

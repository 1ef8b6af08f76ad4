"""Renders junit.xml, the format that CI systems show test results in.

An entry is a test case. A required one that FAILED is a failure; with no verdict or no result it is
an error. An advisory one that did not pass is skipped, because it must not fail a build.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from xml.etree import ElementTree

from runner.status import INACCURATE
from runner.suite.result import EntryResult, SuiteResult
from runner.visible import visible

# Characters that XML 1.0 can't hold, even escaped.
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(result: SuiteResult) -> bytes:
    """Return the file: one test suite with a case for each entry."""
    kinds = [_kind(entry) for entry in result.entries]
    counts = {
        "tests": str(len(kinds)),
        "failures": str(kinds.count("failure")),
        "errors": str(kinds.count("error")),
        "skipped": str(kinds.count("skipped")),
        "time": f"{sum(entry.seconds or 0.0 for entry in result.entries):.3f}",
    }
    root = ElementTree.Element("testsuites", {"name": _text(result.name), **counts})
    started = datetime.fromtimestamp(result.started, timezone.utc)
    attributes = {"name": _text(result.name), **counts, "timestamp": f"{started:%Y-%m-%dT%H:%M:%S}"}
    suite = ElementTree.SubElement(root, "testsuite", attributes)
    _properties(
        suite,
        {
            "verdict": result.verdict,
            "exit_status": str(result.exit_status),
            "reason": result.sentence,
            "night": result.id,
        },
    )
    for entry, kind in zip(result.entries, kinds, strict=True):
        _case(suite, result, entry, kind)
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _case(suite: ElementTree.Element, result: SuiteResult, entry: EntryResult, kind: str) -> None:
    attributes = {
        "classname": _text(f"{result.name}.{entry.model}.{entry.task}"),
        "name": _text(entry.name),
        "time": f"{entry.seconds or 0.0:.3f}",
    }
    case = ElementTree.SubElement(suite, "testcase", attributes)
    shown = entry.shown
    numbers = {"value": shown.value, "baseline": shown.baseline} if shown is not None else {}
    good = entry.last_good
    if good is not None:
        numbers |= {"last_good": good.value, "change": good.change}
    _properties(
        case,
        {
            "tier": entry.tier,
            "verdict": entry.verdict,
            "reason": entry.reason,
            **({"metric": shown.name} if shown is not None else {}),
            **{name: f"{value:g}" for name, value in numbers.items() if value is not None},
        },
    )
    if kind:
        told = f"{entry.verdict}: {entry.reason}"
        said = f"advisory: {told}" if kind == "skipped" else told
        more = {"type": entry.verdict} if kind != "skipped" else {}
        ElementTree.SubElement(case, kind, {"message": _text(said), **more})


def _kind(entry: EntryResult) -> str:
    """The element of a case that did not pass; empty for one that did."""
    if not entry.exit_status:
        return ""
    if not entry.required:
        return "skipped"
    return "failure" if entry.exit_status == INACCURATE else "error"


def _properties(parent: ElementTree.Element, values: dict[str, str]) -> None:
    properties = ElementTree.SubElement(parent, "properties")
    for name, value in values.items():
        attributes = {"name": name, "value": _text(value)}
        ElementTree.SubElement(properties, "property", attributes)


def _text(text: str) -> str:
    return FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", visible(text))

"""The report for programs: as JSON and as JUnit's XML."""

import json
import re
from dataclasses import asdict
from xml.etree import ElementTree as ET

from ict_ref.verify.report.report import Report

SCHEMA = 2
"""Number of the format of the JSON report; docs/verify_reports.md documents it."""
_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_json(report: Report) -> str:
    """Return the report as JSON."""
    return json.dumps(
        {
            "schema": SCHEMA,
            **report.head,
            "exit_status": report.exit_status,
            "summary": report.summary,
            "findings": [finding.as_json() for finding in report.findings],
            "results": [asdict(result) for result in report.results],
        },
        indent=1,
    )


def as_junit(report: Report) -> str:
    """Return the report as JUnit's XML: a test for each check, in a class for each function."""
    summary = report.summary
    suite = ET.Element(
        "testsuite",
        name="ict_ref.verify",
        tests=str(len(report.results)),
        failures=str(summary["fail"]),
        skipped=str(summary["missing"] + summary["waived"] + summary["skipped"]),
        time=f"{sum(result.seconds for result in report.results):.3f}",
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in report.head.items():
        ET.SubElement(properties, "property", name=name, value=_allowed(str(value)))
    for result in report.results:
        case = ET.SubElement(suite, "testcase", classname=result.function, name=result.id, time=f"{result.seconds:.3f}")
        message = _allowed(result.message)
        if result.status == "fail":
            ET.SubElement(case, "failure", message=message, type=result.kind)
        elif result.status == "note":
            ET.SubElement(case, "system-out").text = message
        elif result.status != "pass":
            ET.SubElement(case, "skipped", message=message)
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _allowed(text: str) -> str:
    """Return text without the characters that XML does not allow."""
    return _FORBIDDEN.sub("?", text)

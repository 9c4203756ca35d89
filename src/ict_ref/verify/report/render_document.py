"""The report as a table for Markdown and for LaTeX."""

from collections.abc import Iterator

from ict_ref.verify.report.finding import Finding
from ict_ref.verify.report.report import Report

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def provenance(report: Report) -> str:
    """Return one sentence about how a verdict was reached."""
    head = report.head
    checksums = {name: str(head[name])[:12] for name in ("vectors_sha256", "file_sha256")}
    return (
        f"Checked with ict_ref {head['ict_ref']}, vectors {head['vectors']} (sha256 {checksums['vectors_sha256']}), "
        f"torch {head['torch']}, NumPy {head['numpy']}, Hypothesis {head['hypothesis']}, seed {head['seed']}, "
        f"in {head['dtype']} on {head['device']}; target {head['target']}, commit {head['commit']}, "
        f"sha256 {checksums['file_sha256']}."
    )


def as_markdown(report: Report) -> str:
    """Return the report as a table and a list of findings in Markdown."""
    lines = [f"### {_plain(report.verdict)}", "", "| verdict | function | checks | remark |", "|---|---|---:|---|"]
    lines += [f"| {row.word} | `{row.function}` | {row.count} | {_plain(row.remark)} |" for row in report.rows]
    for number, finding in enumerate(report.failures, start=1):
        lines += ["", f"{number}. **{_plain(finding.cause)}** [{_plain(finding.source)}]", *_parts(finding)]
    return "\n".join([*lines, "", provenance(report)])


def _parts(finding: Finding) -> Iterator[str]:
    """Yield the lines of a finding in a list of Markdown."""
    places = ", ".join(map(str, finding.seen))
    parts = (("example", finding.example), ("effect", finding.effect), ("also in", places), ("fix", finding.fix))
    yield from (f"   - {label}: {_plain(text)}" for label, text in parts if text)


def _plain(text: str) -> str:
    """Return text without what Markdown or HTML would interpret."""
    for mark in "\\`*_|<>[]":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def as_latex(report: Report) -> str:
    """Return the report as a table in LaTeX, for an appendix."""
    rows = [
        " & ".join((_tex(row.function), row.count, _tex(row.word), _tex(row.remark))) + r" \\" for row in report.rows
    ]
    return "\n".join(
        [
            r"\begin{tabular}{lrll}",
            r"function & checks & verdict & remark \\ \hline",
            *rows,
            r"\end{tabular}",
            "",
            _tex(provenance(report)),
        ]
    )


def _tex(text: str) -> str:
    """Return text with LaTeX's special characters escaped."""
    return "".join(_LATEX.get(character, character) for character in text)

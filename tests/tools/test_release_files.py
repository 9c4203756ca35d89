"""Files for other programs, which no test can run here: workflows, the action, issue forms, citation, container."""

import ast
import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import ict_ref

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "tests" / "fixtures" / "schemas"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")


def content(path: Path) -> dict[str, Any]:
    """Return the content of a YAML file; YAML 1.1 reads the key `on` as true."""
    yaml: Any = pytest.importorskip("yaml")
    loaded: dict[Any, Any] = yaml.safe_load(path.read_text())
    return {"on" if key is True else key: value for key, value in loaded.items()}


def schema_errors(path: Path, schema: str) -> list[str]:
    validator = jsonschema.Draft7Validator(json.loads((SCHEMAS / f"{schema}.json").read_text()))
    return [error.message for error in validator.iter_errors(content(path))]


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in content(path)["jobs"].values() for step in job["steps"]]


def test_the_workflows_are_those_that_are_wanted() -> None:
    assert [path.stem for path in WORKFLOWS] == ["checks", "nightly", "release"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_fits_the_schema(path: Path) -> None:
    assert schema_errors(path, "github-workflows") == []


def test_the_schema_finds_a_wrong_workflow(tmp_path: Path) -> None:
    for old, new in (("runs-on:", "run-on:"), ("steps:", "stages:"), ("jobs:", "work:")):
        (tmp_path / "wrong.yml").write_text(WORKFLOWS[0].read_text().replace(old, new))
        assert schema_errors(tmp_path / "wrong.yml", "github-workflows") != [], old


def test_the_action_fits_the_schema_and_takes_its_inputs_from_the_environment() -> None:
    path = ROOT / "action.yml"
    assert schema_errors(path, "github-actions") == []
    action = content(path)
    for step in action["runs"]["steps"]:
        assert "${{" not in step["run"]  # an input in a script could be a program
        assert set(re.findall(r"\$([A-Z_]+)", step["run"])) == set(step["env"])
    used = re.findall(r"inputs\.(\w+)", path.read_text())
    assert set(used) == set(action["inputs"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_the_least_rights_and_an_end(path: Path) -> None:
    workflow = content(path)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 300, name
        assert ("permissions" in job) == (name == "publish")
    for step in steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"] == {"persist-credentials": False}


def test_only_the_job_that_publishes_gets_a_token() -> None:
    publish = content(ROOT / ".github" / "workflows" / "release.yml")["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write", "attestations": "write"}
    assert publish["environment"] == "pypi"
    assert publish["steps"][-1]["with"] == {"attestations": True}
    assert not [step for path in WORKFLOWS for step in steps(path) if "secrets." in str(step)]


def test_workflows_call_sessions_tests_and_commands_that_exist() -> None:
    tree = ast.parse((ROOT / "noxfile.py").read_text())
    sessions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list}
    lines = [line for path in WORKFLOWS for step in steps(path) for line in step.get("run", "").splitlines()]
    ran = [line.partition(" nox -s ")[2].partition(" -- ")[0] for line in lines]
    called = {word for names in ran for word in names.split() if word.isidentifier()}
    called |= {row["session"] for row in content(WORKFLOWS[0])["jobs"]["versions"]["strategy"]["matrix"]["include"]}
    assert called >= {"lint", "typecheck", "tests", "slow", "peers", "properties", "package", "oldest", "newest"}
    assert called <= sessions
    for word in (word for line in lines for word in line.split()):
        if word.startswith(("tests/", "properties", "requirements/", "constraints")):
            assert (ROOT / word).exists(), word


def test_the_oldest_python_of_the_workflows_is_that_of_the_package() -> None:
    (oldest,) = re.findall(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    matrix = content(WORKFLOWS[0])["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix["python"][0] == oldest
    assert matrix["os"] == ["ubuntu-latest", "macos-latest"]


def test_the_release_compares_its_tag_with_the_version() -> None:
    (line,) = (step["run"] for step in steps(WORKFLOWS[2]) if "GITHUB_REF_NAME" in step.get("run", ""))
    version = ict_ref.__version__
    for tag, status in ((f"v{version}", 0), ("v9.9.9", 1), (f"v{version.replace('.', 'x')}", 1), (f"{version}1", 1)):
        variables = {**os.environ, "GITHUB_REF_NAME": tag}
        done = subprocess.run(["/bin/sh", "-c", line], cwd=ROOT, env=variables, check=False, capture_output=True)
        assert done.returncode == status, tag


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_fits_the_schema(path: Path) -> None:
    assert schema_errors(path, "github-issue-forms") == []
    identifiers = [field["id"] for field in content(path)["body"]]
    assert len(set(identifiers)) == len(identifiers)


def test_three_kinds_of_issues_have_a_form() -> None:
    assert [path.stem for path in FORMS] == ["deviation", "false_alarm", "wrong_formula"]


def test_the_citation_is_the_software_with_the_paper_among_the_references() -> None:
    citation = content(ROOT / "CITATION.cff")
    assert schema_errors(ROOT / "CITATION.cff", "citation-file-format") == []
    preferred = citation["preferred-citation"]
    assert (citation["type"], preferred["type"]) == ("software", "software")
    assert citation["title"] == preferred["title"]
    assert citation["version"] == preferred["version"] == ict_ref.__version__
    assert str(citation["date-released"]).startswith(f"{preferred['year']}-{preferred['month']:02}-")
    page = (ROOT / "docs" / "cite.md").read_text()
    assert all(f"{name} = {{{preferred[name.strip()]}}}" in page for name in ("title  ", "version", "year   "))
    assert [paper["url"] for paper in citation["references"]] == ["https://arxiv.org/abs/2310.14189"]


def test_zenodo_gets_the_same_title_authors_and_licence() -> None:
    zenodo, citation = json.loads((ROOT / ".zenodo.json").read_text()), content(ROOT / "CITATION.cff")
    assert zenodo["title"] == citation["title"]
    assert zenodo["creators"] == citation["authors"]
    assert zenodo["license"] == citation["license"]
    (paper,) = zenodo["related_identifiers"]
    assert paper["identifier"] == citation["references"][0]["identifiers"][0]["value"]


def test_the_container_has_the_versions_of_the_constraints() -> None:
    definition = (ROOT / "slurm" / "ict_ref.def").read_text()
    (torch,) = re.findall(r'"(torch==[\d.]+)"', definition)
    assert torch in (ROOT / "constraints.txt").read_text().splitlines()
    for source, target in re.findall(r"^ {4}(\S+) (/opt/ict_ref/\S+)$", definition, re.MULTILINE):
        assert (ROOT / source).exists()
        assert target == f"/opt/ict_ref/{source}"


def test_pre_commit_runs_modules_that_are_there() -> None:
    (repository,) = content(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    entries = [shlex.split(hook["entry"]) for hook in repository["hooks"]]
    names = ("ruff", "ruff", "mypy", "tools.prose")
    assert [entry[:3] for entry in entries] == [["python", "-m", name] for name in names]

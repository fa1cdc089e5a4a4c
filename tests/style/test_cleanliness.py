"""What the repository must not contain: one machine's paths, package index hosts, dangling links."""

import re
from pathlib import Path

from tests.style import project

LOCK = Path("requirements.lock")
# Put together here, so that this file does not contain them.
MACHINE_PATHS = ["/wo" + "rk/", "/tmp/" + "lab"]
INDEX_HOSTS = [
    "py" + "pi.org",
    "py" + "pi.python.org",
    "python" + "hosted.org",
    "npm" + "js.org",
    "conda." + "anaconda.org",
]
INDEX_OPTION = re.compile(r"^\s*(-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host|--no-index)\b")
REQUIREMENT = re.compile(r"^[a-z0-9][a-z0-9._-]*(\[[a-z0-9,._-]+\])?==[^\s@]+( ; .+)? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def lines_with(needles: list[str]) -> list[str]:
    return [
        f"{path}:{number} contains {needle}"
        for path in project.files()
        for number, line in enumerate((project.text(path) or "").splitlines(), 1)
        for needle in needles
        if needle in line
    ]


def test_no_file_names_a_path_of_somebodys_machine():
    assert lines_with(MACHINE_PATHS) == []


def test_no_file_names_a_package_index_host():
    assert lines_with(INDEX_HOSTS) == []


def test_the_lock_holds_exact_versions_with_hashes_and_nothing_else():
    lines = (project.ROOT / LOCK).read_text(encoding="utf-8").splitlines()
    requirements = [line for line in lines if not line.startswith(("#", " "))]
    assert not [line for line in lines if INDEX_OPTION.match(line)]
    assert not [line for line in requirements if not REQUIREMENT.match(line)]
    assert not [line for line in lines if line.startswith(" ") and not HASH.match(line)]
    assert requirements


def test_links_between_documents_lead_somewhere():
    dangling = [
        f"{path}: {target}"
        for path in project.files(".md")
        for target in LINK.findall(project.text(path) or "")
        if "://" not in target and not target.startswith(("#", "mailto:"))
        if not (project.ROOT / path.parent / target.split("#")[0]).exists()
    ]
    assert dangling == []


def test_the_architecture_page_links_the_steps_of_both_flows_to_code():
    page = project.text(Path("docs/ARCHITECTURE.md")) or ""
    linked = {target.split("#")[0] for target in LINK.findall(page)}
    assert {Path(target).suffix for target in linked} >= {".py"}
    assert sum(target.endswith(".py") for target in linked) >= 20

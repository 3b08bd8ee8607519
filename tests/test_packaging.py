"""The distribution: what is in it, what it needs, and that nothing else gets into site-packages."""

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def project(root: Path) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text())


def test_every_folder_with_modules_is_a_package(root: Path, project: dict) -> None:
    skipped = {"tests", "build", "dist", "out"}
    folders = {
        path.parent.relative_to(root)
        for path in root.rglob("*.py")
        if path.relative_to(root).parts[0] not in skipped and not path.relative_to(root).parts[0].startswith(".")
    }
    assert {"dipole." + ".".join(folder.parts) for folder in folders} == set(project["tool"]["setuptools"]["packages"])
    assert all((root / folder / "__init__.py").exists() for folder in folders)


def test_every_data_file_is_packed(root: Path, project: dict) -> None:
    folders = sorted(set(project["tool"]["setuptools"]["packages"]))
    found = {
        f"{package}/{path.name}"
        for package in folders
        for path in (root / Path(*package.split(".")[1:])).iterdir()
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    packed = project["tool"]["setuptools"].get("package-data", {})
    assert found == {f"{package}/{name}" for package, names in packed.items() for name in names}


def test_type_checker_and_make_know_every_folder(root: Path, project: dict) -> None:
    folders = {package.split(".")[1] for package in project["tool"]["setuptools"]["packages"]}
    assert set(project["tool"]["setuptools"]["package-dir"]) == {f"dipole.{folder}" for folder in folders}
    assert set(project["tool"]["pyright"]["include"]) == folders | {"tests"}
    packages = re.search(r"^PACKAGES := (.*)$", (root / "Makefile").read_text(), re.MULTILINE)
    assert packages and set(packages[1].split()) == folders


def test_every_dependency_has_a_reason(root: Path) -> None:
    text = (root / "pyproject.toml").read_text()
    lines = [line for line in text.splitlines() if re.match(r'^ {4}"[a-z][a-z0-9-]*(\[\w+\])?[<>=]', line)]
    assert len(lines) > 15
    assert [line for line in lines if not re.search(r'",\s+# \w', line)] == []


def test_no_module_imports_the_folders_from_the_root(root: Path, project: dict) -> None:
    """`import rtl` would be a second copy of the module, with classes of its own."""
    folders = "|".join(sorted(package.split(".")[1] for package in project["tool"]["setuptools"]["packages"]))
    wrong = re.compile(rf"^\s*(?:from|import) (?:{folders})\b", re.MULTILINE)
    paths = [path for folder in [*folders.split("|"), "tests"] for path in (root / folder).rglob("*.py")]
    assert len(paths) > 30
    assert [str(path.relative_to(root)) for path in paths if wrong.search(path.read_text())] == []


def test_no_future_annotations_in_rtl(root: Path) -> None:
    """They break annotated Amaranth components without a word."""
    wrong = re.compile(r"^from __future__ import annotations", re.MULTILINE)
    assert [path.name for path in (root / "rtl").rglob("*.py") if wrong.search(path.read_text())] == []


def test_version_is_the_installed_one(project: dict) -> None:
    assert metadata.version("dipole") == project["project"]["version"]


@pytest.mark.slow
def test_wheel_holds_dipole_only(root: Path, project: dict, tmp_path: Path) -> None:
    # From a copy: setuptools packs whatever an earlier build left under build/.
    source = tmp_path / "source"
    subprocess.run(["git", "clone", "-q", str(root), str(source)], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(source)]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("dipole-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"dipole", f"dipole-{project['project']['version']}.dist-info"}
    for package in project["tool"]["setuptools"]["packages"]:
        assert package.replace(".", "/") + "/__init__.py" in names

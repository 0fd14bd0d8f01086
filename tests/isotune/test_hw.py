"""`isotune hw`: list, show, diff and new, and the note wherever figures are inherited."""

import json

import pytest

from isotune.cli import main


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    return stopped.value.code, *capsys.readouterr()


def test_list_says_whose_kernels_a_machine_has(capsys):
    code, out, _ = run(capsys, "hw", "list")
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert code == 0
    assert "measured" in lines["h100"]
    assert "of h100" in lines["h800"]
    machines = json.loads(run(capsys, "hw", "list", "--json")[1])["machines"]
    assert {"name": "h800", "derived_from": "h100"}.items() <= {
        key: value for item in machines if item["name"] == "h800" for key, value in item.items()
    }.items()


@pytest.mark.parametrize("command", [("hw", "show", "h800"), ("predict", "--hw", "h800")])
def test_an_inherited_machine_is_marked_on_screen_and_in_json(capsys, command):
    _, out, _ = run(capsys, *command)
    assert "h800 was not measured in full: kernels and collectives of h100" in out
    data = json.loads(run(capsys, *command, "--json")[1])
    assert "not measured" in data["cautions"][0]


def test_diff_names_the_figures_that_differ_and_no_others(capsys):
    rows = json.loads(run(capsys, "hw", "diff", "a100", "a100-pcie", "--json")[1])["figures"]
    found = {row["figure"]: (row["first"], row["second"]) for row in rows}
    assert found["gpu.memory_bandwidth"] == ("2.039 TB/s", "1.935 TB/s")
    assert "gemm.launch" not in found
    assert run(capsys, "hw", "diff", "h100", "h100")[1].strip() == "The same in every figure."


def test_new_writes_a_template_that_predicts_at_once(tmp_path, capsys):
    path = str(tmp_path / "mine.yaml")
    assert run(capsys, "hw", "new", "mine", "--from", "a800", "-o", path)[0] == 0
    code, out, _ = run(capsys, "predict", "--hw", path)
    assert code == 0
    assert "note: mine was not measured in full" in out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("hw", "new", "two words"), "name"),
        (("hw", "diff", "h100", "h1000"), "did you mean h100"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capsys, monkeypatch, arguments, complaint):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert complaint in err
    assert err.count("\n") == 1


def test_errors_are_those_of_the_measured_machines(capsys):
    _, out, _ = run(capsys, "hw", "list", "--errors")
    lines = [line.split() for line in out.splitlines()]
    assert ["h100", "gemm"] in [line[:2] for line in lines]
    assert not any(line[:1] == ["h800"] for line in lines)

"""`isotune report` as a user runs it: one page of any result, and bad input in one line."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from _support.report_cases import TINY, WANTED, saved

from isotune.cli import main
from isotune.present.figures.scatter import thinned
from isotune.present.page import make_report
from isotune.results import Sweep


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


@pytest.fixture(scope="module")
def page(saved_results):
    return make_report([saved_results[kind] for kind in WANTED], "All of it")


def titles(page, kind):
    return [figure.title for part in page.sections if part.kind == kind for figure in part.figures]


def test_every_kind_of_result_has_a_verdict_with_its_interval_or_errors(page):
    verdicts = {part.kind: part.verdict for part in page.sections}
    assert set(verdicts) == {
        *(
            "search",
            "deployments",
            "policy",
            "sweep",
            "comparison",
            "check",
            "calibration",
            "sensitivity",
            "trace",
        )
    }
    for kind in ("search", "deployments", "policy", "sweep"):
        assert re.search(r"80 % interval: -?[\d.]+ to -?[\d.]+ %", verdicts[kind]), kind
    assert "off on average: gemm by" in next(p.verdict for p in page.sections if p.kind == "check")
    assert "held back" in verdicts["calibration"]
    assert "all-reduces can be dropped" in verdicts["sensitivity"]
    assert "of the communication ran beside compute" in verdicts["trace"]


def test_a_validation_sets_the_real_run_beside_the_prediction(saved_results):
    if "validation" not in saved_results:
        pytest.skip("needs the extra `validate`")
    part = make_report([saved_results["validation"]]).sections[0]
    assert part.verdict.startswith("The numbers are the model's; the predicted time is off by")
    assert re.search(
        r"measured saving -?[\d.]+ %, predicted -?[\d.]+ % \(80 % interval", part.verdict
    )
    timeline, scatter = part.figures
    assert {view.label for view in timeline.views} >= {"measured", "predicted"}
    measured = next(view for view in timeline.views if view.label == "measured")
    assert len(measured.layout["yaxis"]["ticktext"]) == 4
    assert "lost to contention" not in [trace["name"] for trace in measured.data]
    rows = {row[:2]: row for row in scatter.table.rows}
    predicted, measured_ms = rows["whole pass", "this plan"][2:4]
    time = json.loads(saved_results["validation"].read_text())["time"]
    assert (predicted, measured_ms) == (time["predicted_s"] * 1e3, time["measured_s"] * 1e3)


def test_the_figures_of_a_search_are_those_engineers_decide_by(page):
    assert titles(page, "search") == [
        "One block in time (block 16)",
        "Where the time goes",
        "Saving against prompt length",
        "Latency against perplexity",
        "Latency and accuracy",
        "Sensitivity of each block",
        "History of the search",
        "Pareto front of the study",
        "What mattered in the search",
    ]
    assert titles(page, "deployments")[0] == "Throughput and latency"
    assert titles(page, "sweep") == ["Saving over hardware, tensor-parallel size and length"]
    assert titles(page, "policy") == ["Saving against prompt length"]
    assert "Savings, predicted against measured" in titles(page, "check")
    assert titles(page, "calibration") == ["Errors of the calibration"]


def test_deployments_show_what_each_number_of_gpus_brings(page, saved_results):
    part = next(part for part in page.sections if part.kind == "deployments")
    front = json.loads(saved_results["deployments"].read_text())["front"]
    chosen = front[0]
    assert f"tp {chosen['tp']}, batch {chosen['batch']}: " in part.verdict
    assert "within 200.0 ms" in part.verdict
    traces = {trace["name"]: trace for trace in part.figures[0].views[0].data}
    assert {"tp 2", "tp 4", "chosen"} <= set(traces)
    best = (traces["chosen"]["x"][0], traces["chosen"]["y"][0])
    assert best == (chosen["latency_s"] * 1e3, chosen["tokens_per_s_per_gpu"])
    for name in ("tp 2", "tp 4"):
        assert all(y <= best[1] * (1 + 1e-9) for y in traces[name]["y"])
    assert len(part.tables[0].rows) == len(front)


def test_the_front_against_perplexity_has_the_papers_rule_as_a_point(page, saved_results):
    front = json.loads(saved_results["search"].read_text())["accuracy_front"]
    part = next(part for part in page.sections if part.kind == "search")
    figure = next(one for one in part.figures if one.title == "Latency against perplexity")
    line, rule = figure.views[0].data
    assert rule["name"] == "ISB/SB/ESB rule"
    (ruled,) = (point for point in front if point["rule"])
    assert (rule["x"], rule["y"]) == (
        [ruled["latency_s"] * 1e3],
        [ruled["perplexity_growth"] * 100],
    )
    assert len(line["x"]) == sum(not point["dominated"] for point in front) > 2
    assert len(figure.table.rows) == len(front)


def test_sensitivities_are_told_apart_by_class_and_shown_after_recovery(page, saved_results):
    table = json.loads(saved_results["sensitivity"].read_text())
    part = next(part for part in page.sections if part.kind == "sensitivity")
    bars = part.figures[0].views[0].data
    for name in ("ISB", "SB", "ESB"):
        drawn = sorted(
            b for trace in bars if trace["name"].startswith(f"{name},") for b in trace["x"]
        )
        assert drawn == [b for b, found in enumerate(table["classes"]) if found == name]
    recovered = next(view for view in part.figures[0].views if view.label == "after recovery")
    assert [trace["name"] for trace in recovered.data] == ["zero-shot", "bias"]
    assert recovered.data[1]["y"] == [cost * 100 for cost in table["treatments"]["bias"]]


def test_what_a_sensitivity_run_prints_is_read_as_its_file_is(saved_results, tmp_path):
    printed = tmp_path / "printed.json"
    table = json.loads(saved_results["sensitivity"].read_text())
    printed.write_text(json.dumps({"file": "sensitivity.json", "passes": 3} | table))
    one, other = (
        make_report([path]).sections[0] for path in (saved_results["sensitivity"], printed)
    )
    assert one.figures == other.figures


def test_a_measured_search_sets_every_plan_that_ran_beside_its_prediction(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(json.dumps(TINY | {"max_position_embeddings": 1024}))
    what = ("--hw", "a800", "--model", str(tmp_path), "--tp", "2", "--prompt", "512")
    how = ("--device", "cpu", "--budget", "3s", "-o", str(tmp_path / "ran.yaml"))
    path = saved(tmp_path, "measured", "search", "--measured", *what, *how)
    data = json.loads(path.read_text()) | {"kind": "measured"}
    path.write_text(json.dumps(data))
    part = make_report([path]).sections[0]
    assert part.kind == "measured search"
    assert re.search(r"(saves|loses) [\d.]+ % measured, -?[\d.]+ % predicted", part.verdict)
    scatter = part.figures[0]
    assert len(scatter.table.rows) == len(data["tried"]) > 1
    assert "serial" in {row[0] for row in scatter.table.rows}


def test_the_page_names_the_command_that_makes_the_result_again(page):
    commands = {part.source: part.command for part in page.sections}
    assert commands["search.json"].startswith("isotune search --hw a800 --model llama-2-7b")
    assert "isotune check gemms.csv" in page.html
    assert "gemms.csv --json" not in page.html


def test_a_password_in_a_storage_address_is_not_saved_with_the_command():
    from isotune.commands.options import invoked, with_command

    token = invoked.set(("search", "--storage", "postgresql://me:secret@host/db"))
    try:
        command = with_command(Sweep(rows=0)).command
    finally:
        invoked.reset(token)
    assert "secret" not in command
    assert "postgresql://me:***@host/db" in command


def test_every_stack_of_where_the_time_goes_ends_at_its_latency(page):
    part = next(part for part in page.sections if part.kind == "search")
    table = next(f.table for f in part.figures if f.title == "Where the time goes")
    place = [column.name for column in table.columns].index("latency")
    assert len(table.rows) > 4
    for row in table.rows:
        assert sum(row[1:place]) == pytest.approx(row[place])


def test_the_timeline_sets_the_plan_beside_serial_and_shows_what_contention_takes(page):
    part = next(part for part in page.sections if part.kind == "search")
    view = part.figures[0].views[0]
    rows = view.layout["yaxis"]["ticktext"]
    assert rows == [
        "serial<br>compute",
        "serial<br>all-reduce",
        "ISO<br>compute",
        "ISO<br>all-reduce",
    ]
    assert "lost to contention" in [trace["name"] for trace in view.data]
    columns = [column.name for column in part.figures[0].table.columns]
    start, end, alone, lost = (columns.index(n) for n in columns[-4:])
    for row in part.figures[0].table.rows:
        assert row[end] - row[start] == pytest.approx(row[alone] + row[lost])


def test_a_plan_file_reports_what_its_search_reports(saved_results):
    once = make_report([saved_results["plan"]]).sections[0]
    searched = make_report([saved_results["search"]]).sections[0]
    assert once.verdict == searched.verdict
    assert once.plan == searched.plan
    policies = [
        make_report([saved_results[kind]]).sections[0] for kind in ("policy", "policy file")
    ]
    assert policies[0].verdict == policies[1].verdict
    assert policies[0].figures == policies[1].figures


def test_a_table_and_the_sweep_that_wrote_it_report_the_same(saved_results):
    parts = [make_report([saved_results[kind]]).sections[0] for kind in ("sweep", "table")]
    assert parts[0].figures == parts[1].figures
    assert "--hw a800,l40s" in parts[1].command
    heat = parts[0].figures[0]
    assert {view.label for view in heat.views} == {"GEMM overlap", "ISO", "SPD"}
    places = [f"{hw}, tp {tp}" for hw in ("a800", "l40s") for tp in (2, 4)]
    assert heat.views[0].layout["yaxis"]["ticktext"] == places
    assert heat.views[0].data[0]["x"] == ["512", "2k", "8k"]


def test_parquet_and_csv_tables_report_the_same(saved_results, tmp_path):
    arrow = pytest.importorskip("pyarrow.csv")
    from pyarrow import parquet

    parquet.write_table(arrow.read_csv(saved_results["table"]), tmp_path / "table.parquet")
    parts = [
        make_report([p]).sections[0] for p in (saved_results["table"], tmp_path / "table.parquet")
    ]
    assert parts[0].figures == parts[1].figures


def test_one_file_without_addresses_that_could_be_asked_and_under_six_megabytes(page):
    assert len(page.html.encode()) < 6_000_000
    own = page.html.split("<script>")[0]
    assert "default-src 'none'" in own
    assert not re.search(r"""(?:src|href)\s*=\s*["']?\s*(?:https?:)?//""", own)


def test_the_same_results_make_the_same_page(saved_results, page):
    again = make_report([saved_results[kind] for kind in WANTED], "All of it")
    assert again.html == page.html


def test_plotly_knows_every_property_the_figures_use(page):
    objects = pytest.importorskip("plotly.graph_objects")
    colour = re.compile(r"var\(--[a-z-]+\)")
    for part in page.sections:
        for figure in part.figures:
            for view in figure.views:
                plain = json.loads(colour.sub("#000", json.dumps([view.data, view.layout])))
                objects.Figure(data=plain[0], layout=plain[1])


def test_many_rows_are_thinned_but_the_worst_stay():
    points = [("gemm", str(n), 1.0 + (n == 777) * 9.0, 1.0) for n in range(5000)]
    drawn = thinned(points, 100)
    assert len(drawn) == 100
    assert any(what == "777" for _, what, *_ in drawn)


def test_the_command_writes_the_page_and_says_so(capsys, saved_results, tmp_path):
    out = tmp_path / "r.html"
    code, text, err = run(
        capsys, "report", saved_results["search"], saved_results["sweep"], "-o", out
    )
    assert (code, err) == (0, "")
    assert text.startswith("ISO with SPD (30 blocks) takes")
    assert f"wrote{out}" in text.replace("\n", "").replace(" ", "")
    code, text, _ = run(capsys, "report", saved_results["check"], "-o", out, "--json")
    found = json.loads(text)
    assert (found["file"], found["figures"]) == (str(out), 2)
    assert found["results"][0]["kind"] == "check"
    assert out.read_text().startswith("<!doctype html>")


BAD = {
    "nothing.json": (None, "cannot read it"),
    "broken.json": ("{", "malformed JSON"),
    "list.json": ("[1]", "expected a JSON object"),
    "other.json": ('{"a": 1}', "no field `kind`"),
    "kind.json": ('{"kind": "serch"}', "did you mean search"),
    "short.json": ('{"kind": "search"}', "Field required"),
    "gone.json": ('{"kind": "sweep", "file": "no-such-table.csv"}', "is not there"),
    "deep.json": ("[" * 100_000, "nested too deeply"),
    "page.html": ("<html>", ".html is no kind of result"),
    "other.yaml": ("a: 1", "neither a plan nor a policy"),
    "plan.yaml": ("plan: {}", "Field required"),
    "other.csv": ("a,b\n1,2\n", "not a table of isotune sweep: no column 'hardware'"),
    "empty.csv": ("", "no column 'hardware'"),
    "broken.parquet": ("PAR1", "cannot read it as Parquet"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_that_names_the_file(capsys, tmp_path, name):
    text, promised = BAD[name]
    if text is not None:
        (tmp_path / name).write_text(text)
    out = tmp_path / "r.html"
    code, _, err = run(capsys, "report", tmp_path / name, "-o", out)
    assert code == 2, err
    assert err.count("\n") == 1
    assert name in err
    assert promised in err
    assert not out.exists()


def test_a_table_without_rows_or_with_a_broken_cell_is_refused(capsys, tmp_path, saved_results):
    lines = saved_results["table"].read_text().splitlines()
    table = tmp_path / "table.csv"
    for text, promised in (
        (lines[0] + "\n", "the table has no rows"),
        ("\n".join([lines[0], lines[1].replace("a800,llama-2-7b,2", "a800,llama-2-7b,two")]), "tp"),
        ("\n".join([lines[0], "a800"]), "fewer cells"),
    ):
        table.write_text(text)
        code, _, err = run(capsys, "report", table, "-o", tmp_path / "r.html")
        assert (code, err.count("\n")) == (2, 1)
        assert promised in err


def test_trials_that_do_not_fit_their_own_ranges_are_refused(capsys, tmp_path, saved_results):
    data = json.loads(saved_results["search"].read_text())
    for trial in data["trials"]["history"]["trials"]:
        trial["params"]["chunks"] = 10_000
    path = tmp_path / "search.json"
    path.write_text(json.dumps(data))
    code, _, err = run(capsys, "report", path, "-o", tmp_path / "r.html")
    assert (code, err.count("\n")) == (2, 1)
    assert "trials.history" in err


def test_asking_for_help_imports_no_plotting():
    code = (
        "import sys, isotune.cli, isotune.results\n"
        "late = {'plotly', 'jinja2', 'optuna', 'torch'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(late)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_plotly_it_names_what_to_install(capsys, monkeypatch, tmp_path, saved_results):
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    code, _, err = run(capsys, "report", saved_results["check"], "-o", Path(tmp_path) / "r.html")
    assert code == 2
    assert "pip install 'isotune[report]'" in err

"""Models as engines serve them, against the model's decode steps and prefills."""

import pytest

from isotune.cli import main
from isotune.simulator.errors import InputError
from isotune.simulator.machine import read_profile
from isotune.simulator.predict import Scenario, predict
from isotune.simulator.schedule import Workload
from isotune.validation.check import check_served
from isotune.validation.check.measured_passes import model_named
from isotune.validation.tables import is_served_table, least_loaded, read_served

HEADER = "source,hw,gpus,model,dtype,tp,engine,concurrency,isl,osl,ttft_ms,tpot_ms,note"
LLAMA = "me,H100,8,Llama-3.1-70B,fp8,8,vllm 0.12.0"
H100 = read_profile("h100")


@pytest.fixture
def served(tmp_path):
    def write(*rows):
        path = tmp_path / "served.csv"
        path.write_text("\n".join([HEADER, *rows]))
        return path

    return write


def decode(**fields):
    asked = {"tp": 8, "quant": "fp8", "engine": "vllm", "phase": "decode"} | fields
    workload = Workload(**asked)
    return Scenario(model=model_named("Llama-3.1-70B"), hardware=H100, workload=workload)


def test_a_single_request_takes_a_decode_step_a_token_as_its_engine_runs_it(served):
    rows = read_served(served(f"{LLAMA},1,1024,2048,100,6.4,"))
    (found,) = check_served("t", rows, H100).end_to_end.rows
    alone = predict(decode(batch=1, prompt=2048), must_fit=False)
    assert found.predicted_s == pytest.approx(alone.latency_s, rel=1e-9)
    assert found.measured_s == pytest.approx(6.4e-3)
    assert ("engine", "vllm") in found.groups
    assert found.interval_s[0] < found.predicted_s < found.interval_s[1]


def test_requests_that_begin_together_wait_for_half_of_the_others_prefills(served):
    rows = read_served(served(f"{LLAMA},8,1024,256,100,9,"))
    (found,) = check_served("t", rows, H100).end_to_end.rows
    step = predict(decode(batch=8, prompt=1152), must_fit=False).latency_s
    prefill = predict(decode(batch=1, prompt=1024, phase="prefill"), must_fit=False).latency_s
    assert found.predicted_s == pytest.approx(step + 3.5 * prefill / 256, rel=1e-9)


def test_only_the_least_loaded_row_of_a_deployment_counts(served):
    loads = [f"{LLAMA},{load},1024,256,100,9," for load in (16, 4, 8)]
    rows = read_served(served(*loads))
    assert [row.concurrency for row in least_loaded(rows)] == [4]
    check = check_served("t", rows, H100)
    assert len(check.end_to_end.rows) == 1
    assert check.unscored["a larger concurrency of the same deployment"] == 2


@pytest.mark.parametrize(("ttft", "said"), [("1", "below"), ("900", "above")])
def test_the_time_to_the_first_token_is_a_bound_and_no_score(served, ttft, said):
    check = check_served("t", read_served(served(f"{LLAMA},1,4096,256,{ttft},,")), H100)
    assert check.end_to_end is None
    (reason,) = check.unscored
    assert said in reason


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("me,H100,8,NoSuchModel,fp8,8,vllm,1,10,10,9,9,", "is not bundled"),
        ("me,H100,8,Llama-3.1-70B,GPTQ int4,8,vllm,1,10,10,9,9,", "dtype 'GPTQ int4'"),
        ("me,H100,8,Llama-3.1-70B,fp8,tp8 ep8,vllm,1,10,10,9,9,", "tp 'tp8 ep8'"),
        ("me,H100,8,Llama-3.1-70B,fp8,8,ZhiLight,1,10,10,9,9,", "engine 'ZhiLight'"),
        ("me,H200,8,Llama-3.1-70B,fp8,8,vllm,1,10,10,9,9,", "another machine"),
    ],
)
def test_what_cannot_be_priced_says_why(served, row, reason):
    check = check_served("t", read_served(served(row)), H100)
    assert check.end_to_end is None
    assert any(reason in text for text in check.unscored)


def test_one_command_scores_every_machine_of_the_table(served, capsys):
    path = served(
        f"{LLAMA},1,1024,2048,100,6.4,",
        f"{LLAMA.replace('H100', 'H200')},1,1024,2048,100,6.4,",
        f"{LLAMA.replace('H100', 'Abacus')},1,1024,2048,100,6.4,",
    )
    with pytest.raises(SystemExit) as ended:
        main(["check", str(path)])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert "h100" in shown
    assert "h200" in shown
    assert "abacus: not scored" in shown


def test_a_header_tells_which_kind_of_table_it_is(served):
    assert is_served_table(HEADER.split(","))
    assert not is_served_table(["op", "m", "n", "k", "latency_us"])
    with pytest.raises(InputError, match="column tpot_ms"):
        read_served(served(f"{LLAMA},1,1024,2048,100,fast,"))

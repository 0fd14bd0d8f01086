"""Reading whole passes: typed runs, and one line with row and column for whatever is wrong."""

from pathlib import Path

import pytest

from isotune.simulator.errors import InputError
from isotune.validation.tables import read_runs

HEADER = "hw,model,tp,batch,prompt_len,phase,steps,link,runtime,strategy,latency_ms,source"
PREFILL = "h100,llama-3-8b,8,4,1024,prefill,1,nvlink_nccl,cuda_graph,serial,43.2,ladder"
DECODE = "h100,llama-3-8b,8,4,1024,decode,511,nvlink_nccl,cuda_graph,serial,2044.0,ladder"


def written(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_decode_row_is_the_total_of_its_steps(tmp_path: Path) -> None:
    (run,) = read_runs(written(tmp_path, HEADER, DECODE))
    assert run.step_s == pytest.approx(4e-3)
    assert (run.steps, run.generated, run.line) == (511, 512, 2)


def test_a_prefill_row_learns_from_the_decode_row_of_its_run_how_long_the_run_was(
    tmp_path: Path,
) -> None:
    other = DECODE.replace("serial", "no_comm")
    first, _, alone, _ = read_runs(written(tmp_path, HEADER, PREFILL, DECODE, PREFILL, other))
    assert first.generated == 512
    assert alone.generated is None
    assert first.case != alone.case


def test_the_unit_is_that_of_the_column(tmp_path: Path) -> None:
    row = PREFILL.replace("43.2", "43200")
    (run,) = read_runs(written(tmp_path, HEADER.replace("_ms", "_us"), row))
    assert run.step_s == pytest.approx(43.2e-3)


def test_an_engine_named_eager_launches_kernels_one_by_one(tmp_path: Path) -> None:
    rows = (PREFILL, PREFILL.replace("cuda_graph", "vllm_eager"))
    assert [run.launch for run in read_runs(written(tmp_path, HEADER, *rows))] == [
        "cuda_graph",
        "eager",
    ]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("model,", "", "row 1: column 'model' is missing"),
        ("strategy,latency_ms", "strategy,latency_ms,latency_us", "found both"),
        ("latency_ms", "latency", "row 1: needs one latency column"),
        ("source", "sauce", "row 1: unknown column 'sauce'"),
        ("link", "model", "row 1: column 'model' is given twice"),
        ("43.2", "-43.2", "row 2: column latency_ms: -43.2 is not above zero"),
        ("43.2", "nan", "row 2: column latency_ms: nan is not a finite number"),
        ("43.2", "43.2ms", "row 2: column latency_ms: '43.2ms' is not a number"),
        ("43.2", "", "row 2: the latency column is empty"),
        (",8,4,", ",8.5,4,", "row 2: column tp: 8.5 is no whole number above zero"),
        (",8,4,", ",8,0,", "row 2: column batch: 0 is no whole number above zero"),
        ("prefill", "refill", "row 2: column phase: 'refill'"),
        (",serial,", ",,", "row 2: column strategy is empty"),
        (",ladder", "", "row 2: has more or fewer cells"),
    ],
)
def test_a_corrupt_table_is_one_line_naming_row_and_column(
    tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    text = "\n".join([HEADER, PREFILL]).replace(old, new, 1)
    with pytest.raises(InputError) as error:
        read_runs(written(tmp_path, text))
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no rows"):
        read_runs(written(tmp_path, HEADER))

"""Files and dumps of other tools become profiles that load and say what they are."""

import json
import re

import pytest

from isotune.cli import main
from isotune.simulator.errors import InputError
from isotune.simulator.machine import read_profile
from isotune.validation.importers import read_topology

SYSTEM = """\
data_dir: data/big_sxm
gpu:
  mem_bw: 3350000000000 # 3.35 TB/s
  mem_bw_empirical_scaling_factor: 0.8
  mem_capacity: 85899345920
  float16_tc_flops: 989000000000000
  fp8_tc_flops: 1979000000000000
  sm_version: 90
node:
  num_gpus_per_node: 8
  inter_node_bw: 50000000000
  intra_node_bw: 450000000000
  pcie_bw: 64000000000
  p2p_latency: 0.00001
misc:
  nccl_version: '2.27.3'
"""
NVLINK = """\
\tGPU0\tGPU1\tGPU2\tNIC0\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID
GPU0\tX \tNV12\tNV12\tPXB\t0-63,128-191\t0\t\tN/A
GPU1\tNV12\tX \tNV12\tSYS\t0-63,128-191\t0\t\tN/A
GPU2\tNV12\tNV12\tX \tSYS\t64-127\t1\t\tN/A
NIC0\tPXB\tSYS\tSYS\tX

Legend:

  X    = Self
  SYS  = Connection traversing PCIe as well as the SMP interconnect between NUMA nodes
"""
BRIDGED = """\
        GPU0    GPU1    GPU2    GPU3    CPU Affinity
GPU0     X      NV4     PHB     SYS     0-15
GPU1    NV4      X      PHB     SYS     0-15
GPU2    PHB     PHB      X      NV4     0-15
GPU3    SYS     SYS     NV4      X      16-31
"""


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code, *capsys.readouterr()


def file(tmp_path, text, name="in.yaml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_system_file_becomes_a_derived_profile(tmp_path, capsys):
    output = tmp_path / "big.yaml"
    system = file(tmp_path, SYSTEM)
    code, out, _ = run(
        capsys, "import", "aiconfigurator", system, "--from", "h100", "--nodes", 2, "-o", output
    )
    assert code == 0
    assert "note: big was not measured in full" in out
    big = read_profile(str(output))
    assert (big.gpu.bf16, big.gpu.fp8) == (989e12, 1979e12)
    assert (big.gpu.memory_bandwidth, big.gpu.memory) == (3.35e12, 80 * 2**30)
    assert (big.node.link, big.node.link_bandwidth, big.max_ranks) == ("nvlink", 450e9, 16)
    assert big.gpu.sms == read_profile("h100").gpu.sms
    assert big.source_of("gpu.sms").startswith("assumed - as h100")
    assert "aiconfigurator system file in.yaml" in big.source_of("gpu.bf16")


def test_a_system_file_of_this_year_names_the_rate_of_bfloat16_and_others(tmp_path, capsys):
    rates = "  bfloat16_tc_flops: 989000000000000\n  int8_tc_flops: 1978000000000000\n"
    text = SYSTEM.replace("  float16_tc_flops: 989000000000000\n", rates)
    text = text.replace("  sm_version", "  fp4_tc_flops: 9000000000000000\n  sm_version")
    output = tmp_path / "big.yaml"
    code, _, _ = run(
        capsys, "import", "aiconfigurator", file(tmp_path, text), "--from", "h100", "-o", output
    )
    gpu = read_profile(str(output)).gpu
    assert code == 0
    assert (gpu.bf16, gpu.fp8, gpu.int8, gpu.fp4) == (989e12, 1979e12, 1978e12, 9e15)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("gpu:", "gpus:", "no 'gpu' section"),
        ("  mem_bw: 3350000000000 # 3.35 TB/s\n", "", "gpu: mem_bw: Field required"),
        ("mem_bw: 3350000000000", "mem_bw: -1", "gpu: mem_bw: .*greater than 0"),
        ("float16_tc_flops: 989000000000000", "float16_tc_flops: fast", "gpu: float16_tc_flops"),
        ("  inter_node_bw: 50000000000\n", "", "inter_node_bw is missing, and --nodes is 2"),
    ],
)
def test_a_wrong_system_file_is_one_line(tmp_path, capsys, old, new, complaint):
    assert old in SYSTEM
    system, output = file(tmp_path, SYSTEM.replace(old, new, 1)), tmp_path / "big.yaml"
    code, _, err = run(
        capsys, "import", "aiconfigurator", system, "--from", "h100", "--nodes", 2, "-o", output
    )
    assert code == 2
    assert err.count("\n") == 1
    assert re.search(complaint, err)
    assert not output.exists()


def test_an_nvlink_figure_does_not_pass_for_a_pcie_machine(tmp_path, capsys):
    system, output = file(tmp_path, SYSTEM), tmp_path / "big.yaml"
    code, _, err = run(capsys, "import", "aiconfigurator", system, "--from", "l40s", "-o", output)
    assert code == 2
    assert "450 GB/s between GPUs is NVLink, which l40s has not" in err


def test_a_topology_counts_nvlinks_and_passes_over_network_cards(tmp_path):
    topology = read_topology(file(tmp_path, NVLINK))
    assert (topology.gpus, topology.nvlinks, topology.pcie_pairs) == (3, 12, ())


def test_the_escape_codes_of_nvidia_smi_are_no_part_of_the_heading(tmp_path):
    heading, rest = NVLINK.split("\n", 1)
    underlined = f"\t\x1b[4m{heading.strip()}\x1b[0m\n{rest}"
    plain, coloured = (read_topology(file(tmp_path, text)) for text in (NVLINK, underlined))
    assert coloured == plain


def test_the_topology_of_rocm_smi_is_refused_by_name(tmp_path):
    text = "==== ROCm System Management Interface ====\n       GPU0   GPU1\nGPU0   0      52\n"
    with pytest.raises(InputError, match="rocm-smi's topology, which is not read"):
        read_topology(file(tmp_path, text))


def _all_to_all(gpus, link):
    rows = [
        "\t".join([f"GPU{i}", *("X" if i == j else link for j in range(gpus)), "0-63"])
        for i in range(gpus)
    ]
    return "\n".join(["\t" + "\t".join(f"GPU{i}" for i in range(gpus)), *rows]) + "\n"


@pytest.mark.parametrize(
    ("base", "gpus", "link", "bandwidth"),
    [
        ("h100", 4, "NV6", 450e9),  # four GPUs joined directly: three times six links
        ("a100", 4, "NV4", 300e9),
        ("a100", 8, "NV12", 300e9),  # a switch: the twelve links to each are the same twelve
        ("h100", 2, "NV18", 450e9),
        ("h800", 3, "NV8", 200e9),
        ("b200", 8, "NV18", 900e9),  # NVLink 5
        ("h20", 8, "NV18", 450e9),
        ("h100", 8, "SYS", 63e9),  # PCI Express 5, as h100-pcie
        ("a100", 8, "SYS", 31.5e9),
        ("h20", 8, "SYS", 63e9),
        ("rtx3090", 4, "PHB", 31.5e9),
    ],
)
def test_links_add_up_to_what_the_machine_has(tmp_path, capsys, base, gpus, link, bandwidth):
    dump, output = file(tmp_path, _all_to_all(gpus, link), "topo.txt"), tmp_path / "mine.yaml"
    assert run(capsys, "import", "topo", dump, "--from", base, "-o", output)[0] == 0
    mine, relative = read_profile(str(output)), read_profile(base)
    assert mine.node.link_bandwidth == bandwidth
    assert mine.gpu == relative.gpu, "the GPU of a derived machine is its own"
    assert mine.derived_from == (relative.derived_from or base)


def test_pairs_with_pcie_only_are_spotted(tmp_path, capsys):
    dump = file(tmp_path, BRIDGED, "topo.txt")
    topology = read_topology(dump)
    assert topology.pcie_pairs == ((0, 2), (0, 3), (1, 2), (1, 3))
    assert (topology.farthest, topology.nvlinks) == ("SYS", 0)
    _, out, _ = run(capsys, "import", "topo", dump)
    assert "4 of 6 pairs have PCIe only: 0-2 (PHB), 0-3 (SYS)" in out
    data = json.loads(run(capsys, "import", "topo", dump, "--json")[1])
    assert data["pcie_only_pairs"] == [[0, 2], [0, 3], [1, 2], [1, 3]]


@pytest.mark.parametrize(
    ("text", "link", "bandwidth", "collectives"),
    [(NVLINK, "nvlink", 300e9, None), (BRIDGED, "pcie", 31.5e9, "l40s")],
)
def test_a_topology_becomes_a_profile(tmp_path, capsys, text, link, bandwidth, collectives):
    output = tmp_path / "mine.yaml"
    dump = file(tmp_path, text, "topo.txt")
    assert run(capsys, "import", "topo", dump, "--from", "a100", "-o", output)[0] == 0
    mine = read_profile(str(output))
    assert (mine.node.link, mine.node.link_bandwidth) == (link, bandwidth)
    assert mine.collectives_from == collectives
    assert mine.gpu == read_profile("a100").gpu
    assert "topo.txt" in mine.source_of("node")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("GPU0    GPU1", "CPU0    GPU1", "line 2: expected columns GPU0 GPU1"),
        ("GPU1    NV4", "GPU7    NV4", "line 3: expected the row of GPU1, 4 links"),
        ("GPU3    SYS     SYS     NV4      X      16-31\n", "", "ends before the row of GPU3"),
        ("GPU1    NV4", "GPU1    WIFI", "line 3: GPU1 to GPU0: unknown link 'WIFI'"),
        ("GPU1    NV4", "GPU1    NV2", "GPU0 to GPU1 is NV4, but NV2 back"),
    ],
)
def test_a_broken_dump_is_one_line(tmp_path, old, new, complaint):
    assert old in BRIDGED
    with pytest.raises(InputError, match=complaint):
        read_topology(file(tmp_path, BRIDGED.replace(old, new, 1)))


def test_a_profile_needs_both_a_base_and_a_place(tmp_path, capsys):
    code, _, err = run(capsys, "import", "topo", file(tmp_path, NVLINK), "--from", "a100")
    assert (code, "go together" in err) == (2, True)

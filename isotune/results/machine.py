"""What a real run ran on."""

from pydantic import Field

from isotune.results._result import Part


class Machine(Part):
    """The machine of rank 0: device, driver with clocks, libraries, variables; `memory` in bytes.

    `sms` and `memory` are 0 on a CPU. `attention` names the kernel of attention.
    """

    device: str
    torch: str
    python: str
    sms: int = 0
    memory: float = 0.0
    driver: str = ""
    cuda: str = ""
    cudnn: str = ""
    nccl: str = ""
    attention: str = ""
    environment: dict[str, str] = Field(default_factory=dict)

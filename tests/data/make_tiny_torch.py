"""Makes tiny_torch.bin, the PyTorch checkpoint that test_torch_bin.py reads; needs PyTorch."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch


def state() -> OrderedDict[str, torch.Tensor]:
    """Every type, views with strides and offsets, shared storage, odd shapes, and a parameter."""
    grid = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 4
    result = OrderedDict(
        plain=grid,
        transposed=grid.T,
        corner=grid[1:3, 2:],
        column=grid[:, 3],
        double=torch.tensor([1.5, -2.25], dtype=torch.float64),
        half=torch.tensor([[0.5], [65504.0]], dtype=torch.float16),
        bfloat16=torch.tensor([1.0, -3.5, 1e30], dtype=torch.bfloat16),
        long=torch.tensor([2**40, -1]),
        int=torch.tensor([7], dtype=torch.int32),
        short=torch.tensor([-300], dtype=torch.int16),
        char=torch.tensor([-5], dtype=torch.int8),
        byte=torch.tensor([250], dtype=torch.uint8),
        bool=torch.tensor([True, False]),
        scalar=torch.tensor(3.25),
        empty=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(torch.tensor([1.0, 2.0])),
    )
    result._metadata = OrderedDict({"": {"version": 1}})  # as Module.state_dict leaves it
    return result


if __name__ == "__main__":
    torch.save(state(), Path(__file__).with_name("tiny_torch.bin"))

"""The inference cases as ONNX: `python export_onnx.py CASE DATA FILE`, with PyTorch's exporter."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

from cases import CASES
from peer_torch import chain
from timing import SIDE, attention_arrays, load, micro_arrays


class Of(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def main():
    case, folder, file = sys.argv[1:]
    if case in CASES:
        weights, data = load(folder, case)
        model = CASES[case][0]()
        model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()}, strict=False)
        inputs = tuple(torch.from_numpy(array) for array in data)
    elif case.startswith("attn"):
        model = Of(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True))
        inputs = tuple(torch.from_numpy(array) for array in attention_arrays(case)[:3])
    else:
        x, w, b, y = (torch.from_numpy(array) for array in micro_arrays())
        model, inputs = {
            "micro_gelu": (Of(lambda x, w, b: F.gelu(x * w + b)), (x, w, b)),
            "micro_softmax": (Of(lambda x: F.softmax(x, -1)), (x,)),
            "micro_layernorm": (Of(lambda x, w, b: F.layer_norm(x, (SIDE,), w, b)), (x, w, b)),
            "micro_sum0": (Of(lambda x: x.sum(0)), (x,)),
            "micro_sum1": (Of(lambda x: x.sum(1)), (x,)),
            "micro_transpose_add": (Of(lambda x, y: x.t() + y), (x, y)),
            "tiny50": (Of(chain), (torch.ones(64),)),
        }[case]
    with torch.no_grad():
        torch.onnx.export(model.eval(), inputs, file, dynamo=True, external_data=True)


if __name__ == "__main__":
    main()

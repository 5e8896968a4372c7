"""Makes the cases of this folder: small networks for inputs of any size, as torch writes them, and what torch makes of some of them.

Needs torch, transformers, onnx and onnxscript; the tests need none of them. Run it here: `python make.py [CASE..]`.
A case is a folder as `graver conform` takes it. Those of images have chains of operations in which sizes are computed, in part as floats.
"""

import pathlib
import shutil
import sys

import numpy
import onnx
import torch
from torch import nn
from torch.nn import functional as F

HERE = pathlib.Path(__file__).parent


def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU())


class UNet(nn.Module):
    """Halved twice and doubled twice; `fit` brings what was doubled to the size that it had."""

    def __init__(self, fit):
        super().__init__()
        self.fit = fit
        self.down = nn.ModuleList([block(1, 2), block(2, 3), block(3, 4)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(4, 3, 2, stride=2), nn.ConvTranspose2d(3, 2, 2, stride=2)])
        self.join = nn.ModuleList([block(6, 3), block(4, 2)])

    def forward(self, x):
        first = self.down[0](x)
        second = self.down[1](F.max_pool2d(first, 2))
        y = self.down[2](F.max_pool2d(second, 2))
        for up, join, beside in zip(self.up, self.join, [second, first]):
            y = join(torch.cat([beside, self.fit(up(y), beside)], 1))
        return y


def lost(x, to):
    return [to.size(axis) - x.size(axis) for axis in (3, 2)]


def halves(x, to):
    return F.pad(x, [side for d in lost(x, to) for side in (d // 2, d - d // 2)])


def floors_and_ceilings(x, to):
    def whole(function, d):
        return function(torch.as_tensor(d) / 2).to(torch.int64)

    return F.pad(x, [side for d in lost(x, to) for side in (whole(torch.floor, d), whole(torch.ceil, d))])


def resized(x, to):
    return F.interpolate(x, size=to.shape[2:], mode="nearest")


class Padded(nn.Module):
    """To a multiple of 4, and cut again."""

    def __init__(self):
        super().__init__()
        self.inner = UNet(lambda x, to: x)

    def forward(self, x):
        sizes = [torch.as_tensor(size) for size in x.shape[2:]]
        height, width = [(torch.ceil(size / 4) * 4).to(torch.int64) - size for size in sizes]
        y = self.inner(F.pad(x, [0, width, 0, height]))
        return y[:, :, : x.shape[2], : x.shape[3]]


class Half(nn.Module):
    """A picture of half the size, and back."""

    def __init__(self):
        super().__init__()
        self.inner = block(1, 2)

    def forward(self, x):
        small = F.interpolate(x, scale_factor=0.5, mode="bilinear", recompute_scale_factor=True)
        return F.interpolate(self.inner(small), size=x.shape[2:], mode="bilinear")


class Residual(nn.Module):
    """A stem that pools, and two stages of residual blocks, the second of which halves."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.convs = nn.ModuleList([self.convs_of(4, 4, 1), self.convs_of(4, 6, 2)])
        self.short = nn.ModuleList([nn.Identity(), nn.Sequential(nn.Conv2d(4, 6, 1, stride=2, bias=False), nn.BatchNorm2d(6))])
        self.head = nn.Linear(6, 5)

    @staticmethod
    def convs_of(inputs, outputs, stride):
        first = [nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        return nn.Sequential(*first, nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.stem(x)
        for convs, short in zip(self.convs, self.short):
            y = F.relu(convs(y) + short(y))
        return self.head(F.adaptive_avg_pool2d(y, 1).flatten(1))


class Recurrent(nn.Module):
    """Two layers both ways from a state that is given; all that there is."""

    def __init__(self):
        super().__init__()
        self.inner = nn.LSTM(4, 5, num_layers=2, bidirectional=True)

    def forward(self, x, h, c):
        y, (h, c) = self.inner(x, (h, c))
        return y, h, c


class Gpt2(nn.Module):
    """That of transformers, with a mask of padding."""

    def __init__(self):
        from transformers import GPT2Config, GPT2LMHeadModel

        super().__init__()
        config = GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=16, use_cache=False)
        config._attn_implementation = "eager"
        self.inner = GPT2LMHeadModel(config)

    def forward(self, ids, mask):
        return self.inner(input_ids=ids, attention_mask=mask).logits


def picture(batch, *sizes):
    return {"x": torch.randn(batch, 1, *sizes)}


def series(batch, length):
    return {"x": torch.randn(length, batch, 4), "h": torch.randn(4, batch, 5), "c": torch.randn(4, batch, 5)}


def text(batch, length):
    """Every second row is padded on the left by two."""
    mask = torch.ones(batch, length, dtype=torch.int64)
    mask[1::2, :2] = 0
    return {"ids": torch.randint(0, 40, (batch, length)), "mask": mask}


def randomised(model):
    """Statistics, scales and shifts that are not those of a fresh network."""
    for part in model.modules():
        if isinstance(part, (nn.BatchNorm2d, nn.LayerNorm)):
            nn.init.uniform_(part.weight, 0.7, 1.3)
            nn.init.uniform_(part.bias, -0.3, 0.3)
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.3, 0.3)
            nn.init.uniform_(part.running_var, 0.6, 1.5)
    return model


def old(model, inputs, axes, version, path):
    """Axes of outputs need no names."""
    named = {name: {axis: size for axis, size in enumerate(sizes) if size} for name, sizes in axes.items()}
    torch.onnx.export(model, tuple(inputs.values()), path, dynamo=False, opset_version=version, input_names=list(inputs), dynamic_axes=named)


def new(model, inputs, axes, version, path):
    shapes = tuple({axis: torch.export.Dim.DYNAMIC for axis, size in enumerate(sizes) if size} for sizes in axes.values())
    torch.onnx.export(
        model, tuple(inputs.values()), path, dynamo=True, opset_version=version, input_names=list(inputs), dynamic_shapes=shapes, external_data=False
    )
    # Where in which files a node was traced is nobody else's business.
    traced = onnx.load(path)
    for part in [traced.graph, *traced.graph.node, *traced.graph.input, *traced.graph.output, *traced.graph.value_info]:
        del part.metadata_props[:]
    onnx.save(traced, path)


PICTURE = (picture, {"x": ("n", None, "h", "w")}, [(1, 16, 24), (1, 8, 12), (1, 9, 14), (1, 11, 7)])
PICTURES = (picture, PICTURE[1], [(2, 16, 24), (1, 8, 12), (3, 19, 30)])
SERIES = (series, {"x": ("length", "batch", None), "h": (None, "batch", None), "c": (None, "batch", None)}, [(2, 6), (1, 3), (3, 9)])
TEXT = (text, {"ids": ("batch", "length"), "mask": ("batch", "length")}, [(2, 6), (1, 5), (3, 11)])

# Of a case: the network, its exporter and the version of its operators; inputs by sizes, names of their axes, sizes, of which the first are
# those of the export.
CASES = {
    "padded_by_halves": (lambda: UNet(halves), old, 17, *PICTURE),
    "padded_by_floors_and_ceilings": (lambda: UNet(floors_and_ceilings), old, 17, *PICTURE),
    "padded_to_a_multiple": (Padded, old, 17, *PICTURE),
    "resized_by_a_half": (Half, old, 17, *PICTURE),
    "resized_to_sizes_as_scales": (lambda: UNet(resized), old, 9, *PICTURE),
    "unet": (lambda: UNet(halves), new, 18, *PICTURES),
    "resnet": (Residual, new, 20, *PICTURES),
    "lstm": (Recurrent, old, 14, *SERIES),
    "gpt2": (Gpt2, old, 17, *TEXT),
}

if __name__ == "__main__":
    for seed, (case, (network, export, version, inputs, axes, sizes)) in enumerate(CASES.items()):
        if sys.argv[1:] and case not in sys.argv[1:]:
            continue
        torch.manual_seed(seed)
        model, folder = randomised(network()).eval(), HERE / case
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        export(model, inputs(*sizes[0]), axes, version, folder / "model.onnx")
        for place, of in enumerate(sizes[1:]):
            values, given = inputs(*of), folder / f"set_{place}"
            (given / "expect").mkdir(parents=True)
            with torch.no_grad():
                results = model(*values.values())
            results = results if isinstance(results, tuple) else (results,)
            for kind, arrays in (("input", values.values()), ("expect/output", results)):
                for i, array in enumerate(arrays):
                    numpy.save(given / f"{kind}_{i}.npy", array.numpy())

"""The bench's cases in PyTorch: models, their data, their optimisers; the functions of single operations. Seeds are fixed."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

WIDTH, HEADS, LAYERS = 768, 12, 12


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(784, 512), nn.Linear(512, 512), nn.Linear(512, 10)

    def forward(self, x):
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(64 * 36, 128), nn.Linear(128, 10)

    def forward(self, x):
        for conv in (self.c1, self.c2):
            x = F.max_pool2d(F.relu(conv(x)), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class Sequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.fc = nn.LSTM(128, 256, batch_first=True), nn.Linear(256, 10)

    def forward(self, x):
        return self.fc(self.rnn(x)[0][:, -1])


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        shortcut = lambda: nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.down = shortcut() if inputs != outputs else None

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.down is None else self.down(x)))


class ResNet18(nn.Module):
    def __init__(self, classes, small):
        super().__init__()
        self.small = small
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False) if small else nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for stage, outputs in enumerate((64, 128, 256, 512), 1):
            blocks = (Block(inputs, outputs, 1 if stage == 1 else 2), Block(outputs, outputs, 1))
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
            inputs = outputs
        self.fc = nn.Linear(512, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        if not self.small:
            x = F.max_pool2d(x, 3, 2, 1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(x.mean((2, 3)))


def heads(x):
    return x.view(*x.shape[:2], HEADS, WIDTH // HEADS).transpose(1, 2)


def merged(x):
    return x.transpose(1, 2).flatten(2)


class BertLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.ln1, self.ln2 = nn.LayerNorm(WIDTH, 1e-12), nn.LayerNorm(WIDTH, 1e-12)

    def forward(self, x):
        seen = F.scaled_dot_product_attention(*(heads(part(x)) for part in (self.q, self.k, self.v)))
        x = self.ln1(x + self.o(merged(seen)))
        return self.ln2(x + self.down(F.gelu(self.up(x))))


class Bert(nn.Module):
    def __init__(self):
        super().__init__()
        self.word, self.pos, self.typ = nn.Embedding(30522, WIDTH), nn.Embedding(512, WIDTH), nn.Embedding(2, WIDTH)
        self.ln, self.layers = nn.LayerNorm(WIDTH, 1e-12), nn.ModuleList(BertLayer() for _ in range(LAYERS))

    def forward(self, tokens):
        x = self.ln(self.word(tokens) + self.pos.weight[: tokens.shape[1]] + self.typ.weight[0])
        for layer in self.layers:
            x = layer(x)
        return x


class GptLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        parts = (heads(part) for part in self.attn(self.ln1(x)).chunk(3, -1))
        x = x + self.proj(merged(F.scaled_dot_product_attention(*parts, is_causal=True)))
        return x + self.down(F.gelu(self.up(self.ln2(x)), approximate="tanh"))


class Table(nn.Embedding):
    """An embedding whose weight is that of the scores, too."""

    def times(self, x):
        return F.linear(x, self.weight)


class Gpt2(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = Table(50257, WIDTH), nn.Embedding(1024, WIDTH)
        self.h, self.lnf = nn.ModuleList(GptLayer() for _ in range(LAYERS)), nn.LayerNorm(WIDTH)

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]
        for layer in self.h:
            x = layer(x)
        return self.wte.times(self.lnf(x))

    def next(self, tokens, positions, keys, values):
        """Scores of the token after `tokens`, which stand at `positions` of the caches `[layers, 1, heads, capacity, 64]`."""
        x = self.wte(tokens) + self.wpe(positions)
        seen = torch.arange(keys.shape[3]) <= positions[:, None]
        for layer, k, v in zip(self.h, keys, values):
            parts = [heads(part) for part in layer.attn(layer.ln1(x)).chunk(3, -1)]
            k.index_copy_(2, positions, parts[1])
            v.index_copy_(2, positions, parts[2])
            x = x + layer.proj(merged(F.scaled_dot_product_attention(parts[0], k, v, attn_mask=seen)))
            x = x + layer.down(F.gelu(layer.up(layer.ln2(x)), approximate="tanh"))
        return self.wte.times(self.lnf(x[:, -1]))


class Kept(nn.Module):
    """A weight `[outputs, inputs]` in fewer bits, rounded as graver::nn::Storage does it.

    Products are of `bf16`, for which PyTorch's are made: of `f32` those of integers take three to eighty times as long.
    """

    GROUP = 64

    def __init__(self, weight, bias, storage):
        super().__init__()
        self.storage, self.outputs, self.bias = storage, len(weight), bias
        self.weight, self.scale = weight.detach().bfloat16(), None
        if storage != "bf16":
            most, group = (127, weight.shape[1]) if storage == "int8" else (7, self.GROUP)
            groups = weight.detach().double().unflatten(1, (-1, group))
            self.scale = (groups.abs().amax(-1) / most).float()
            values = torch.round(groups / self.scale.double()[..., None]).nan_to_num().clamp(-most, most)
            self.weight = values.flatten(1).to(torch.int8)
        if storage == "int8":
            self.operands = self.weight, self.scale.flatten().bfloat16()
        elif storage == "int4":
            # Rows are a multiple of the kernel's block.
            codes, scale = (F.pad(part, (0, 0, 0, -len(weight) % 64)) for part in ((self.weight + 8).int(), self.scale.bfloat16()))
            with_zero = torch.stack([scale, torch.zeros_like(scale)], -1).transpose(0, 1).contiguous()
            self.operands = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1), self.GROUP, with_zero

    def exact(self, ids=slice(None)):
        """Rows of what the weight is rounded to."""
        rows = self.weight[ids].float()
        return rows if self.scale is None else (rows.unflatten(-1, (self.scale.shape[1], -1)) * self.scale[ids][..., None]).flatten(-2)

    def times(self, x):
        """`x W^T`."""
        rows = x.flatten(0, -2).bfloat16()
        if self.storage == "bf16":
            y = F.linear(rows, self.weight)
        elif self.storage == "int8":
            y = torch.ops.aten._weight_int8pack_mm(rows, *self.operands)
        else:
            y = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, *self.operands)[:, : self.outputs]
        return y.float().unflatten(0, x.shape[:-1])


class KeptLinear(Kept):
    def __init__(self, linear, storage):
        super().__init__(linear.weight, linear.bias, storage)
        if storage == "int4":
            self.weight = None

    def forward(self, x):
        return self.times(x) + self.bias


class KeptTable(Kept):
    def forward(self, ids):
        return self.exact(ids)


def kept(model, storage):
    """The model with all matrices in fewer bits."""
    for layer in model.h:
        for name in ("attn", "proj", "up", "down"):
            setattr(layer, name, KeptLinear(getattr(layer, name), storage))
    model.wte = KeptTable(model.wte.weight, None, storage)
    return model


def rounded(model, storage):
    """The model with the weights that it has in fewer bits, in as many as before."""
    layers = (getattr(layer, name) for layer in model.h for name in ("attn", "proj", "up", "down"))
    for matrix in (model.wte, *layers):
        matrix.weight.data = Kept(matrix.weight, None, storage).exact()


def images(batch, side, classes):
    return torch.randn(batch, 3, side, side), torch.randint(classes, (batch,))


def sgd(momentum=0.0):
    return lambda params: torch.optim.SGD(params, 0.01, momentum=momentum)


# case: the model, its data, the optimiser of a training case, the standard deviation of its weights
CASES = {
    "mlp_train": (Mlp, lambda: (torch.randn(128, 784), torch.randint(10, (128,))), sgd(), None),
    "cnn_train": (Cnn, lambda: images(64, 24, 10), sgd(0.9), None),
    "cnn_infer_b1": (Cnn, lambda: images(1, 24, 10)[:1], None, None),
    "cnn_infer_b64": (Cnn, lambda: images(64, 24, 10)[:1], None, None),
    "lstm_train": (
        Sequence,
        lambda: (torch.randn(32, 64, 128), torch.randint(10, (32,))),
        lambda params: torch.optim.Adam(params, 1e-3),
        None,
    ),
    "resnet18_infer_b1": (lambda: ResNet18(1000, False), lambda: images(1, 224, 1000)[:1], None, None),
    "resnet18_infer_b8": (lambda: ResNet18(1000, False), lambda: images(8, 224, 1000)[:1], None, None),
    "resnet18_train": (lambda: ResNet18(10, True), lambda: images(32, 32, 10), sgd(0.9), None),
    "bert_base_infer_b1": (Bert, lambda: (torch.randint(30522, (1, 128)),), None, 0.02),
    "bert_base_infer_b8": (Bert, lambda: (torch.randint(30522, (8, 128)),), None, 0.02),
    "gpt2_small_train": (
        Gpt2,
        lambda: (torch.randint(50257, (4, 129)),),
        lambda params: torch.optim.AdamW(params, 1e-4, weight_decay=0.01),
        0.02,
    ),
}
CASES |= {
    f"gpt2_small_decode{storage}": (Gpt2, lambda: (torch.arange(16)[None] * 7 + 11,), None, 0.02)
    for storage in ("", "_bf16", "_int8", "_int4")
}



def chain(x):
    for _ in range(10):
        x = x * 1.01
        x = x + 0.1
        x = x - 0.05
        x = torch.relu(x)
        x = x * 0.99
    return x


def windows(x, w):
    """A window for each channel."""
    return F.conv2d(x, w, padding=w.shape[-1] // 2, groups=x.shape[1])


# The functions that operations name.
FUNCTIONS = {
    "gelu": lambda x, w, b: F.gelu(x * w + b),
    "softmax": lambda x: F.softmax(x, -1),
    "layer_norm": lambda x, w, b: F.layer_norm(x, x.shape[1:], w, b),
    "rms_norm": lambda x, w: F.rms_norm(x, x.shape[1:], w, 1e-5),
    "group_norm": lambda x, w, b: F.group_norm(x, 32, w, b),
    "sum0": lambda x: x.sum(0),
    "sum1": lambda x: x.sum(1),
    "cumsum0": lambda x: x.cumsum(0),
    "cumsum1": lambda x: x.cumsum(1),
    "transpose_add": lambda x, y: x.t() + y,
    "cross_entropy": F.cross_entropy,
    "embedding": lambda table, ids: F.embedding(ids, table),
    "max_pool": lambda x: F.max_pool2d(x, 3, 2, 1),
    "avg_pool": lambda x: F.avg_pool2d(x, 2),
    "windows": windows,
    "windows_of": lambda w, x: windows(x, w),
    "attention": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    "product": torch.mm,
    "linear": F.linear,
    "chain": chain,
}

# Tokens that a case of decoding writes behind its prompt.
TOKENS = 64


def fill(model, std):
    """Normal weights, biases of zero, norms that change nothing."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.normal_(std=std or 1 / math.sqrt(weight[0].numel()))
            else:
                weight.fill_(1.0 if name.endswith("weight") else 0.0)


def storage_of(case):
    """What a model's matrices are kept as, if not as they are."""
    return case.split("_decode_")[1] if "_decode_" in case else None


def result_of(case, model, data):
    """What is compared of a model that is used: of one that writes, the scores of the token after the prompt."""
    result = model(*data)
    return result[:, -1] if "_decode" in case else result


def loss_of(model, data):
    if isinstance(model, Gpt2):
        (tokens,) = data
        return F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    return F.cross_entropy(model(data[0]), data[1])

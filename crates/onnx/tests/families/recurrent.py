"""torch's recurrent layers in all their forms, and networks that go on from step to step by themselves."""

import torch
from torch import nn

from network import Network
from transformer import PAIRS, TOKENS, unmasked

VERSIONS = (9, 11, 14, 17)
SERIES, FIRST = {"x": ("length", "batch", None)}, {"x": ("batch", "length", None)}


class Recurrent(nn.Module):
    """All results; a state is given or zero."""

    def __init__(self, kind, **given):
        super().__init__()
        self.inner = getattr(nn, kind)(6, 5, **given)

    def forward(self, x, *state):
        given = [state if isinstance(self.inner, nn.LSTM) else state[0]] if state else []
        y, last = self.inner(x, *given)
        return (y, *last) if isinstance(last, tuple) else (y, last)


class Packed(nn.Module):
    """Sequences of different lengths."""

    def __init__(self, kind):
        super().__init__()
        self.inner = getattr(nn, kind)(6, 5, batch_first=True, bidirectional=True)

    def forward(self, x, lengths):
        y, last = self.inner(nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True))
        y, _ = nn.utils.rnn.pad_packed_sequence(y, batch_first=True)
        return (y, *last) if isinstance(last, tuple) else (y, last)


class Tagger(nn.Module):
    """An embedding, two layers both ways, a head, and a mean over steps."""

    def __init__(self, kind):
        super().__init__()
        self.embedding, self.head = nn.Embedding(99, 6), nn.Linear(10, 4)
        self.inner = getattr(nn, kind)(6, 5, bidirectional=True, batch_first=True, num_layers=2)

    def forward(self, tokens):
        y, _ = self.inner(self.embedding(tokens))
        return self.head(y).log_softmax(-1), y.mean(1)


class Cell(nn.Module):
    """A GRU's cell by hand: torch's own cannot be exported where it is scripted."""

    def __init__(self):
        super().__init__()
        self.of_x, self.of_h = nn.Linear(6, 15), nn.Linear(5, 15)

    def forward(self, x, h):
        r, z, n = self.of_x(x).chunk(3, -1)
        hr, hz, hn = self.of_h(h).chunk(3, -1)
        z = torch.sigmoid(z + hz)
        return (1 - z) * torch.tanh(n + torch.sigmoid(r + hr) * hn) + z * h


class Greedy(nn.Module):
    """An encoder, and a decoder that goes on by its own likeliest token for six steps."""

    def __init__(self, kind):
        super().__init__()
        self.source, self.target = nn.Embedding(99, 6), nn.Embedding(99, 6)
        self.encoder = getattr(nn, kind)(6, 5, batch_first=True)
        self.cell, self.head = Cell(), nn.Linear(5, 99)

    def forward(self, tokens):
        _, state = self.encoder(self.source(tokens))
        h = state[0]
        token = torch.zeros(tokens.size(0), dtype=torch.int64)
        scores = torch.zeros(tokens.size(0), 0, 99)
        for step in range(6):
            h = self.cell(self.target(token), h)
            score = self.head(h)
            token = score.argmax(-1)
            scores = torch.cat([scores, score.unsqueeze(1)], 1)
        return scores


class Stepping(nn.Module):
    """A cell over as many steps as there are."""

    def __init__(self):
        super().__init__()
        self.cell, self.head = Cell(), nn.Linear(5, 4)

    def forward(self, x):
        h = torch.zeros(x.size(0), 5)
        total = torch.zeros(x.size(0), 4)
        for step in range(x.size(1)):
            h = self.cell(x[:, step], h)
            total = total + self.head(h)
        return total, h


class Attending(nn.Module):
    """A decoder that attends to an encoder by sums, step by step over a target that is given."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.GRU(6, 5, batch_first=True, bidirectional=True)
        self.query, self.key, self.score = nn.Linear(5, 7), nn.Linear(10, 7), nn.Linear(7, 1)
        self.cell, self.head = nn.LSTMCell(16, 5), nn.Linear(5, 9)

    def forward(self, source, target):
        memory, _ = self.encoder(source)
        keys = self.key(memory)
        h = torch.zeros(source.size(0), 5)
        c = torch.zeros(source.size(0), 5)
        out = []
        for step in range(target.size(1)):
            weights = self.score(torch.tanh(keys + self.query(h).unsqueeze(1))).squeeze(-1).softmax(-1)
            context = (weights.unsqueeze(-1) * memory).sum(1)
            h, c = self.cell(torch.cat([target[:, step], context], -1), (h, c))
            out.append(self.head(h))
        return torch.stack(out, 1)


def series(sizes):
    return {"x": torch.randn(sizes["length"], sizes["batch"], 6)}


def first(sizes):
    return {"x": torch.randn(sizes["batch"], sizes["length"], 6)}


def begun(states):
    return lambda sizes: series(sizes) | {f"state.{i}": torch.randn(2, sizes["batch"], 5) for i in range(states)}


def packed(sizes):
    """The longest first, as exporters ask."""
    return first(sizes) | {"lengths": sizes["length"] - torch.arange(sizes["batch"])}


def both(sizes):
    return {name: torch.randn(sizes["batch"], sizes[name], 6) for name in ("source", "target")}


def layers(kind):
    """Of one kind: what a name ends with, the network, inputs and their axes, exporters."""
    states = {f"state.{i}": (None, "batch", None) for i in range(2 if kind == "LSTM" else 1)}
    for tail, given in {
        "plain": {}, "both": dict(bidirectional=True), "layers": dict(num_layers=2), "unbiased": dict(bias=False),
        "both_layers": dict(num_layers=2, bidirectional=True),
    }.items():
        yield tail, lambda given=given: Recurrent(kind, **given), series, SERIES
    yield "first", lambda: Recurrent(kind, batch_first=True, bidirectional=True), first, FIRST
    yield "begun", lambda: Recurrent(kind, bidirectional=True), begun(len(states)), SERIES | states
    yield "packed", lambda: Packed(kind), packed, FIRST | {"lengths": ("batch",)}, ("old",)
    yield "tagger", lambda: Tagger(kind), unmasked, {"input_ids": ("batch", "length")}
    if kind == "RNN":
        yield "relu", lambda: Recurrent(kind, nonlinearity="relu"), series, SERIES
    if kind == "LSTM":
        yield "projected", lambda: Recurrent(kind, proj_size=3, num_layers=2), series, SERIES


def networks():
    for kind in ("LSTM", "GRU", "RNN"):
        for tail, build, inputs, axes, *exporters in layers(kind):
            yield Network(kind, f"{kind.lower()}_{tail}", build, inputs, axes, TOKENS, VERSIONS, *exporters)
    tokens, steps = {"input_ids": ("batch", "length")}, [sizes | {"target": 5} for sizes in PAIRS]
    for name, build, inputs, axes, sizes in [
        ("greedy_gru", lambda: Greedy("GRU"), unmasked, tokens, TOKENS),
        ("greedy_rnn", lambda: Greedy("RNN"), unmasked, tokens, TOKENS),
        ("stepping", Stepping, first, {"x": ("batch", None, None)}, [sizes | {"length": 7} for sizes in TOKENS]),
        ("attending", Attending, both, {"source": ("batch", "source", None), "target": ("batch", None, None)}, steps),
    ]:
        yield Network("seq2seq", name, build, inputs, axes, sizes, VERSIONS)
    for name, build, inputs, axes, sizes in [
        ("greedy_gru", lambda: Greedy("GRU"), unmasked, tokens, TOKENS),
        ("greedy_rnn", lambda: Greedy("RNN"), unmasked, tokens, TOKENS),
        ("stepping", Stepping, first, FIRST, TOKENS),
        ("attending", Attending, both, {"source": ("batch", "source", None), "target": ("batch", "target", None)}, PAIRS),
    ]:
        yield Network("seq2seq", f"{name}_scripted", lambda build=build: torch.jit.script(build()), inputs, axes, sizes, VERSIONS, ("old",))

"""JAX on one case: `python peer_jax.py CASE jit THREADS DATA`. Convolutions are NHWC, weights of products [in, out], training donates."""

import os
import sys

THREADS = int(sys.argv[3])
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax, nn

from operations import OPERATIONS
from timing import compared, emit, load, measure

HEADS, WIDTH, LAYERS = 12, 768, 12


def dense(p, name, x):
    y = x @ p[f"{name}.weight"]
    return y + p[f"{name}.bias"] if f"{name}.bias" in p else y


def conv(p, name, x, stride=1, pad=1):
    dims = ("NHWC", "HWIO", "NHWC")
    y = lax.conv_general_dilated(x, p[f"{name}.weight"], (stride, stride), ((pad, pad),) * 2, dimension_numbers=dims)
    return y + p[f"{name}.bias"] if f"{name}.bias" in p else y


def max_pool(x, size=2, stride=2, pad=0):
    pads = ((0, 0), (pad, pad), (pad, pad), (0, 0))
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, size, size, 1), (1, stride, stride, 1), pads)


def layer_norm(x, weight, bias, eps):
    centred = x - x.mean(-1, keepdims=True)
    return centred * lax.rsqrt((centred * centred).mean(-1, keepdims=True) + eps) * weight + bias


def norm(p, name, x, eps=1e-5):
    return layer_norm(x, p[f"{name}.weight"], p[f"{name}.bias"], eps)


def mlp(p, x):
    return dense(p, "fc3", nn.relu(dense(p, "fc2", nn.relu(dense(p, "fc1", x)))))


def cnn(p, x):
    for name in ("c1", "c2"):
        x = max_pool(nn.relu(conv(p, name, x)))
    return dense(p, "fc2", nn.relu(dense(p, "fc1", x.reshape(x.shape[0], -1))))


def lstm(p, x):
    gates = (dense({"rnn.weight": p["rnn.weight_ih_l0"]}, "rnn", x) + p["rnn.bias_ih_l0"] + p["rnn.bias_hh_l0"]).transpose(1, 0, 2)

    def cell(carry, gate):
        h, c = carry
        i, f, g, o = jnp.split(gate + h @ p["rnn.weight_hh_l0"], 4, -1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        return (nn.sigmoid(o) * jnp.tanh(c), c), None

    zero = jnp.zeros((x.shape[0], 256))
    (h, _), _ = lax.scan(cell, (zero, zero), gates)
    return dense(p, "fc", h)


def resnet(p, x, train):
    """The result, and the running statistics that a training step leaves."""
    statistics = {}
    small = p["conv1.weight"].shape[0] == 3

    def batch_norm(name, x):
        if train:
            mean, var, count = x.mean((0, 1, 2)), x.var((0, 1, 2)), x.size // x.shape[-1]
            for which, value in (("mean", mean), ("var", var * count / (count - 1))):
                statistics[f"{name}.running_{which}"] = 0.9 * p[f"{name}.running_{which}"] + 0.1 * value
        else:
            mean, var = p[f"{name}.running_mean"], p[f"{name}.running_var"]
        return (x - mean) * (lax.rsqrt(var + 1e-5) * p[f"{name}.weight"]) + p[f"{name}.bias"]

    x = nn.relu(batch_norm("bn1", conv(p, "conv1", x, 1 if small else 2, 1 if small else 3)))
    if not small:
        x = max_pool(x, 3, 2, 1)
    for stage in range(1, 5):
        for block in range(2):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = nn.relu(batch_norm(f"{name}.bn1", conv(p, f"{name}.conv1", x, stride)))
            y = batch_norm(f"{name}.bn2", conv(p, f"{name}.conv2", y))
            if f"{name}.down.0.weight" in p:
                x = batch_norm(f"{name}.down.1", conv(p, f"{name}.down.0", x, stride, 0))
            x = nn.relu(y + x)
    return dense(p, "fc", x.mean((1, 2))), statistics


def heads(x):
    return x.reshape(*x.shape[:2], HEADS, WIDTH // HEADS).transpose(0, 2, 1, 3)


def merged(x):
    return x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], WIDTH)


def attend(q, k, v, mask=None):
    scores = jnp.einsum("bhqd,bhkd->bhqk", q, k) / np.sqrt(q.shape[-1]).astype(np.float32)
    if mask is not None:
        scores = jnp.where(mask, scores, -jnp.inf)
    return jnp.einsum("bhqk,bhkd->bhqd", nn.softmax(scores, -1), v)


def bert(p, tokens):
    x = norm(p, "ln", p["word.weight"][tokens] + p["pos.weight"][: tokens.shape[1]] + p["typ.weight"][0], 1e-12)
    for layer in range(LAYERS):
        name = f"layers.{layer}"
        seen = attend(*(heads(dense(p, f"{name}.{part}", x)) for part in "qkv"))
        x = norm(p, f"{name}.ln1", x + dense(p, f"{name}.o", merged(seen)), 1e-12)
        y = nn.gelu(dense(p, f"{name}.up", x), approximate=False)
        x = norm(p, f"{name}.ln2", x + dense(p, f"{name}.down", y), 1e-12)
    return x


def gpt2(p, tokens):
    length = tokens.shape[1]
    x, mask = p["wte.weight"][tokens] + p["wpe.weight"][:length], jnp.tril(jnp.ones((length, length), bool))
    for layer in range(LAYERS):
        name = f"h.{layer}"
        parts = jnp.split(dense(p, f"{name}.attn", norm(p, f"{name}.ln1", x)), 3, -1)
        x = x + dense(p, f"{name}.proj", merged(attend(*map(heads, parts), mask)))
        y = nn.gelu(dense(p, f"{name}.up", norm(p, f"{name}.ln2", x)), approximate=True)
        x = x + dense(p, f"{name}.down", y)
    return norm(p, "lnf", x) @ p["wte.weight"].T


MODELS = {"mlp": mlp, "cnn": cnn, "lstm": lstm, "bert": bert, "gpt2": gpt2}
OPTIMIZERS = {
    "mlp_train": lambda: optax.sgd(0.01),
    "cnn_train": lambda: optax.sgd(0.01, momentum=0.9),
    "resnet18_train": lambda: optax.sgd(0.01, momentum=0.9),
    "lstm_train": lambda: optax.adam(1e-3),
    "gpt2_small_train": lambda: optax.adamw(1e-4, weight_decay=0.01),
}
EMBEDDINGS = ("word.", "pos.", "typ.", "wte.", "wpe.")


def converted(case, name, value):
    """A weight of PyTorch's in the layout that is natural here."""
    if case.startswith("cnn") and name == "fc1.weight":
        value = value.reshape(128, 64, 6, 6).transpose(0, 2, 3, 1).reshape(128, -1)
    if value.ndim == 4:
        value = value.transpose(2, 3, 1, 0)
    elif value.ndim == 2 and not name.startswith(EMBEDDINGS):
        value = value.T
    return jnp.array(np.ascontiguousarray(value))


def chain(x):
    for _ in range(10):
        x = nn.relu(x * 1.01 + 0.1 - 0.05) * 0.99
    return x


def group_norm(x, weight, bias):
    rows = x.reshape(x.shape[0], 32, -1)
    centred = rows - rows.mean(-1, keepdims=True)
    normal = centred * lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
    return normal.reshape(x.shape) * weight[:, None, None] + bias[:, None, None]


def avg_pool(x):
    return lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4


def windows(x, w):
    """A window for each channel."""
    dims, pad = ("NHWC", "HWIO", "NHWC"), w.shape[0] // 2
    return lax.conv_general_dilated(x, w, (1, 1), ((pad, pad),) * 2, dimension_numbers=dims, feature_group_count=x.shape[-1])


def attention(q, k, v):
    swap = lambda x: x.transpose(0, 2, 1, 3)
    return swap(nn.dot_product_attention(*map(swap, (q, k, v)), is_causal=True))


# The functions that operations name.
FUNCTIONS = {
    "gelu": lambda x, w, b: nn.gelu(x * w + b, approximate=False),
    "softmax": lambda x: nn.softmax(x, -1),
    "layer_norm": lambda x, w, b: layer_norm(x, w, b, 1e-5),
    "rms_norm": lambda x, w: x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * w,
    "group_norm": group_norm,
    "sum0": lambda x: x.sum(0),
    "sum1": lambda x: x.sum(1),
    "cumsum0": lambda x: jnp.cumsum(x, 0),
    "cumsum1": lambda x: jnp.cumsum(x, 1),
    "transpose_add": lambda x, y: x.T + y,
    "cross_entropy": lambda x, y: optax.softmax_cross_entropy_with_integer_labels(x, y).mean(),
    "embedding": lambda table, ids: table[ids],
    "max_pool": lambda x: max_pool(x, 3, 2, 1),
    "avg_pool": avg_pool,
    "windows": windows,
    "windows_of": lambda w, x: windows(x, w),
    "attention": attention,
    "product": jnp.matmul,
    "linear": lambda x, w: x @ w.T,
    "chain": chain,
}
# How the axes of their arguments lie where that is not as in PyTorch's; results lie as the first argument does.
CHANNELS_LAST, WINDOW = (0, 2, 3, 1), (2, 3, 1, 0)
LAYOUTS = {
    "max_pool": [CHANNELS_LAST] * 2,
    "avg_pool": [CHANNELS_LAST] * 2,
    "windows": [CHANNELS_LAST, WINDOW, CHANNELS_LAST],
    "windows_of": [WINDOW, CHANNELS_LAST, CHANNELS_LAST],
}


def operation(case, data):
    """A call of a single operation, and its results as PyTorch's lie."""
    name, _, wrt, forward = OPERATIONS[case]
    function, layouts = FUNCTIONS[name], LAYOUTS.get(name, [range(array.ndim) for array in data])
    data = [jnp.asarray(np.array(array.transpose(*layout), order="C")) for array, layout in zip(data, layouts)]

    def pull(*args):
        """The function's results, and its derivatives from a cotangent."""
        return jax.vjp(lambda *inputs: function(*inputs, *args[wrt:]), *args[:wrt])

    if not wrt:
        run, args = jax.jit(lambda *args: [function(*args)]), data
    elif forward:
        run, args = jax.jit(lambda *args: pull(*args[:-1])[1](args[-1])), data
    else:
        run, args = jax.jit(lambda pulled, cotangent: pulled(cotangent)), (jax.jit(pull)(*data[:-1])[1], data[-1])
    call = lambda: jax.block_until_ready(run(*args))
    return call, lambda: [np.asarray(result).transpose(np.argsort(layouts[0])[: result.ndim]) for result in call()]


def main():
    case, mode, _, folder = sys.argv[1:]
    weights, data = load(folder, case)
    if case in OPERATIONS:
        call, results = operation(case, data)
        return emit(case, "jax", mode, measure(call), **compared(folder, case, results()))
    params = {name: converted(case, name, value) for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    data = [jnp.asarray(array.transpose(0, 2, 3, 1) if array.ndim == 4 else array) for array in data]
    is_resnet = case.startswith("resnet")
    if case not in OPTIMIZERS:
        model = jax.jit((lambda p, x: resnet(p, x, False)[0]) if is_resnet else MODELS[case.split("_")[0]])
        run = lambda: model(params, data[0]).block_until_ready()
        return emit(case, "jax", mode, measure(run), check=float(np.abs(np.asarray(run(), np.float64)).mean()))
    running = {name: value for name, value in params.items() if "running" in name}
    params = {name: value for name, value in params.items() if "running" not in name}
    optimizer = OPTIMIZERS[case]()
    entropy = lambda logits, labels: optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def loss(params, running, data):
        if is_resnet:
            logits, running = resnet({**params, **running}, data[0], True)
        elif case.startswith("gpt2"):
            return entropy(gpt2(params, data[0][:, :-1]), data[0][:, 1:]), running
        else:
            logits = MODELS[case.split("_")[0]](params, data[0])
        return entropy(logits, data[1]), running

    def step(params, running, state, data):
        (value, running), grads = jax.value_and_grad(loss, has_aux=True)(params, running, data)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), running, state, value

    step, now, losses = jax.jit(step, donate_argnums=(0, 1, 2)), [params, running, optimizer.init(params)], []

    def run():
        *now[:], value = step(*now, data)
        losses.append(float(value))

    row = measure(run)
    emit(case, "jax", mode, row, check=losses[0], check2=losses[2])


if __name__ == "__main__":
    main()

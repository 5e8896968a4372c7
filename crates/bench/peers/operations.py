"""The bench's single operations, of which every engine has functions of its own: what goes in, and what is asked for."""

from typing import NamedTuple

SIDE = 4096


def below(limit, *shape):
    """Integers below a number."""
    return shape, limit


class Operation(NamedTuple):
    """A case: the name of its function, the shapes of its arguments, and of how many of the first it wants derivatives.

    The last argument of a derivative is the cotangent. What an engine keeps of its forward pass is there before the clock starts,
    unless `forward` says that it is timed too.
    """

    function: str
    args: list
    wrt: int = 0
    forward: bool = False


MATRIX, NARROW, LOGITS = (SIDE, SIDE), (4096, 1024), (512, 32000)
GROUPED, IMAGES, POOLED, SMALL = (16, 64, 64, 64), (32, 64, 112, 112), (32, 64, 56, 56), (8, 96, 56, 56)

OPERATIONS = {
    "micro_gelu": Operation("gelu", [MATRIX, (SIDE,), (SIDE,)]),
    "micro_softmax": Operation("softmax", [MATRIX]),
    "micro_layernorm": Operation("layer_norm", [MATRIX, (SIDE,), (SIDE,)]),
    "micro_sum0": Operation("sum0", [MATRIX]),
    "micro_sum1": Operation("sum1", [MATRIX]),
    "micro_transpose_add": Operation("transpose_add", [MATRIX, MATRIX]),
    "micro_cumsum0": Operation("cumsum0", [MATRIX]),
    "micro_cumsum1": Operation("cumsum1", [MATRIX]),
    "micro_cumsum_line": Operation("cumsum0", [(4 << 20,)]),
    "micro_cross_entropy": Operation("cross_entropy", [LOGITS, below(32000, 512)]),
    "micro_cross_entropy_grad": Operation("cross_entropy", [LOGITS, below(32000, 512), ()], 1),
    "micro_layernorm_grad": Operation("layer_norm", [NARROW, (1024,), (1024,), NARROW], 3),
    "micro_rmsnorm": Operation("rms_norm", [MATRIX, (SIDE,)]),
    "micro_rmsnorm_grad": Operation("rms_norm", [NARROW, (1024,), NARROW], 2),
    "micro_groupnorm": Operation("group_norm", [GROUPED, (64,), (64,)]),
    "micro_groupnorm_grad": Operation("group_norm", [GROUPED, (64,), (64,), GROUPED], 3),
    "micro_embedding_grad": Operation("embedding", [(32000, 768), below(32000, 8192), (8192, 768)], 1),
    "micro_maxpool": Operation("max_pool", [IMAGES]),
    "micro_maxpool_grad": Operation("max_pool", [IMAGES, POOLED], 1),
    "micro_avgpool": Operation("avg_pool", [IMAGES]),
    "micro_avgpool_grad": Operation("avg_pool", [IMAGES, POOLED], 1),
    "tiny50": Operation("chain", [(64,)]),
}

for side in (3, 7):
    window = (96, 1, side, side)
    OPERATIONS |= {
        f"micro_depthwise{side}": Operation("windows", [SMALL, window]),
        f"micro_depthwise{side}_grad_x": Operation("windows", [SMALL, window, SMALL], 1),
        f"micro_depthwise{side}_grad_w": Operation("windows_of", [window, SMALL, SMALL], 1),
    }
for tokens in (2048, 4096):
    heads = (1, 12, tokens, 64)
    OPERATIONS |= {
        f"attn_fwd_t{tokens}": Operation("attention", [heads] * 3),
        f"attn_grad_t{tokens}": Operation("attention", [heads] * 4, 3, forward=True),
    }
SIZES = [(size, size, size) for size in (64, 128, 256, 512, 1024, 2048)] + [(size, 768, 3072) for size in (1, 8, 128)]
for m, k, n in SIZES:
    OPERATIONS |= {
        f"gemm_{m}x{k}x{n}": Operation("product", [(m, k), (k, n)]),
        f"linear_{m}x{k}x{n}": Operation("linear", [(m, k), (n, k)]),
    }

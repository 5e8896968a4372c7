"""Makes the cases of this folder: operators that the sample of ONNX's suite has not, one node each, several nodes a model.

Needs onnx, whose reference evaluator says what is expected; the tests need neither. Run it here: `python make.py`.
A case is a folder as `graver conform` takes it. A node's results are the model's, in the order of the rows.
"""

import pathlib
import shutil

import numpy
from onnx import TensorProto, helper, numpy_helper, save
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

HERE = pathlib.Path(__file__).parent
LATEST = 28
CHANCE = numpy.random.default_rng(0)


def normal(*shape):
    return CHANCE.normal(size=shape).astype(numpy.float32)


def between(low, high, *shape):
    return CHANCE.uniform(low, high, size=shape).astype(numpy.float32)


def integers(low, high, *shape, dtype=numpy.int64):
    return CHANCE.integers(low, high, size=shape).astype(dtype)


def whole(*values):
    return numpy.array(values, dtype=numpy.int64)


X = normal(3, 4)
X[0, :2] = [0.5, -2.5]
# The evaluator takes the number of pictures for that of channels where it normalises over neighbours: they are alike here.
CHANNELS = 4
LARGEST_OF_FOUR = numpy.array([[[[5, 7], [13, 10]]]], dtype=numpy.int64)

# Of a case: inputs; constants, which are no inputs; rows of an operator, its operands, its attributes, how many results it has.
CASES = {
    "one_by_one": (
        {
            "x": X, "inside": between(-0.9, 0.9, 3, 4), "above": between(1.1, 3, 3, 4), "y": normal(4),
            "odd": numpy.array([1, numpy.inf, numpy.nan, -numpy.inf], numpy.float32),
        },
        {},
        [(op, "x") for op in "Abs Atan Asinh Celu Cos Cosh Elu Erf Exp HardSigmoid HardSwish LeakyRelu Mish Neg".split()]
        + [(op, "x") for op in "Reciprocal Round Selu Sigmoid Sign Sin Sinh Softplus Softsign Swish Tan Tanh ThresholdedRelu".split()]
        + [(op, "inside") for op in "Acos Asin Atanh".split()]
        + [(op, "above") for op in "Acosh Log Sqrt".split()]
        + [("Shrink", "x", {"lambd": 0.4, "bias": 0.1}), ("IsInf", "odd"), ("Pow", "above x"), ("PRelu", "x y"), ("SwiGLU", "x above")]
        + [(op, "x y inside") for op in "Max Min Mean Sum".split()],
    ),
    "compared": (
        {
            "x": integers(-2, 3, 3, 4, dtype=numpy.float32), "y": integers(-2, 3, 4, dtype=numpy.float32),
            "yes": integers(0, 2, 3, 1, dtype=numpy.bool_), "no": integers(0, 2, 4, dtype=numpy.bool_),
            "bits": integers(0, 256, 5, dtype=numpy.uint8), "more": integers(0, 7, 5, dtype=numpy.uint8),
            "wide": integers(-9, 9, 3, dtype=numpy.int32),
        },
        {},
        [(op, "x y") for op in "Equal Greater GreaterOrEqual Less LessOrEqual".split()]
        + [(op, "yes no") for op in "And Or Xor".split()]
        + [(op, "bits more") for op in "BitwiseAnd BitwiseOr BitwiseXor".split()]
        + [("Not", "yes"), ("BitwiseNot", "bits"), ("BitShift", "bits more", {"direction": "LEFT"})]
        + [("BitShift", "bits more", {"direction": "RIGHT"})]
        + [("BitCast", "x", {"to": TensorProto.UINT32}), ("CastLike", "x wide"), ("Dropout", "x", {}, 2)],
    ),
    "reduced": (
        {
            "x": between(0.5, 2, 2, 3, 4), "picture": normal(CHANNELS, CHANNELS, 3, 2), "scale": normal(CHANNELS),
            "shift": normal(CHANNELS),
        },
        {"last": whole(-1), "ends": whole(0, 2), "first": numpy.int64(1)},
        [(op, "x ends") for op in "ReduceL1 ReduceLogSum ReduceMax ReduceMean ReduceMin ReduceProd ReduceSumSquare".split()]
        + [("ReduceSum", "x last", {"keepdims": 0}), ("ArgMin", "x", {"axis": 1, "keepdims": 0})]
        + [("CumProd", "x first", {"exclusive": 1, "reverse": 1})]
        + [("LpNormalization", "x", {"axis": 1}), ("MeanVarianceNormalization", "picture")]
        + [("GroupNormalization", "picture scale shift", {"num_groups": 2}), ("LRN", "picture", {"size": 3})]
        + [("Hardmax", "x", {"axis": 1}), ("LogSoftmax", "x", {"axis": 1})],
    ),
    "moved": (
        {
            "x": normal(2, 1, 3), "square": normal(2, 4, 4), "places": integers(-4, 4, 2, 2, 4), "lengths": whole(3, 1, 4, 2),
            "rows": normal(2, 4),
        },
        {
            "sizes": whole(2, 4, 3), "times": whole(1, 2, 3), "middle": whole(1), "cut": whole(3, 5), "start": numpy.int64(7),
            "limit": numpy.int64(-2), "step": numpy.int64(-3), "corners": whole(1, 3, 0, 0).reshape(2, 2),
            "kinds": numpy.array([[1, 0, 0], [0, 2, 3]], numpy.float32), "from": whole(0, 2), "block": normal(2, 2, 4),
        },
        [("Expand", "x sizes"), ("Tile", "x times"), ("Squeeze", "x middle"), ("Flatten", "square", {"axis": 2})]
        + [("Size", "square"), ("Trilu", "square", {"upper": 0}), ("EyeLike", "rows", {"k": 1})]
        + [("GatherElements", "square places", {"axis": 1}), ("CenterCropPad", "square cut", {"axes": [1, 2]})]
        + [("ReverseSequence", "square lengths", {"batch_axis": 1, "time_axis": 2}), ("Range", "start limit step"), ("NonZero", "kinds")]
        + [("ScatterND", "square corners rows", {"reduction": "add"}), ("TensorScatter", "square block from", {"axis": 1})],
    ),
    "scattered": (
        {"x": normal(3, 3), "places": whole(1, 0, 2, 0, 2, 1).reshape(2, 3), "y": normal(2, 3)},
        {},
        [("Scatter", "x places y")],
    ),
    "pictures": (
        {
            "x": normal(1, 4, 4, 6), "blocks": normal(1, 8, 6), "filter": normal(2, 4, 2, 2), "offsets": between(-1, 1, 1, 8, 3, 5),
            "mask": between(0, 1, 1, 4, 3, 5), "theta": normal(2, 2, 3), "squares": normal(2, 3, 3),
            "largest": numpy.array([[[[1, 2], [3, 4]]]], numpy.float32),
        },
        {"image": whole(3, 4), "block": whole(2, 2), "grid": whole(2, 1, 3, 4), "where": LARGEST_OF_FOUR},
        [("GlobalAveragePool", "x"), ("GlobalMaxPool", "x"), ("GlobalLpPool", "x")]
        + [("LpPool", "x", {"kernel_shape": [2, 3], "p": 3}), ("SpaceToDepth", "x", {"blocksize": 2})]
        + [("Col2Im", "blocks image block"), ("DeformConv", "x filter offsets  mask", {"kernel_shape": [2, 2]})]
        + [("AffineGrid", "theta grid"), ("Det", "squares"), ("MaxUnpool", "largest where", {"kernel_shape": [2, 2], "strides": [2, 2]})],
    ),
    "quantized": (
        {
            "x": integers(0, 256, 2, 3, dtype=numpy.uint8), "y": integers(0, 256, 3, 2, dtype=numpy.uint8), "real": normal(2, 3),
            "picture": integers(0, 256, 1, 1, 3, 4, dtype=numpy.uint8), "filter": integers(0, 256, 2, 1, 2, 2, dtype=numpy.uint8),
        },
        {"zero": numpy.uint8(120), "zeros": numpy.array([3, 250], numpy.uint8), "scale": numpy.float32(0.02)},
        [("ConvInteger", "picture filter zero"), ("MatMulInteger", "x y zero zeros"), ("QLinearMatMul", "x scale zero y scale zero scale zero")]
        + [("DynamicQuantizeLinear", "real", {}, 3), ("QuantizeLinear", "real scale zero")],
    ),
    "signals": (
        {"x": normal(2)},
        {
            "ten": numpy.int64(10), "bins": numpy.int64(4), "length": numpy.int64(16), "rate": numpy.int64(8000), "low": numpy.float32(0),
            "high": numpy.float32(4000),
        },
        [("BlackmanWindow", "ten", {"periodic": 0}), ("HammingWindow", "ten"), ("HannWindow", "ten")]
        + [("MelWeightMatrix", "bins length rate low high"), ("Neg", "x")],
    ),
    "layers": (
        {
            "x": normal(3, 2, 4), "y": normal(4, 5), "weights": normal(2, 3, 4), "again": normal(2, 3, 3), "shifts": normal(2, 6),
            "query": normal(1, 3, 4), "key": normal(1, 3, 4), "value": normal(1, 3, 6), "series": normal(2, 3, 5),
            "taps": normal(3, 1, 3), "scores": normal(4, 3), "targets": whole(2, 0, 1, 1),
        },
        {},
        [("MatMul", "x y"), ("RNN", "x weights again shifts", {"hidden_size": 3, "direction": "bidirectional"}, 2)]
        + [("LinearAttention", "query key value", {"q_num_heads": 2, "kv_num_heads": 2, "update_rule": "linear"}, 2)]
        + [("CausalConvWithState", "series taps", {"activation": "silu"}, 2), ("SoftmaxCrossEntropyLoss", "scores targets", {"reduction": "mean"})],
    ),
}
# What has been replaced is known up to the version before.
VERSIONS = {"scattered": 10}


class Scatter(OpRun):
    """Not in the evaluator, which has only what replaced it."""

    def _run(self, x, places, y, axis=None):
        out = x.copy()
        numpy.put_along_axis(out, places, y, axis or 0)
        return (out,)


class GlobalLpPool(OpRun):
    """Not in the evaluator."""

    def _run(self, x, p=None):
        return ((numpy.abs(x) ** (p or 2)).sum(axis=(2, 3), keepdims=True) ** (1 / (p or 2)),)


def made(inputs, constants, rows, version):
    """The model of a case, without types of its results, which the evaluator says."""
    nodes, names = [], []
    for place, (op, operands, *more) in enumerate(rows):
        attributes, results = (*more, *({}, 1)[len(more) :])
        own = [f"{op}_{place}" + (f"_{i}" if i else "") for i in range(results)]
        nodes.append(helper.make_node(op, operands.split(" "), own, name=own[0], **attributes))
        names += own
    types = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for n, x in inputs.items()]
    given = [numpy_helper.from_array(numpy.asarray(x), n) for n, x in constants.items()]
    graph = helper.make_graph(nodes, "operators", types, [helper.make_empty_tensor_value_info(n) for n in names], given)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=10)


if __name__ == "__main__":
    for name, (inputs, constants, rows) in CASES.items():
        folder = HERE / name
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "set_0/expect").mkdir(parents=True)
        model = made(inputs, constants, rows, VERSIONS.get(name, LATEST))
        results = ReferenceEvaluator(model, new_ops=[Scatter, GlobalLpPool]).run(None, inputs)
        for value, result in zip(model.graph.output, results):
            result = numpy.asarray(result)
            value.CopyFrom(helper.make_tensor_value_info(value.name, helper.np_dtype_to_tensor_dtype(result.dtype), result.shape))
        save(model, folder / "model.onnx")
        for kind, arrays in (("input", inputs.values()), ("expect/output", results)):
            for place, x in enumerate(arrays):
                numpy.save(folder / f"set_0/{kind}_{place}.npy", numpy.asarray(x))

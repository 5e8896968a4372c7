//! The table: operation, first version of the operator set, translation. A family a file; a translation is a free function over [`Node`].

mod activation;
pub(crate) mod attention;
mod choice;
mod contract;
mod einsum;
mod index;
mod linear_attention;
mod loss;
mod map;
mod movement;
mod ngram;
mod norm;
mod quantize;
mod recurrent;
pub(crate) mod reduce;
mod region;
mod resize;
mod sample;
mod signal;
mod sort;
pub(crate) mod sparse;
mod window;

use graver_ir::op::{Extreme, ReduceKind};
use graver_ir::{ScalarFn, Value};

use crate::build::Builder;
use crate::node::Node;
use crate::problem::{Result, unsupported};
use recurrent::Cell;
use reduce::{Kind, Rows};

/// The newest version of the standard operators that the table knows.
pub(crate) const LATEST: i64 = 28;

pub(crate) type Values = Result<Vec<Value>>;

/// How an operation is translated.
#[derive(Clone, Copy)]
pub(crate) enum Translate {
    /// A scalar function of one operand.
    Unary(ScalarFn),
    /// A scalar function of two operands, broadcast.
    Binary(ScalarFn),
    /// A scalar function over any number of operands.
    Variadic(ScalarFn),
    /// A few functions of one operand, without attributes.
    Plain(fn(&mut Builder, Value) -> Result<Value>),
    /// A reduction.
    Reduce(Kind),
    /// The position of an extreme.
    Arg(Extreme),
    /// A function of rows.
    Rows(Rows),
    /// A running sum or product.
    Cumulative(ReduceKind),
    /// A cell over time.
    Recurrent(Cell),
    /// A window of cosines.
    Cosines(&'static [f64]),
    /// Anything else.
    Node(fn(&mut Node<'_>) -> Values),
}

impl Translate {
    pub(crate) fn run(self, n: &mut Node<'_>) -> Values {
        match self {
            Self::Unary(function) => map::unary(n, function),
            Self::Binary(function) => map::binary(n, function),
            Self::Variadic(function) => map::variadic(n, function),
            Self::Plain(function) => activation::plain(n, function),
            Self::Reduce(kind) => reduce::reduce(n, kind),
            Self::Arg(kind) => reduce::arg(n, kind),
            Self::Rows(rows) => reduce::rows(n, rows),
            Self::Cumulative(kind) => reduce::cumulative(n, kind),
            Self::Recurrent(cell) => recurrent::recurrent(n, cell),
            Self::Cosines(weights) => signal::window(n, weights),
            Self::Node(translate) => translate(n),
        }
    }
}

/// An operation from a version on, until a later row of the same name.
struct Row {
    name: &'static str,
    since: i64,
    translate: Translate,
    /// The translation as it stands in the table.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the page of operations, which a test writes"))]
    text: &'static str,
}

macro_rules! rows {
    ($(($name:literal, $since:literal, $translate:expr)),* $(,)?) => {
        &[$(Row { name: $name, since: $since, translate: $translate, text: stringify!($translate) }),*]
    };
}

use Translate::{Arg, Binary, Cosines, Cumulative, Node as Whole, Plain, Recurrent, Reduce, Rows as OfRows, Unary, Variadic};

/// Operations of the standard domain, by name. Attributes that became operands are told apart by what is there, not by rows.
const ROWS: &[Row] = rows![
    ("Abs", 1, Unary(ScalarFn::Abs)),
    ("Acos", 7, Plain(activation::acos)),
    ("Acosh", 9, Plain(activation::acosh)),
    ("Add", 1, Binary(ScalarFn::Add)),
    ("AffineGrid", 20, Whole(sample::affine_grid)),
    ("And", 1, Binary(ScalarFn::And)),
    ("ArgMax", 1, Arg(Extreme::Max)),
    ("ArgMin", 1, Arg(Extreme::Min)),
    ("Asin", 7, Plain(activation::asin)),
    ("Asinh", 9, Plain(activation::asinh)),
    ("Atan", 7, Plain(activation::atan)),
    ("Atanh", 9, Plain(activation::atanh)),
    ("Attention", 23, Whole(attention::attention)),
    ("AveragePool", 1, Whole(window::average_pool)),
    ("BatchNormalization", 1, Whole(norm::batch)),
    ("BitCast", 26, Whole(map::bit_cast)),
    ("BitShift", 11, Whole(map::bit_shift)),
    ("BitwiseAnd", 18, Binary(ScalarFn::And)),
    ("BitwiseNot", 18, Unary(ScalarFn::Not)),
    ("BitwiseOr", 18, Binary(ScalarFn::Or)),
    ("BitwiseXor", 18, Binary(ScalarFn::Xor)),
    ("BlackmanWindow", 17, Cosines(&[0.42, -0.5, 0.08])),
    ("Cast", 6, Whole(map::cast)),
    ("CastLike", 15, Whole(map::cast_like)),
    ("CausalConvWithState", 27, Whole(attention::causal_conv)),
    ("Ceil", 1, Unary(ScalarFn::Ceil)),
    ("Celu", 12, Whole(activation::celu)),
    ("CenterCropPad", 18, Whole(movement::center_crop_pad)),
    ("Clip", 1, Whole(map::clip)),
    ("Col2Im", 18, Whole(sample::col_to_image)),
    ("Compress", 9, Whole(choice::compress)),
    ("Concat", 1, Whole(movement::concat)),
    ("Constant", 1, Whole(index::constant)),
    ("ConstantOfShape", 9, Whole(index::constant_of_shape)),
    ("Conv", 1, Whole(contract::conv)),
    ("ConvInteger", 10, Whole(quantize::conv_integer)),
    ("ConvTranspose", 1, Whole(contract::conv_transpose)),
    ("Cos", 7, Unary(ScalarFn::Cos)),
    ("Cosh", 9, Plain(activation::cosh)),
    ("CumProd", 26, Cumulative(ReduceKind::Prod)),
    ("CumSum", 11, Cumulative(ReduceKind::Sum)),
    ("DFT", 17, Whole(signal::fourier)),
    ("DeformConv", 19, Whole(sample::deform_conv)),
    ("DepthToSpace", 1, Whole(movement::depth_to_space)),
    ("DequantizeLinear", 10, Whole(quantize::dequantize)),
    ("Det", 11, Whole(sample::determinant)),
    ("Div", 1, Binary(ScalarFn::Div)),
    ("Dropout", 1, Whole(map::dropout)),
    ("DynamicQuantizeLinear", 11, Whole(quantize::dynamic)),
    ("Einsum", 12, Whole(contract::einsum)),
    ("Elu", 1, Whole(activation::elu)),
    ("Equal", 1, Binary(ScalarFn::Eq)),
    ("Erf", 9, Whole(map::erf)),
    ("Exp", 1, Unary(ScalarFn::Exp)),
    ("Expand", 8, Whole(movement::expand)),
    ("EyeLike", 9, Whole(index::eye_like)),
    ("Flatten", 1, Whole(movement::flatten)),
    ("Floor", 1, Unary(ScalarFn::Floor)),
    ("GRU", 1, Recurrent(Cell::Gru)),
    ("Gather", 1, Whole(index::gather)),
    ("GatherElements", 11, Whole(index::gather_elements)),
    ("GatherND", 11, Whole(index::gather_nd)),
    ("Gelu", 20, Whole(activation::gelu)),
    ("Gemm", 1, Whole(contract::gemm)),
    ("GlobalAveragePool", 1, Whole(window::global_average_pool)),
    ("GlobalLpPool", 1, Whole(window::global_lp_pool)),
    ("GlobalMaxPool", 1, Whole(window::global_max_pool)),
    ("Greater", 1, Binary(ScalarFn::Gt)),
    ("GreaterOrEqual", 12, Binary(ScalarFn::Ge)),
    ("GridSample", 16, Whole(sample::grid_sample)),
    ("GroupNormalization", 18, Whole(norm::group)),
    ("HammingWindow", 17, Cosines(&[25.0 / 46.0, -21.0 / 46.0])),
    ("HannWindow", 17, Cosines(&[0.5, -0.5])),
    ("HardSigmoid", 1, Whole(activation::hard_sigmoid)),
    ("HardSwish", 14, Plain(activation::hard_swish)),
    ("Hardmax", 1, OfRows(Rows::Hardmax)),
    ("Identity", 1, Whole(map::identity)),
    ("InstanceNormalization", 1, Whole(norm::instance)),
    ("IsInf", 10, Whole(map::is_inf)),
    ("IsNaN", 9, Whole(map::is_nan)),
    ("LRN", 1, Whole(norm::local_response)),
    ("LSTM", 1, Recurrent(Cell::Lstm)),
    ("LayerNormalization", 17, Whole(norm::layer)),
    ("LeakyRelu", 1, Whole(activation::leaky_relu)),
    ("Less", 1, Binary(ScalarFn::Lt)),
    ("LessOrEqual", 12, Binary(ScalarFn::Le)),
    ("LinearAttention", 27, Whole(linear_attention::linear_attention)),
    ("Log", 1, Unary(ScalarFn::Log)),
    ("LogSoftmax", 1, OfRows(Rows::LogSoftmax)),
    ("LpNormalization", 1, Whole(norm::lp)),
    ("LpPool", 1, Whole(window::lp_pool)),
    ("MatMul", 1, Whole(contract::matmul)),
    ("MatMulInteger", 10, Whole(quantize::matmul_integer)),
    ("Max", 1, Variadic(ScalarFn::Max)),
    ("MaxPool", 1, Whole(window::max_pool)),
    ("MaxUnpool", 9, Whole(window::max_unpool)),
    ("Mean", 1, Whole(map::mean)),
    ("MeanVarianceNormalization", 9, Whole(norm::mean_variance)),
    ("MelWeightMatrix", 17, Whole(signal::mel_weights)),
    ("Min", 1, Variadic(ScalarFn::Min)),
    ("Mish", 18, Plain(activation::mish)),
    ("Mod", 10, Whole(map::modulo)),
    ("Mul", 1, Binary(ScalarFn::Mul)),
    ("Neg", 1, Unary(ScalarFn::Neg)),
    ("NegativeLogLikelihoodLoss", 12, Whole(loss::negative_log_likelihood)),
    ("NonMaxSuppression", 10, Whole(choice::non_max_suppression)),
    ("NonZero", 9, Whole(choice::non_zero)),
    ("Not", 1, Unary(ScalarFn::Not)),
    ("OneHot", 9, Whole(index::one_hot)),
    ("Or", 1, Binary(ScalarFn::Or)),
    ("PRelu", 1, Whole(activation::prelu)),
    ("Pad", 1, Whole(movement::pad)),
    ("Pow", 1, Whole(map::pow)),
    ("QLinearConv", 10, Whole(quantize::conv)),
    ("QLinearMatMul", 10, Whole(quantize::matmul)),
    ("QuantizeLinear", 10, Whole(quantize::quantize)),
    ("RMSNormalization", 23, Whole(norm::rms)),
    ("RNN", 1, Recurrent(Cell::Rnn)),
    ("Range", 11, Whole(index::range)),
    ("Reciprocal", 1, Plain(activation::reciprocal)),
    ("ReduceL1", 1, Reduce(Kind::L1)),
    ("ReduceL2", 1, Reduce(Kind::L2)),
    ("ReduceLogSum", 1, Reduce(Kind::LogSum)),
    ("ReduceLogSumExp", 1, Reduce(Kind::LogSumExp)),
    ("ReduceMax", 1, Reduce(Kind::Plain(ReduceKind::Max))),
    ("ReduceMean", 1, Reduce(Kind::Mean)),
    ("ReduceMin", 1, Reduce(Kind::Plain(ReduceKind::Min))),
    ("ReduceProd", 1, Reduce(Kind::Plain(ReduceKind::Prod))),
    ("ReduceSum", 1, Reduce(Kind::Plain(ReduceKind::Sum))),
    ("ReduceSumSquare", 1, Reduce(Kind::SumSquare)),
    ("Relu", 1, Unary(ScalarFn::Relu)),
    ("Reshape", 1, Whole(movement::reshape)),
    ("Resize", 10, Whole(resize::resize)),
    ("ReverseSequence", 10, Whole(movement::reverse_sequence)),
    ("RoiAlign", 10, Whole(region::align)),
    ("RotaryEmbedding", 23, Whole(attention::rotary_embedding)),
    ("Round", 11, Unary(ScalarFn::Round)),
    ("STFT", 17, Whole(signal::short_time)),
    ("Scatter", 9, Whole(index::scatter_elements)),
    ("ScatterElements", 11, Whole(index::scatter_elements)),
    ("ScatterND", 11, Whole(index::scatter_nd)),
    ("Selu", 1, Whole(activation::selu)),
    ("Shape", 1, Whole(index::shape)),
    ("Shrink", 9, Whole(activation::shrink)),
    ("Sigmoid", 1, Unary(ScalarFn::Sigmoid)),
    ("Sign", 9, Unary(ScalarFn::Sign)),
    ("Sin", 7, Unary(ScalarFn::Sin)),
    ("Sinh", 9, Plain(activation::sinh)),
    ("Size", 1, Whole(index::size)),
    ("Slice", 1, Whole(movement::slice)),
    ("Softmax", 1, OfRows(Rows::Softmax)),
    ("SoftmaxCrossEntropyLoss", 12, Whole(loss::softmax_cross_entropy)),
    ("Softplus", 1, Plain(activation::softplus)),
    ("Softsign", 1, Plain(activation::softsign)),
    ("SpaceToDepth", 1, Whole(movement::space_to_depth)),
    ("Split", 1, Whole(movement::split)),
    ("Sqrt", 1, Unary(ScalarFn::Sqrt)),
    ("Squeeze", 1, Whole(movement::squeeze)),
    ("Sub", 1, Binary(ScalarFn::Sub)),
    ("Sum", 1, Variadic(ScalarFn::Add)),
    ("SwiGLU", 28, Whole(activation::swiglu)),
    ("Swish", 24, Whole(activation::swish)),
    ("Tan", 7, Plain(activation::tan)),
    ("Tanh", 1, Unary(ScalarFn::Tanh)),
    ("TensorScatter", 24, Whole(attention::tensor_scatter)),
    ("TfIdfVectorizer", 9, Whole(ngram::tf_idf)),
    ("ThresholdedRelu", 10, Whole(activation::thresholded_relu)),
    ("Tile", 6, Whole(movement::tile)),
    ("TopK", 1, Whole(sort::top_k)),
    ("Transpose", 1, Whole(movement::transpose)),
    ("Trilu", 14, Whole(index::trilu)),
    ("Unique", 11, Whole(choice::unique)),
    ("Unsqueeze", 1, Whole(movement::unsqueeze)),
    ("Upsample", 7, Whole(resize::resize)),
    ("Where", 9, Whole(map::select)),
    ("Xor", 1, Binary(ScalarFn::Xor)),
];

/// The translation of an operation in a version.
pub(crate) fn find(domain: &str, op: &str, version: i64) -> Result<Translate> {
    if !domain.is_empty() {
        return unsupported(format!("the operation of the domain `{domain}`"));
    }
    if version > LATEST {
        return unsupported(format!("version {version} of the operators; {LATEST} is the newest that is known"));
    }
    let rows = ROWS.iter().filter(|row| row.name == op && row.since <= version);
    match rows.max_by_key(|row| row.since) {
        Some(row) => Ok(row.translate),
        None => unsupported(format!("the operation in version {version}")),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::path::Path;

    use super::{LATEST, ROWS, Row};

    #[test]
    fn rows_are_in_order_and_none_is_there_twice() {
        assert!(ROWS.is_sorted_by(|x, y| (x.name, x.since) < (y.name, y.since)));
    }

    /// `Whole(norm::layer)` as `norm::layer`, `Unary(ScalarFn::Abs)` as `Unary(Abs)`.
    fn function(row: &Row) -> String {
        let text = row.text.split_whitespace().collect::<String>();
        let whole = text.strip_prefix("Whole(").and_then(|rest| rest.strip_suffix(')'));
        whole.map_or_else(|| text.replace("ScalarFn::", "").replace("ReduceKind::", ""), str::to_owned)
    }

    fn page() -> String {
        let mut page = format!(
            "# ONNX operations\n\nOperations of the standard domain, the version of the operator set from which on each is known (up to {LATEST}), and what \
             translates it: a function of `crates/onnx/src/ops`, or a kind of translation that many share. `If`, `Loop` and `Scan` are in \
             `crates/onnx/src/control`, and so is `FlexAttention` of `ai.onnx.preview`. This page is written by a test and held by it.\n\n\
             | operation | since | translated by |\n|---|---|---|\n"
        );
        for row in ROWS {
            writeln!(page, "| `{}` | {} | `{}` |", row.name, row.since, function(row)).expect("memory takes it");
        }
        page
    }

    /// To write the page again: `GRAVER_BLESS=1 cargo test -p graver-onnx page`.
    #[test]
    fn the_page_of_operations_is_the_table() {
        let (path, written) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/onnx-ops.md"), page());
        if std::env::var_os("GRAVER_BLESS").is_some() {
            std::fs::write(&path, &written).expect("the project's folder is writable");
        }
        let held = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(held == written, "docs/onnx-ops.md is not the table; write it again with GRAVER_BLESS=1\n{written}");
    }
}

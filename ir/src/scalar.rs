//! The table of scalar functions: what a map applies to elements, and what kernel bodies are made of.
//!
//! One row a function. The type rules are here; meanings are in the interpreter, derivatives in the grad pass,
//! code in the backends, each a `match` that does not compile until the new function has its arm.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::dtype::{DType, DTypeKind};

/// Which element types a function takes, and what it gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Floats to the same float.
    Float,
    /// Any number (not bool) to the same type.
    Number,
    /// Integers and bool to the same type.
    Bits,
    /// Integers to the same type.
    Int,
    /// Any type, all operands alike, to bool.
    Compare,
    /// Floats to bool.
    Test,
    /// `(bool, T, T)` to `T`, any `T`.
    Select,
}

macro_rules! scalar_functions {
    ($($variant:ident $name:literal $arity:literal $rule:ident $order:ident $doc:literal;)*) => {
        /// A function of scalars.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum ScalarFn { $(#[doc = $doc] $variant),* }

        impl ScalarFn {
            /// Every function, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in texts.
            #[must_use]
            pub const fn name(self) -> &'static str { match self { $(Self::$variant => $name),* } }

            /// The number of operands.
            #[must_use]
            pub const fn arity(self) -> usize { match self { $(Self::$variant => $arity),* } }

            /// The type rule.
            #[must_use]
            pub const fn rule(self) -> Rule { match self { $(Self::$variant => Rule::$rule),* } }

            /// Whether the first two operands may be exchanged, bit for bit.
            #[must_use]
            pub const fn commutes(self) -> bool { match self { $(Self::$variant => commutes!($order)),* } }

            /// One sentence of meaning.
            #[must_use]
            pub const fn doc(self) -> &'static str { match self { $(Self::$variant => $doc),* } }
        }
    };
}

macro_rules! commutes {
    (commutes) => {
        true
    };
    (ordered) => {
        false
    };
}

scalar_functions! {
    // variant  name      arity rule   operands  meaning
    Neg       "neg"       1 Number  ordered  "`-x`; wraps for integers";
    Abs       "abs"       1 Number  ordered  "`|x|`; the derivative at 0 is 0";
    Sign      "sign"      1 Number  ordered  "-1, 0 or 1; NaN stays NaN";
    Relu      "relu"      1 Number  ordered  "`max(x, 0)`; NaN stays NaN; the derivative at 0 is 0";
    Floor     "floor"     1 Float   ordered  "the greatest integer not above `x`";
    Ceil      "ceil"      1 Float   ordered  "the least integer not below `x`";
    Trunc     "trunc"     1 Float   ordered  "`x` rounded towards zero";
    Round     "round"     1 Float   ordered  "`x` rounded to nearest, ties to even";
    Exp       "exp"       1 Float   ordered  "`e^x`";
    Expm1     "expm1"     1 Float   ordered  "`e^x - 1`, accurate near 0";
    Log       "log"       1 Float   ordered  "the natural logarithm";
    Log1p     "log1p"     1 Float   ordered  "`log(1 + x)`, accurate near 0";
    Sqrt      "sqrt"      1 Float   ordered  "the square root, correctly rounded";
    Rsqrt     "rsqrt"     1 Float   ordered  "`1 / sqrt(x)`";
    Sin       "sin"       1 Float   ordered  "the sine of radians";
    Cos       "cos"       1 Float   ordered  "the cosine of radians";
    Tanh      "tanh"      1 Float   ordered  "the hyperbolic tangent";
    Sigmoid   "sigmoid"   1 Float   ordered  "`1 / (1 + e^-x)`";
    Erf       "erf"       1 Float   ordered  "the error function";
    Not       "not"       1 Bits    ordered  "bitwise complement; logical for bool";
    IsNan     "is_nan"    1 Test    ordered  "whether `x` is NaN";
    IsFinite  "is_finite" 1 Test    ordered  "whether `x` is neither NaN nor infinite";
    Add       "add"       2 Number  commutes "`x + y`; wraps for integers";
    Sub       "sub"       2 Number  ordered  "`x - y`; wraps for integers";
    Mul       "mul"       2 Number  commutes "`x * y`; wraps for integers";
    Div       "div"       2 Number  ordered  "`x / y`; integers truncate, and division by zero is an error of the call";
    Rem       "rem"       2 Number  ordered  "`x - y * trunc(x / y)`, with the sign of `x`; integers as `div`";
    Pow       "pow"       2 Float   ordered  "`x^y`";
    Max       "max"       2 Number  ordered  "the greater; NaN if either is NaN";
    Min       "min"       2 Number  ordered  "the lesser; NaN if either is NaN";
    And       "and"       2 Bits    commutes "bitwise and; logical for bool";
    Or        "or"        2 Bits    commutes "bitwise or; logical for bool";
    Xor       "xor"       2 Bits    commutes "bitwise exclusive or; logical for bool";
    Shl       "shl"       2 Int     ordered  "`x << y`; 0 where `y` is not below the width";
    Shr       "shr"       2 Int     ordered  "`x >> y`, arithmetic for signed; the sign's fill where `y` is not below the width";
    Eq        "eq"        2 Compare commutes "`x == y`; false for NaN";
    Ne        "ne"        2 Compare commutes "`x != y`; true for NaN";
    Lt        "lt"        2 Compare ordered  "`x < y`";
    Le        "le"        2 Compare ordered  "`x <= y`";
    Gt        "gt"        2 Compare ordered  "`x > y`";
    Ge        "ge"        2 Compare ordered  "`x >= y`";
    Select    "select"    3 Select  ordered  "`x` where the condition holds, else `y`; the other is ignored, NaN too";
}

impl ScalarFn {
    /// The result's element type.
    ///
    /// # Errors
    /// A sentence that says which operand does not fit.
    pub fn infer(self, operands: &[DType]) -> Result<DType, String> {
        if operands.len() != self.arity() {
            return Err(format!("takes {} operands, got {}", self.arity(), operands.len()));
        }
        let alike = |of: &[DType]| match of.iter().find(|dtype| **dtype != of[0]) {
            Some(other) => Err(format!("element types differ: {} and {other}", of[0])),
            None => Ok(of[0]),
        };
        let of_kind = |what: &str, admits: fn(DTypeKind) -> bool| {
            let dtype = alike(operands)?;
            if admits(dtype.kind()) { Ok(dtype) } else { Err(format!("takes {what}, got {dtype}")) }
        };
        match self.rule() {
            Rule::Float => of_kind("floats", |kind| kind == DTypeKind::Float),
            Rule::Number => of_kind("numbers", |kind| kind != DTypeKind::Bool),
            Rule::Bits => of_kind("integers or bool", |kind| kind != DTypeKind::Float),
            Rule::Int => of_kind("integers", |kind| matches!(kind, DTypeKind::Signed | DTypeKind::Unsigned)),
            Rule::Compare => alike(operands).map(|_| DType::Bool),
            Rule::Test => of_kind("floats", |kind| kind == DTypeKind::Float).map(|_| DType::Bool),
            Rule::Select if operands[0] != DType::Bool => Err(format!("the condition must be bool, got {}", operands[0])),
            Rule::Select => alike(&operands[1..]),
        }
    }
}

impl fmt::Display for ScalarFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ScalarFn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|function| function.name() == text).ok_or_else(|| format!("unknown function `{text}`"))
    }
}

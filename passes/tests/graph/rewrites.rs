//! What simplify and fold rewrite, and what they must leave alone: a program, a pass, the program after it.

use graver_ir::text;

use crate::common::after;

/// A function over arguments of these types.
fn program(types: &str, body: &str) -> String {
    let params: String =
        types.split_terminator("; ").enumerate().map(|(place, ty)| format!("  %{place}: {ty} = arg \"a{place}\",\n")).collect();
    let lines: String = body.lines().map(|line| format!("  {}\n", line.trim())).collect();
    format!("graver 1\n\nfunc @main(\n{params}) {{\n{lines}}}\n")
}

/// Checks what a pass makes of a body, dead nodes aside.
fn check(pass: &str, types: &str, body: &str, expected: &str) {
    let module = text::parse(&program(types, body)).expect("the test's program is right");
    let expected = text::parse(&program(types, expected)).expect("the expected program is right");
    let got = after(module, &[pass, "dce"]);
    assert_eq!(text::print_without_locs(&got), text::print_without_locs(&after(expected, &["dce"])), "{body}");
}

/// Checks that a pass leaves a body alone.
fn check_kept(pass: &str, types: &str, body: &str) {
    check(pass, types, body, body);
}

#[test]
fn neutral_constants() {
    let with = |dtype: &str, op: &str, value: &str| {
        format!(
            "%1 = const() {{value = {dtype}[] [{value}]}} : {dtype}[]
             %2 = broadcast(%1) {{shape = [3], axes = []}} : {dtype}[3]
             %3 = {op}(%0, %2) : {dtype}[3]
             return %3"
        )
    };
    for (dtype, op, value) in [
        ("f32", "mul", "1.0"),
        ("f32", "div", "1.0"),
        ("f32", "add", "-0.0"),
        ("f32", "sub", "0.0"),
        ("f32", "pow", "1.0"),
        ("i32", "add", "0"),
        ("i32", "mul", "1"),
        ("i32", "sub", "0"),
    ] {
        check("simplify", &format!("{dtype}[3]"), &with(dtype, op, value), "return %0");
    }
    // -0.0 + 0.0 is 0.0, -0.0 - -0.0 is 0.0, NaN * 0 is NaN, 0^2 is no product of the table.
    for (op, value) in [("add", "0.0"), ("sub", "-0.0"), ("mul", "0.0"), ("div", "3.0"), ("pow", "2.0"), ("max", "1.0")] {
        check_kept("simplify", "f32[3]", &with("f32", op, value));
    }
}

#[test]
fn a_division_by_a_power_of_two_is_a_product() {
    let with = |op: &str, value: &str| {
        format!(
            "%1 = const() {{value = f32[] [{value}]}} : f32[]
             %2 = broadcast(%1) {{shape = [3], axes = []}} : f32[3]
             %3 = {op}(%0, %2) : f32[3]
             return %3"
        )
    };
    check("simplify", "f32[3]", &with("div", "-8.0"), &with("mul", "-0.125"));
    check_kept("simplify", "f32[3]", &with("div", "1.7014118346046923e38"));
}

#[test]
fn repeated_functions() {
    let twice = |outer: &str, inner: &str| format!("%1 = {inner}(%0) : f32[3]\n%2 = {outer}(%1) : f32[3]\nreturn %2");
    check("simplify", "f32[3]", &twice("neg", "neg"), "return %0");
    check("simplify", "f32[3]", &twice("relu", "relu"), "%1 = relu(%0) : f32[3]\nreturn %1");
    check("simplify", "f32[3]", &twice("round", "floor"), "%1 = floor(%0) : f32[3]\nreturn %1");
    check("simplify", "f32[3]", &twice("abs", "neg"), "%1 = abs(%0) : f32[3]\nreturn %1");
    for (outer, inner) in [("exp", "log"), ("neg", "relu"), ("sqrt", "sqrt"), ("abs", "relu")] {
        check_kept("simplify", "f32[3]", &twice(outer, inner));
    }
}

#[test]
fn same_operands() {
    let both = |dtype: &str, op: &str, out: &str| {
        format!("%1 = {op}(%0, %0) : {out}[3]\nreturn %1", out = if out.is_empty() { dtype } else { out })
    };
    check("simplify", "f32[3]", &both("f32", "max", ""), "return %0");
    check("simplify", "bool[3]", &both("bool", "and", ""), "return %0");
    for op in ["sub", "add", "div"] {
        check_kept("simplify", "f32[3]", &both("f32", op, ""));
    }
    // NaN is not equal to itself.
    check_kept("simplify", "f32[3]", &both("f32", "eq", "bool"));
    check(
        "simplify",
        "i32[3]",
        &both("i32", "le", "bool"),
        "%1 = const() {value = bool[] [true]} : bool[]
         %2 = broadcast(%1) {shape = [3], axes = []} : bool[3]
         return %2",
    );
}

#[test]
fn conversions() {
    let through = |middle: &str, to: &str| {
        format!("%1 = cast(%0) {{to = {middle}}} : {middle}[3]\n%2 = cast(%1) {{to = {to}}} : {to}[3]\nreturn %2")
    };
    check("simplify", "f16[3]", &through("f32", "f16"), "return %0");
    check("simplify", "u8[3]", &through("f32", "f64"), "%1 = cast(%0) {to = f64} : f64[3]\nreturn %1");
    check_kept("simplify", "f32[3]", &through("f16", "f32"));
    check_kept("simplify", "i64[3]", &through("f64", "i64"));
    check_kept("simplify", "f16[3]", &through("bf16", "f32"));
}

#[test]
fn selections() {
    check("simplify", "bool[3]; f32[3]", "%2 = select(%0, %1, %1) : f32[3]\nreturn %2", "return %1");
    check(
        "simplify",
        "bool[3]; f32[3]; f32[3]",
        "%3 = not(%0) : bool[3]\n%4 = select(%3, %1, %2) : f32[3]\nreturn %4",
        "%3 = select(%0, %2, %1) : f32[3]\nreturn %3",
    );
    check(
        "simplify",
        "f32[3]; f32[3]",
        "%2 = const() {value = bool[] [false]} : bool[]
         %3 = broadcast(%2) {shape = [3], axes = []} : bool[3]
         %4 = select(%3, %0, %1) : f32[3]
         return %4",
        "return %1",
    );
}

#[test]
fn maps_of_repetitions_are_repeated_maps() {
    check(
        "simplify",
        "f32[3]; f32[3]",
        "%2 = broadcast(%0) {shape = [5, 3], axes = [1]} : f32[5, 3]
         %3 = broadcast(%1) {shape = [5, 3], axes = [1]} : f32[5, 3]
         %4 = add(%2, %3) : f32[5, 3]
         return %4",
        "%2 = add(%0, %1) : f32[3]
         %3 = broadcast(%2) {shape = [5, 3], axes = [1]} : f32[5, 3]
         return %3",
    );
    // Repeated no times, a division by zero does not fail.
    check_kept(
        "simplify",
        "i32[3]",
        "%1 = broadcast(%0) {shape = [0, 3], axes = [1]} : i32[0, 3]
         %2 = div(%1, %1) : i32[0, 3]
         return %2",
    );
    check_kept(
        "simplify",
        "f32[3]; f32[5]",
        "%2 = broadcast(%0) {shape = [5, 3], axes = [1]} : f32[5, 3]
         %3 = broadcast(%1) {shape = [5, 3], axes = [0]} : f32[5, 3]
         %4 = add(%2, %3) : f32[5, 3]
         return %4",
    );
}

#[test]
fn movement_composes() {
    check(
        "simplify",
        "f32[6, 4]",
        "%1 = reshape(%0) {shape = [24]} : f32[24]\n%2 = reshape(%1) {shape = [6, 4]} : f32[6, 4]\nreturn %2",
        "return %0",
    );
    check(
        "simplify",
        "f32[6, 4]",
        "%1 = permute(%0) {axes = [1, 0]} : f32[4, 6]\n%2 = permute(%1) {axes = [1, 0]} : f32[6, 4]\nreturn %2",
        "return %0",
    );
    check(
        "simplify",
        "f32[3]",
        "%1 = broadcast(%0) {shape = [3, 4], axes = [0]} : f32[3, 4]
         %2 = broadcast(%1) {shape = [5, 3, 4], axes = [1, 2]} : f32[5, 3, 4]
         return %2",
        "%1 = broadcast(%0) {shape = [5, 3, 4], axes = [1]} : f32[5, 3, 4]\nreturn %1",
    );
    check(
        "simplify",
        "f32[3, 4]",
        "%1 = broadcast(%0) {shape = [3, 5, 4], axes = [0, 2]} : f32[3, 5, 4]
         %2 = permute(%1) {axes = [2, 1, 0]} : f32[4, 5, 3]
         return %2",
        "%1 = permute(%0) {axes = [1, 0]} : f32[4, 3]
         %2 = broadcast(%1) {shape = [4, 5, 3], axes = [0, 2]} : f32[4, 5, 3]
         return %2",
    );
    check(
        "simplify",
        "f32[3]",
        "%1 = reshape(%0) {shape = [1, 3]} : f32[1, 3]
         %2 = broadcast(%1) {shape = [5, 1, 3], axes = [1, 2]} : f32[5, 1, 3]
         return %2",
        "%1 = broadcast(%0) {shape = [5, 1, 3], axes = [2]} : f32[5, 1, 3]\nreturn %1",
    );
    check_kept(
        "simplify",
        "f32[6, 4]",
        "%1 = permute(%0) {axes = [1, 0]} : f32[4, 6]\n%2 = reshape(%1) {shape = [24]} : f32[24]\nreturn %2",
    );
}

#[test]
fn parts_of_wholes() {
    check(
        "simplify",
        "f32[10]",
        "%1 = slice(%0) {axes = [{start = 1, size = 4, step = 2}]} : f32[4]
         %2 = slice(%1) {axes = [{start = 1, size = 2, step = 2}]} : f32[2]
         return %2",
        "%1 = slice(%0) {axes = [{start = 3, size = 2, step = 4}]} : f32[2]\nreturn %1",
    );
    check(
        "simplify",
        "f32[10]; f32[5]",
        "%2 = concat(%0, %1) {axis = 0} : f32[15]
         %3 = slice(%2) {axes = [{start = 10, size = 5}]} : f32[5]
         return %3",
        "return %1",
    );
    let of_pad = |start: i64| {
        format!(
            "%2 = pad(%0, %1) {{axes = [{{low = 2, high = 2}}]}} : f32[14]
             %3 = slice(%2) {{axes = [{{start = {start}, size = 10}}]}} : f32[10]
             return %3"
        )
    };
    check("simplify", "f32[10]; f32[]", &of_pad(2), "return %0");
    check_kept("simplify", "f32[10]; f32[]", &of_pad(1));
    check_kept(
        "simplify",
        "f32[10]; f32[5]",
        "%2 = concat(%0, %1) {axis = 0} : f32[15]
         %3 = slice(%2) {axes = [{start = 9, size = 5}]} : f32[5]
         return %3",
    );
}

#[test]
fn transposes_go_into_contractions() {
    check(
        "simplify",
        "f32[3, 4]; f32[5, 4]",
        "%2 = permute(%1) {axes = [1, 0]} : f32[4, 5]
         %3 = dot(%0, %2) {lhs_contract = [1], rhs_contract = [0]} : f32[3, 5]
         return %3",
        "%2 = dot(%0, %1) {lhs_contract = [1], rhs_contract = [1]} : f32[3, 5]\nreturn %2",
    );
    check(
        "simplify",
        "f32[3, 4]; f32[4, 5]",
        "%2 = dot(%0, %1) {lhs_contract = [1], rhs_contract = [0]} : f32[3, 5]
         %3 = permute(%2) {axes = [1, 0]} : f32[5, 3]
         return %3",
        "%2 = dot(%1, %0) {lhs_contract = [0], rhs_contract = [1]} : f32[5, 3]\nreturn %2",
    );
    // The product itself is a result: exchanging it would compute it twice.
    check_kept(
        "simplify",
        "f32[3, 4]; f32[4, 5]",
        "%2 = dot(%0, %1) {lhs_contract = [1], rhs_contract = [0]} : f32[3, 5]
         %3 = permute(%2) {axes = [1, 0]} : f32[5, 3]
         return %2, %3",
    );
    // Two free axes that change places would change the result's.
    check_kept(
        "simplify",
        "f32[2, 3, 4]; f32[4, 5]",
        "%2 = permute(%0) {axes = [1, 0, 2]} : f32[3, 2, 4]
         %3 = dot(%2, %1) {lhs_contract = [2], rhs_contract = [0]} : f32[3, 2, 5]
         return %3",
    );
}

#[test]
fn reductions() {
    check("simplify", "f32[3]", "%1 = reduce(%0) {kind = sum, axes = []} : f32[3]\nreturn %1", "return %0");
    let twice = |dtype: &str| {
        format!(
            "%1 = reduce(%0) {{kind = sum, axes = [1]}} : {dtype}[3, 5]
             %2 = reduce(%1) {{kind = sum, axes = [0]}} : {dtype}[5]
             return %2"
        )
    };
    check("simplify", "i64[3, 4, 5]", &twice("i64"), "%1 = reduce(%0) {kind = sum, axes = [0, 1]} : i64[5]\nreturn %1");
    check_kept("simplify", "f32[3, 4, 5]", &twice("f32"));
}

#[test]
fn constants_are_folded_and_repetitions_are_not() {
    check(
        "fold",
        "",
        "%0 = const() {value = f32[2] [1.0, 2.0]} : f32[2]
         %1 = exp(%0) : f32[2]
         %2 = sub(%1, %1) : f32[2]
         return %2",
        "%0 = const() {value = f32[2] [0.0, 0.0]} : f32[2]\nreturn %0",
    );
    check_kept(
        "fold",
        "",
        "%0 = const() {value = f32[] [1.0]} : f32[]
         %1 = broadcast(%0) {shape = [2], axes = []} : f32[2]
         return %1",
    );
    // A division by zero stays an error of the call.
    check_kept(
        "fold",
        "",
        "%0 = const() {value = i32[] [0]} : i32[]
         %1 = div(%0, %0) : i32[]
         return %1",
    );
    check("fold", "", "%0 = size() {of = 12} : i64[]\nreturn %0", "%0 = const() {value = i64[] [12]} : i64[]\nreturn %0");
}

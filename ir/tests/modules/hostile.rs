//! Texts that nobody should have written: each is an error that says where and what, none a panic or a flood of memory.

use graver_ir::text::{parse, print};

use crate::everything::{everything, sample};

/// One function over `x: f32[n]` and `s: f32[]`, with these lines between.
fn main(lines: &str) -> String {
    format!(
        "graver 1\nsym n: 0..=1024\nstate \"w\": f32[2] param\nfunc @main(%0: f32[n] = arg \"x\", %1: f32[] = arg \"s\") {{\n{lines}\n}}\n"
    )
}

/// Demands an error at `line:column` (a function's lines begin with 5) that says all of this.
fn check(text: &str, place: &str, says: &str) {
    let error = parse(text).expect_err(says).to_string();
    assert!(error.starts_with(&format!("<text>:{place}: ")), "expected {place}, got {error}");
    assert!(error.contains(says), "expected {says}, got {error}");
}

/// Demands an error that says this, wherever.
fn refuses(text: &str, says: &str) {
    let error = parse(text).expect_err(says).to_string();
    assert!(error.contains(says), "expected {says}, got {error}");
}

#[test]
fn a_sound_one_passes() {
    assert_eq!(
        parse(&main("%2 = exp(%0) : f32[n]\nreturn %2, update \"w\" = %2")).err().map(|e| e.to_string()).as_deref(),
        Some("I13: the update of `w` in function `main` is f32[n], the state is f32[2]")
    );
    assert!(parse(&main("return // nothing")).is_ok());
    assert!(parse(&main("%2, = exp(%0) : f32[n]\nreturn")).is_err());
}

#[test]
fn errors_say_where_and_what() {
    check("", "1:1", "expected `graver`, found the end");
    check("graver 2", "1:8", "version 2");
    check(&main("%2 = exp(%0) : f32[n, 3]\nreturn"), "5:14", "`exp` gives f32[n], the text says f32[n, 3]");
    check(&main("%2 = exp(%0, %1) : f32[n]\nreturn"), "5:6", "exp: takes 1 operands, got 2");
    check(&main("%2 = exq(%0) : f32[n]\nreturn"), "5:6", "there is no operation `exq`");
    check(&main("%3 = exp(%0) : f32[n]\nreturn"), "5:1", "expected `%2`, found `%3`");
    check(&main("%2 = exp(%2) : f32[n]\nreturn"), "5:10", "`%2` is not defined before this place");
    check(&main("%2 = exp %0) : f32[n]\nreturn"), "5:10", "expected `(`, found `%`");
    check(&main("%2 = exp(%0) : f33[n]\nreturn"), "5:16", "expected an element type (f64, f32");
    check(&main("%2 = exp(%0) : f32[m]\nreturn"), "5:20", "the symbol `m` is not declared");
    check(&main("%2 = exp(%0) : f32[a0]\nreturn"), "5:20", "there is no loop axis `a0` here");
    check(&main("%2 = reduce(%0) {axes = [0]} : f32[]\nreturn"), "5:18", "expected `kind`, found `axes`");
    check(&main("%2 = reduce(%0) {kind = mean, axes = [0]} : f32[]\nreturn"), "5:25", "(sum, prod, max, min), found `mean`");
    check(&main("%2 = reduce(%0) {kind = sum, axes = [1]} : f32[]\nreturn"), "5:6", "axis 1 of f32[n]");
    check(&main("%2 = call(%0) {func = @f} : f32[n]\nreturn"), "5:24", "there is no function `f`");
    check(&main("return update \"v\" = %0"), "5:15", "there is no state `v`");
    check(&main("%2 = param() : f32[n]\nreturn"), "5:6", "between the parentheses");
    check(&main("%2 = exp(%0) : f32[n] loc(\"x\":1)\nreturn"), "5:32", "expected `:`");
    check(&main("%2 = exp(%0) : f32[n] loc(\"x)\nreturn"), "5:27", "not closed");
    check(&main("%2 = exp(%0) : f32[n] loc(\"\\x\":1:1)\nreturn"), "5:27", "`\\x` is no escape");
    check(&main("%2 = ü"), "5:6", "found `ü`");
    check("graver 1\nsym n: 0..=4\nsym n: 0..=4", "3:5", "declared twice");
    check("graver 1\nsym n: 4..=0", "2:8", "a symbol's range");
    check("graver 1\nfunc @f() { return }\nfunc @f() { return }", "3:7", "there twice");
    refuses("graver 1\nstate \"a\": f32[] param\nstate \"a\": f32[] param", "I18");
    refuses("graver 1\nstate \"a\": i64[] rng", "I19");
    refuses(&main("%2 = call(%0) {func = @main} : f32[n]\nreturn %2"), "I16");
    refuses(&main("%2 = vjp(%1, %1, %1) {outputs = 1, wrt = 1} : f32[]\nreturn %2"), "I12");
}

#[test]
fn absurd_numbers_are_errors() {
    for (line, says) in [
        ("%2 = reshape(%0) {shape = [99999999999999999999]} : f32[1]", "is no u64"),
        ("%2 = reshape(%0) {shape = [9223372036854775808]} : f32[1]", "more than 64 bits"),
        ("%2 = reshape(%0) {shape = [-1]} : f32[1]", "no tensor has this shape"),
        ("%2 = broadcast(%1) {shape = [16777217, 16777216], axes = []} : f32[1]", "no tensor has this shape"),
        ("%2 = const() {value = f32[281474976710656] base64 \"\"} : f32[1]", "cannot be made of 0 bytes"),
        ("%2 = const() {value = f32[4294967296, 65536] []} : f32[1]", "cannot be made of 0 elements"),
        ("%2 = const() {value = f32[n] []} : f32[1]", "the sizes of a constant are numbers"),
        ("%2 = const() {value = f32[1] base64 \"AAAAA=\"} : f32[1]", "expected base64 digits"),
        ("%2 = const() {value = f32[] [1e39]} : f32[]", "out of the range of f32"),
        ("%2 = const() {value = u8[] [256]} : u8[]", "256 is no u8"),
        ("%2 = const() {value = u64[] [-1]} : u64[]", "-1 is no u64"),
        ("%2 = const() {value = u64[] [18446744073709551616]} : u64[]", "18446744073709551616 is no u64"),
        ("%2 = const() {value = bool[] [1]} : bool[]", "`true` or `false`"),
        (
            "%2 = window(%0) {kind = max, axes = [{size = 9223372036854775807, dilation = 9223372036854775807}]} : f32[]",
            "shorter",
        ),
        ("%2 = window(%0) {kind = max, axes = [{stride = -9223372036854775808}]} : f32[]", "1 or more"),
        ("%2 = slice(%0) {axes = [{size = n, step = -9223372036854775808}]} : f32[n]", "do not lie inside"),
        ("%2 = vjp(%1) {outputs = 18446744073709551615, wrt = 18446744073709551615} : f32[]", "takes 18446744073709551615"),
        ("%2 = concat(%0) {axis = 18446744073709551615} : f32[n]", "axis 18446744073709551615"),
        ("%2 = permute(%0) {axes = [1]} : f32[n]", "is not a permutation"),
        ("%2 = gather(%0, %0) {axis = 0, batch = 4294967296} : f32[n]", "positions must be integers"),
        ("%2 = size() {of = floordiv(n, 0)} : i64[]", "which is not positive"),
        ("%2 = size() {of = mod(-9223372036854775808*n, -1*n)} : i64[]", "which is not positive"),
        ("%2 = size() {of = 18446744073709551615} : i64[]", "more than 64 bits"),
        ("%18446744073709551616 = exp(%0) : f32[n]", "is no usize"),
    ] {
        refuses(&main(&format!("{line}\nreturn")), says);
    }
}

#[test]
fn deep_and_huge_texts_end_in_errors() {
    let deep = |open: &str, close: &str| {
        format!("%2 = size() {{of = {}n{}}} : i64[]\nreturn", open.repeat(100_000), close.repeat(100_000))
    };
    refuses(&main(&deep("(", ")")), "at most 32 nested operations");
    refuses(&main(&deep("min(n, ", ")")), "at most 32 nested operations");
    refuses(&main(&deep("n*", "")), "more than 512 parts");
    refuses(&main(&deep("n*n + ", "")), "more than 512 terms");
    refuses(&main(&deep("floordiv(4*n + 4, 4)*", "")), "more than 512");
    refuses(&main(&format!("%2 = exp(%0) : f32[{}]\nreturn", "n, ".repeat(100_000))), "no tensor has this shape");
    refuses(&main(&format!("%2 = add({}) : f32[n]\nreturn", "%0, ".repeat(100_000))), "fewer than 65536 operands");
    refuses(
        &main(&format!("{} = exp(%0) : f32[n]\nreturn", (2..100_000).map(|i| format!("%{i}")).collect::<Vec<_>>().join(","))),
        "65536",
    );
    refuses(&main(&format!("%2 = exp(%0) : f32[n] loc({})\nreturn", "\"x\":1:1,".repeat(100_000))), "more than 64 places");
    refuses(&main(&"[".repeat(1_000_000)), "expected");
}

/// Types that grow with every line: ranks that double, sizes that double.
#[test]
fn growing_types_end_in_errors() {
    let ranks = (2..40).map(|i| {
        format!("%{i} = dot(%{0}, %{0}) : f32[{1}]\n", if i == 2 { 0 } else { i - 1 }, vec!["n"; 1 << (i - 1).min(8)].join(", "))
    });
    refuses(&main(&ranks.collect::<String>()), "no tensor has this shape");
    let mut module = parse(&main("return")).expect("sound");
    let function = module.functions.values_mut().next().expect("one");
    let (mut x, zero) = (function.params[0].node, function.params[1].node);
    let pad = graver_ir::op::PadAxis { low: 0.into(), high: 0.into(), interior: 1 };
    let pads = (0..100).map(|_| {
        let op = graver_ir::Op::Pad(vec![pad.clone()]);
        function.graph.add(op, &[x.into(), zero.into()], graver_ir::Loc::UNKNOWN).map(|next| x = next)
    });
    assert!(pads.last().expect("a hundred").is_err());
}

#[test]
fn truncated_and_mutated_texts_are_errors_or_modules() {
    for (text, step) in [(print(&sample()), 1), (print(&everything()), 77)] {
        for cut in (0..text.trim_end().len()).step_by(step).filter(|cut| text.is_char_boundary(*cut)) {
            let whole_function = text[..cut].trim_end().ends_with('}') || !text[..cut].contains("func");
            assert!(parse(&text[..cut]).is_err() || whole_function, "{cut}");
        }
    }
    let text = print(&everything());
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(state >> 33).expect("31 bits") % below
    };
    let pieces = ["0", "-", "9223372036854775807", "n", "%", "[", "}", "\"", "floordiv(", "batch", ",", "f32", "sym", "func @x"];
    for _ in 0..200 {
        let mut mutant = text.clone();
        for _ in 0..=random(3) {
            let from = (0..).map(|_| random(mutant.len())).find(|at| mutant.is_char_boundary(*at)).expect("ASCII abounds");
            let to = (from + random(5)..).find(|at| mutant.is_char_boundary((*at).min(mutant.len()))).expect("the end is one");
            mutant.replace_range(from..to.min(mutant.len()), pieces[random(pieces.len())]);
        }
        // Whatever it is, it does not panic, and what is read is sound.
        if let Ok(module) = parse(&mutant) {
            assert_eq!(parse(&print(&module)).as_ref(), Ok(&module));
        }
    }
}

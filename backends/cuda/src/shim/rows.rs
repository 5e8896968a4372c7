//! Rows: 16 bytes a thread where they are of whole such groups, and what several stages read kept, in registers and in shared memory.

use graver_ir::Sizes;

use super::compiler::Order;
use super::tests::{compiler, kernel, numbers, planted, races, run_with};

/// Every element times its row's sum and the greatest of its row: three stages that read it.
fn weighted(symbol: &str, dtype: &str, [rows, columns]: [&str; 2], place: &str) -> String {
    let (wide, how) = if dtype == "bf16" { ("f32", "cast(%0)") } else { (dtype, "max(%0, %0)") };
    let x = format!("    %0: {dtype} = load p0[a0, {place}]\n    %1: {wide} = {how}\n");
    format!(
        "program 1\n\n{symbol}kernel k0 \"weighted\" (\n  read p0: {dtype}[{rows}, {columns} + 8],\n  write p1: {dtype}[{rows}, {columns}],\n) \
         nest [{rows}, {columns}] {{\n  stage over [0, 1] keep [0] {{\n{x}    reduce sum(%1): {wide}\n    reduce max(%1): {wide}\n  }}\n  \
         stage over [0, 1] keep [0, 1] {{\n{x}    %2: {wide} = reduced(0, 0)\n    %3: {wide} = reduced(0, 1)\n    %4: {wide} = mul(%1, %2)\n    \
         %5: {wide} = add(%4, %3)\n    store p1[a0, a1] = %5\n  }}\n}}\n"
    )
}

const SYMBOL: &str = "sym n: 0..=100000\n\n";

#[test]
fn rows_of_whole_groups_are_read_and_written_16_bytes_at_once() {
    let text = |symbol: &str, dtype: &str, sizes: [&str; 2], place: &str| kernel(&weighted(symbol, dtype, sizes, place)).text;
    let of = |ty: &str, width: usize| [format!("gr_read<{ty}, {width}>(gr_at(p0"), format!("gr_write<{ty}, {width}>(gr_at(p1")];
    for (symbol, dtype, sizes, place, ty, width) in [
        ("", "f32", ["300", "4096"], "a1", "float", 4),
        ("", "bf16", ["300", "4096"], "a1", "gr_bf16", 8),
        ("", "f32", ["300", "512"], "a1", "float", 4),
        // Too short for 16 bytes a thread of a warp.
        ("", "f32", ["300", "64"], "a1", "float", 2),
        ("", "f32", ["300", "4098"], "a1", "float", 2),
        ("", "f32", ["300", "4096"], "a1 + 8", "float", 4),
        ("", "f32", ["300", "4096"], "a1 + 2", "float", 2),
        (SYMBOL, "f32", ["n", "4096"], "a1", "float", 4),
        (SYMBOL, "f32", ["300", "4*n"], "a1", "float", 4),
        (SYMBOL, "bf16", ["n", "8*n"], "a1", "gr_bf16", 8),
    ] {
        let text = text(symbol, dtype, sizes, place);
        of(ty, width).iter().for_each(|access| assert!(text.contains(access), "{access} is not in\n{text}"));
        assert!(!text.contains(" = p0["), "{text}");
    }
    for (symbol, sizes, place) in
        [("", ["300", "4097"], "a1"), ("", ["300", "4096"], "a1 + 1"), (SYMBOL, ["300", "n"], "a1"), ("", ["300", "40"], "a1")]
    {
        let text = text(symbol, "f32", sizes, place);
        assert!(!text.contains("gr_read<") && !text.contains("gr_write<"), "{text}");
    }
}

/// What `weighted` gives, and the bytes of one pass over what it reads.
fn expected(input: &[u32], columns: usize) -> (Vec<u32>, u64) {
    let row = |row: &[u32]| {
        let row = &row[..columns];
        let (sum, most) = (row.iter().sum::<u32>(), row.iter().copied().max().unwrap_or(0));
        row.iter().map(|x| x * sum + most).collect::<Vec<u32>>()
    };
    let rows: Vec<u32> = input.chunks(columns + 8).flat_map(row).collect();
    let bytes = 4 * rows.len() as u64;
    (rows, bytes)
}

#[test]
fn what_registers_do_not_hold_is_in_shared_memory_and_read_once() {
    let compiler = compiler();
    for columns in [1000, 4096, 20_000, 20_001, 20_002] {
        let (kernel, input) = (kernel(&weighted("", "i32", ["72", &columns.to_string()], "a1")), numbers(72 * (columns + 8)));
        let (expected, once) = expected(&input, columns);
        let dynamic = kernel.phases[0].dynamic.as_const().expect("of known size");
        assert_eq!(dynamic > 0, columns > 16_384, "{dynamic} for {columns}");
        for order in [Order::Ascending, Order::Descending] {
            let run = |shared: usize| {
                run_with(&compiler, &kernel, (std::slice::from_ref(&input), &Sizes::new()), 72 * columns, (order, shared))
            };
            assert!(run(100_000) == Ok((expected.clone(), once)), "{columns}");
            // Less is granted: some or all of it is read again.
            let [(some, some_bytes), (none, all_bytes)] = [run(10_000), run(0)].map(|run| run.expect("it runs"));
            assert!(some == expected && none == expected, "{columns}");
            let again = 4 * 72 * (columns as u64).saturating_sub(16_384);
            assert_eq!(all_bytes, once + again, "{columns}");
            assert!((once..=all_bytes).contains(&some_bytes), "{columns}");
        }
    }
}

#[test]
fn rows_of_unknown_length_are_kept_too() {
    let compiler = compiler();
    for (size, multiple) in [("n", 1), ("4*n", 4)] {
        let kernel = kernel(&weighted(SYMBOL, "i32", ["72", size], "a1"));
        for length in [0, 4, 2044, 2048, 2052, 5000, 9000] {
            let (sizes, input) = (Sizes::from([("n".to_owned(), length / multiple)]), numbers(72 * (length as usize + 8)));
            let (expected, once) = expected(&input, length as usize);
            let run = |shared: usize| {
                let inputs = (std::slice::from_ref(&input), &sizes);
                run_with(&compiler, &kernel, inputs, expected.len(), (Order::Ascending, shared))
            };
            assert!(run(200_000) == Ok((expected.clone(), once)), "{size}, {length}");
            assert!(run(5000).map(|(results, _)| results) == Ok(expected), "{size}, {length}");
        }
    }
}

#[test]
fn a_fault_in_what_is_kept_is_seen() {
    let (compiler, columns) = (compiler(), 20_000);
    let (kernel, input) = (kernel(&weighted("", "i32", ["72", "20000"], "a1")), numbers(72 * (columns + 8)));
    let (expected, _) = expected(&input, columns);
    let run = |planted: &crate::emit::Emitted| {
        let inputs = (std::slice::from_ref(&input), &Sizes::new());
        run_with(&compiler, planted, inputs, 72 * columns, (Order::Ascending, 100_000)).map(|(results, _)| results)
    };
    // What another thread keeps, what nobody kept, and a place outside.
    let others = run(&planted(&kernel, "* 256 + thread;", "* 256 + (thread ^ 1);", false));
    assert!(others != Ok(expected.clone()));
    let poison = run(&planted(
        &kernel,
        "gr_write_aligned<i32, 4>(gr_at(more",
        "if (thread != 3) gr_write_aligned<i32, 4>(gr_at(more",
        false,
    ));
    assert!(poison != Ok(expected));
    let message = run(&planted(&kernel, "* 256 + thread;", "* 256 + thread - 4096;", true)).map(drop).expect_err("it is outside");
    assert!(message.contains("elements from -16384 on of "), "{message}");
    let message = run(&planted(&kernel, "held = gr", "held = 256 + gr", false)).map(drop).expect_err("it was not given");
    assert!(message.contains("shared memory up to"), "{message}");
    assert_eq!(races(&kernel, &[72 * 20_008, 72 * 20_000]), None);
}

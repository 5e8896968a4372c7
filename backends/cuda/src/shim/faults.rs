//! Planted faults in kernels whose threads or phases hand values on in ways of their own: shares, tiles of transposes, attention.

use super::compiler::{Order, Racing};
use super::tests::{TENSOR_DOT, compiler, is_seen, kernel, numbers, planted, races, races_of, row_sums, run};
use crate::emit::Emitted;
use crate::text::shim_prelude;

const TRANSPOSE: &str = "program 1

kernel k0 \"transpose\" (
  read p0: i32[70, 50],
  write p1: i32[50, 70],
) nest [50, 70] {
  stage over [0, 1] keep [0, 1] {
    %0: i32 = load p0[a1, a0]
    store p1[a0, a1] = %0
  }
}
";

const ATTENTION: &str = "program 1

kernel k0 \"attention\" (
  read p0: f32[20, 34],
  read p1: f32[70, 34],
  read p2: f32[70, 20],
  write p3: f32[20, 20],
) attend [20, 70, 34, 20] batch [] rows 0 columns [1] acc f32 {
  product over 2 {
  side rows {
    %0: f32 = load p0[a0, a2]
    yield %0
  }
  side columns {
    %0: f32 = load p1[a1, a2]
    yield %0
  }
  }
  weights {
    %0: f32 = reduced(0, 0)
  }
  softmax %0
  sum free 3 p3[a0, a3] = %0 {
  side summed {
    %0: f32 = load p2[a1, a3]
    yield %0
  }
  }
}
";

/// The same of 16-bit floats, for tensor instructions.
fn tensor_attention() -> String {
    let mut program = ATTENTION.to_owned();
    for (arg, load) in [("p0", "load p0[a0, a2]"), ("p1", "load p1[a1, a2]"), ("p2", "load p2[a1, a3]")] {
        program = program.replace(&format!("{arg}: f32"), &format!("{arg}: bf16"));
        let narrow = format!("%0: bf16 = {load}\n    %1: f32 = cast(%0)\n    yield %1");
        program = program.replace(&format!("%0: f32 = {load}\n    yield %0"), &narrow);
    }
    // Columns of sums that are whole fragments.
    program
        .replace("[20, 70, 34, 20]", "[20, 70, 34, 32]")
        .replace("bf16[70, 20]", "bf16[70, 32]")
        .replace("f32[20, 20]", "f32[20, 32]")
}

#[test]
fn attention_by_tensor_instructions_has_no_races_and_a_missing_barrier_is_one() {
    let (kernel, elements) = (kernel(&tensor_attention()), [680, 2380, 2240, 640]);
    assert!(kernel.text.contains("gr_split<gr_bf16>"), "{}", kernel.text);
    assert_eq!(races(&kernel, &elements), None);
    let all = without_each_barrier(&kernel);
    assert_eq!(all.len(), 7, "{}", kernel.text);
    for (number, planted) in all.iter().enumerate().filter(|(number, _)| *number != BEFORE_RESULTS) {
        assert!(is_seen(planted, &elements), "barrier {number} is not missed");
    }
}

/// Which barrier of attention by tensor instructions comes before its results. Another comes after the last columns: this one is for where
/// none counts, and a block goes from the results of one tile of rows to those of the next.
const BEFORE_RESULTS: usize = 5;

#[test]
fn the_barrier_before_results_is_needed_where_no_column_counts() {
    let program = tensor_attention().replacen("program 1\n", "program 1\n\nsym n: 0..=1000\n", 1);
    let program = program.replace("[20, 70, 34, 32]", "[300, n, 34, 32]").replace("bf16[70, ", "bf16[n, ");
    let kernel = kernel(&program.replace("bf16[20, 34]", "bf16[300, 34]").replace("f32[20, 32]", "f32[300, 32]"));
    let all = without_each_barrier(&kernel);
    assert_eq!(all.len(), 7, "{}", kernel.text);
    let seen = |kernel| {
        let racing = || Racing { kernel, elements: vec![10_200, 0, 0, 9600], sizes: vec![0] };
        (0..8).any(|_| races_of(&[racing()]).is_some())
    };
    assert!(!seen(&kernel));
    assert!(seen(&all[BEFORE_RESULTS]), "{}", all[BEFORE_RESULTS].text);
}

/// Attention whose sides lie in whole 16 bytes.
fn whole(program: &str) -> String {
    let program = program.replace("[20, 70, 34, 20]", "[20, 70, 48, 32]").replace("[20, 70, 34, 32]", "[20, 70, 48, 32]");
    program.replace(", 34]", ", 48]").replace("f32[70, 20]", "f32[70, 32]").replace("f32[20, 20]", "f32[20, 32]")
}

#[test]
fn attention_copies_what_is_contiguous_and_a_wrong_wait_count_is_seen() {
    let compiler = compiler();
    // Small numbers, which are floats of 16 bits too: two of these in a word.
    let value = |at: usize| ((at * 5 % 13) as f32 - 6.0) / 8.0;
    let word = |at: usize, per_word: usize| match per_word {
        2 => value(2 * at).to_bits() >> 16 | value(2 * at + 1).to_bits(),
        _ => value(at).to_bits(),
    };
    let element = |row: usize, free: usize| {
        let at = |place: usize| f64::from(value(place));
        let score = |column: usize| (0..48).map(|k| at(row * 48 + k) * at(column * 48 + k)).sum::<f64>().exp();
        let all: f64 = (0..70).map(score).sum();
        (0..70).map(|column| score(column) * at(column * 32 + free)).sum::<f64>() / all
    };
    for (program, per_word) in [(whole(ATTENTION), 1), (whole(&tensor_attention()), 2)] {
        let kernel = kernel(&program);
        assert_eq!(kernel.text.matches("gr_copy16(").count(), 3, "{}", kernel.text);
        let inputs: Vec<Vec<u32>> =
            [20 * 48, 70 * 48, 70 * 32].map(|count| (0..count / per_word).map(|at| word(at, per_word)).collect()).to_vec();
        let [ascending, descending] =
            [Order::Ascending, Order::Descending].map(|order| run(&compiler, &kernel, &inputs, 640, order).expect("it runs"));
        assert!(ascending == descending);
        for (place, word) in ascending.iter().enumerate() {
            let (got, expected) = (f64::from(f32::from_bits(*word)), element(place / 32, place % 32));
            assert!((got - expected).abs() < 2e-5, "{got}, not {expected}, at {place}");
        }
        // Each of the waits: of products, and of sums.
        let waits: Vec<usize> = kernel.text.match_indices("gr_copy_wait<0>").map(|(place, _)| place).collect();
        assert_eq!(waits.len(), 2, "{}", kernel.text);
        for place in waits {
            let rest = &kernel.text[place..];
            let planted = planted(&kernel, rest, &rest.replacen("gr_copy_wait<0>", "gr_copy_wait<1>", 1), false);
            assert!(run(&compiler, &planted, &inputs, 640, Order::Ascending) != Ok(ascending.clone()), "{}", planted.text);
        }
    }
    // Rows of no whole 16 bytes are read one by one; what is computed of contiguous elements is read at once.
    let text = kernel(ATTENTION).text;
    assert!(!text.contains("gr_copy16(") || !text.contains("gr_at(p0"), "{text}");
    let scaled = "%0: f32 = load p0[a0, a2]\n    %1: f32 = mul(%0, %0)\n    yield %1";
    let text = kernel(&whole(ATTENTION).replace("%0: f32 = load p0[a0, a2]\n    yield %0", scaled)).text;
    assert!(text.contains("gr_read<float, 4>(gr_at(p0") && text.matches("gr_copy16(").count() == 2, "{text}");
}

/// What is read or copied at once is inside of its tile as a whole: a row ends with 8 elements that nobody reads, before them are the last
/// of what is.
#[test]
fn what_is_partly_outside_of_a_tile_is_seen() {
    let (compiler, attention) = (compiler(), whole(&tensor_attention()).replace(", 48", ", 200"));
    let dot = (TENSOR_DOT, ["rows_tile", "columns_tile"], "half +", vec![48 * 96, 40 * 96], 48 * 40);
    let attention = (attention.as_str(), ["rows_piece", "columns_piece"], "to", vec![20 * 200, 70 * 200, 70 * 32], 640);
    for (program, tiles, copied, elements, results) in [dot, attention] {
        let (kernel, inputs) = (kernel(program), elements.iter().map(|count| vec![0; count / 2]).collect::<Vec<_>>());
        for (tile, [before, behind]) in tiles.iter().flat_map(|tile| [(tile, ["", copied]), (tile, ["gr_pair_of(", ""])]) {
            let shorter = |by: usize| {
                let less = format!("{before}gr_at(gr_pointer<gr_bf16>{{{tile}.first, {tile}.count - {by}}}, {behind}");
                let planted = planted(&kernel, &format!("{before}gr_at({tile}, {behind}"), &less, true);
                run(&compiler, &planted, &inputs, results, Order::Ascending)
            };
            assert!(shorter(8).is_ok(), "{before}{tile}: {:?}", shorter(8));
            let message = shorter(9).err().unwrap_or_else(|| panic!("{before}{tile}: one element is outside"));
            assert!(message.contains("elements from "), "{message}");
        }
    }
}

#[test]
fn a_share_that_is_not_left_is_missed() {
    let (compiler, kernel, inputs) = (compiler(), kernel(&row_sums(2, 40_000)), [numbers(2 * 40_000)]);
    let expected: Vec<u32> = inputs[0].chunks(40_000).map(|row| row.iter().sum()).collect();
    assert_eq!(kernel.phases.len(), 2, "{}", kernel.text);
    for order in [Order::Ascending, Order::Descending] {
        assert_eq!(run(&compiler, &kernel, &inputs, 2, order), Ok(expected.clone()));
    }
    for (from, to) in [("if (live && member == 0)", "if (live && member == 0 && share != 2)"), ("share * length", "0")] {
        let planted = planted(&kernel, from, to, false);
        assert_ne!(run(&compiler, &planted, &inputs, 2, Order::Ascending), Ok(expected.clone()), "{to}");
    }
}

/// The position of the greatest of each row.
fn row_extremes(rows: usize, columns: usize) -> String {
    row_sums(rows, columns)
        .replace(&format!("p1: i32[{rows}]"), &format!("p1: i64[{rows}]"))
        .replace("reduce sum(%0): i32", "arg max(%0): i64")
        .replace("%0: i32 = reduced", "%0: i64 = reduced")
}

fn row_prefixes(rows: usize, columns: usize) -> String {
    format!(
        "program 1

kernel k0 \"prefix\" (
  read p0: i32[{rows}, {columns}],
  write p1: i32[{rows}, {columns}],
) prefix [{rows}, {columns}] along 1 {{
    %0: i32 = load p0[a0, a1]
    sum p1[a0, a1] = %0
}}
"
    )
}

/// The kernel with a function of the prelude that lacks one of its two barriers.
fn without_barrier_of(kernel: &Emitted, function: &str, number: usize) -> Emitted {
    let prelude = shim_prelude();
    let name = prelude.find(&format!(" {function}(")).expect("a function of the prelude");
    let begin = prelude[..name].rfind("template").expect("it is one");
    let end = begin + prelude[begin..].find("\n}\n").expect("it ends") + 3;
    let broken = format!("broken_{number}_{function}");
    let own = prelude[begin..end].replace(function, &broken);
    let places: Vec<usize> = own.match_indices("gr_sync();").map(|(place, _)| place).collect();
    assert_eq!(places.len(), 2, "{own}");
    let own = own[..places[number]].to_owned() + &own[places[number] + "gr_sync();".len()..];
    let mut planted = planted(kernel, &format!("{function}<"), &format!("{broken}<"), true);
    planted.text = own + &planted.text;
    planted
}

#[test]
fn every_barrier_of_what_a_block_combines_is_needed() {
    let compiler = compiler();
    // The greatest of a row is a late warp's.
    let number = |(place, x): (usize, u32)| if place % 4096 == 3000 { 100 + (place / 4096) as u32 } else { x };
    let inputs = [numbers(7 * 4096).into_iter().enumerate().map(number).collect::<Vec<u32>>()];
    let sums: Vec<u32> = inputs[0].chunks(4096).map(|row| row.iter().sum()).collect();
    let upto = |row: &[u32]| {
        row.iter()
            .scan(0, |sum, x| {
                *sum += x;
                Some(*sum)
            })
            .collect::<Vec<u32>>()
    };
    let prefixes: Vec<u32> = inputs[0].chunks(4096).flat_map(upto).collect();
    // Two words each.
    let extremes = [3000, 0].repeat(7);
    for (program, function, expected, elements) in [
        (row_sums(7, 4096), "gr_of_team", sums, [7 * 4096, 7]),
        (row_extremes(7, 4096), "gr_arg_of_team", extremes, [7 * 4096, 7]),
        (row_prefixes(7, 4096), "gr_of_earlier", prefixes, [7 * 4096, 7 * 4096]),
    ] {
        let kernel = kernel(&program);
        for order in [Order::Ascending, Order::Descending] {
            assert_eq!(run(&compiler, &kernel, &inputs, expected.len(), order), Ok(expected.clone()), "{function}");
        }
        // Before the members' results are read, and before a block goes on to its next row. There is no other between stages.
        assert!(!kernel.text.contains("gr_sync();"), "{}", kernel.text);
        assert_eq!(races(&kernel, &elements), None, "{function}");
        for barrier in [0, 1] {
            let planted = without_barrier_of(&kernel, function, barrier);
            assert!(is_seen(&planted, &elements), "barrier {barrier} of {function} is not missed");
        }
        let planted = without_barrier_of(&kernel, function, 0);
        assert_ne!(run(&compiler, &planted, &inputs, expected.len(), Order::Ascending), Ok(expected), "{function}");
    }
}

#[test]
fn a_missing_barrier_changes_a_transpose() {
    let (compiler, kernel, inputs) = (compiler(), kernel(TRANSPOSE), [numbers(70 * 50)]);
    let expected: Vec<u32> = (0..50 * 70).map(|place| inputs[0][place % 70 * 50 + place / 70]).collect();
    for order in [Order::Ascending, Order::Descending] {
        assert_eq!(run(&compiler, &kernel, &inputs, 50 * 70, order), Ok(expected.clone()));
    }
    let planted = planted(&kernel, "gr_sync();", "", true);
    assert_ne!(run(&compiler, &planted, &inputs, 50 * 70, Order::Ascending), Ok(expected));
}

/// The kernel without one of its barriers, for each of them.
fn without_each_barrier(kernel: &Emitted) -> Vec<Emitted> {
    let places: Vec<usize> = kernel.text.match_indices("gr_sync();").map(|(place, _)| place).collect();
    let without = |place: &usize| {
        let rest = &kernel.text[*place..];
        planted(kernel, rest, &rest.replacen("gr_sync();", "", 1), false)
    };
    places.iter().map(without).collect()
}

#[test]
fn every_barrier_of_transposes_and_of_attention_is_needed() {
    for (program, elements, barriers) in [(TRANSPOSE, &[3500, 3500][..], 2), (ATTENTION, &[680, 2380, 1400, 400], 4)] {
        let kernel = kernel(program);
        assert_eq!(races(&kernel, elements), None);
        let all = without_each_barrier(&kernel);
        assert_eq!(all.len(), barriers, "{}", kernel.text);
        for (number, planted) in all.iter().enumerate() {
            assert!(is_seen(planted, elements), "barrier {number} is not missed in {program}");
        }
    }
}

/// Every element of a plane times its column's sum weighted by the sums of rows, plus its row's: results that stages keep lie in memory, are
/// read by other threads than wrote them, and are written anew for the next plane. `at` is where an element is.
fn in_planes([planes, columns]: [usize; 2], at: [&str; 3]) -> String {
    let (x, of) = (format!("    %0: i32 = load p0[{}]\n", at.join(", ")), |axis: &str| match axis {
        "a0" => planes,
        "a1" => 3,
        _ => columns,
    });
    let shape = at.map(|axis| of(axis).to_string()).join(", ");
    format!(
        "program 1\n\nkernel k0 \"in_planes\" (\n  read p0: i32[{shape}],\n  write p1: i32[{planes}, 3, {columns}],\n) nest [{planes}, 3, {columns}] {{\n  \
         stage over [0, 1, 2] keep [0, 1] {{\n{x}    reduce sum(%0): i32\n  }}\n  \
         stage over [0, 1, 2] keep [0, 2] {{\n{x}    %1: i32 = reduced(0, 0)\n    %2: i32 = mul(%0, %1)\n    reduce sum(%2): i32\n  }}\n  \
         stage over [0, 1, 2] keep [0, 1, 2] {{\n{x}    %1: i32 = reduced(1, 0)\n    %2: i32 = reduced(0, 0)\n    %3: i32 = mul(%0, %1)\n    \
         %4: i32 = add(%3, %2)\n    store p1[a0, a1, a2] = %4\n  }}\n}}\n"
    )
}

/// How many planes and columns: a warp a plane, a block a plane, and planes beside each other, all of which blocks do more of than one time.
const PLANES: [[usize; 2]; 3] = [[20, 200], [7, 400], [70, 50]];

/// Kernels of these.
pub(super) fn results_in_memory() -> [String; 3] {
    let [a, b, c] = PLANES;
    [in_planes(a, ["a0", "a1", "a2"]), in_planes(b, ["a0", "a1", "a2"]), in_planes(c, ["a1", "a2", "a0"])]
}

#[test]
fn every_barrier_of_results_in_memory_is_needed() {
    let compiler = compiler();
    for (program, [planes, columns]) in results_in_memory().iter().zip(PLANES) {
        let (kernel, count) = (kernel(program), planes * 3 * columns);
        let (input, is_turned) = (numbers(count), columns == 50);
        let x = |plane: usize, row: usize, column: usize| {
            input[if is_turned { (row * columns + column) * planes + plane } else { (plane * 3 + row) * columns + column }]
        };
        let of_row = |plane: usize, row: usize| (0..columns).map(|column| x(plane, row, column)).sum::<u32>();
        let of_column = |plane: usize, column: usize| (0..3).map(|row| x(plane, row, column) * of_row(plane, row)).sum::<u32>();
        let element = |at: usize| {
            let (plane, row, column) = (at / columns / 3, at / columns % 3, at % columns);
            x(plane, row, column) * of_column(plane, column) + of_row(plane, row)
        };
        let expected: Vec<u32> = (0..count).map(element).collect();
        assert!(kernel.text.contains("const i64 room"), "{}", kernel.text);
        for order in [Order::Ascending, Order::Descending] {
            assert!(run(&compiler, &kernel, std::slice::from_ref(&input), count, order) == Ok(expected.clone()), "{columns}");
        }
        assert_eq!(races(&kernel, &[count, count]), None, "{columns}");
        // Behind each of the stages that keep results, and before the next planes.
        let all = without_each_barrier(&kernel);
        assert_eq!(all.len(), 3, "{}", kernel.text);
        for (number, planted) in all.iter().enumerate() {
            assert!(is_seen(planted, &[count, count]), "barrier {number} is not missed with {columns} columns");
        }
        let planted = run(&compiler, &all[0], std::slice::from_ref(&input), count, Order::Ascending);
        assert!(planted != Ok(expected), "{columns}");
    }
}

/// Positions in the order of 300 elements: more than a block has threads.
const SORT: &str = "program 1

kernel k0 \"sort\" (
  read p0: f32[300],
  write p1: i64[300],
) sort [300] along 0 {
    %0: f32 = load p0[a0]
    place p1[a0] = %0
}
";

#[test]
fn every_barrier_of_a_sort_is_needed() {
    let (kernel, elements) = (kernel(SORT), [300, 300]);
    assert_eq!(races(&kernel, &elements), None);
    let all = without_each_barrier(&kernel);
    assert_eq!(all.len(), 3, "{}", kernel.text);
    for (number, planted) in all.iter().enumerate() {
        assert!(is_seen(planted, &elements), "barrier {number} is not missed");
    }
}

/// A row that is written over by what it is divided by: read by all of a block's threads, and written by each.
const IN_PLACE: &str = "program 1

kernel k0 \"shares\" (
  update p0: f32[3, 2000],
) nest [3, 2000] {
  stage over [0, 1] keep [0] {
    %0: f32 = load p0[a0, a1]
    reduce sum(%0): f32
  }
  stage over [0, 1] keep [0, 1] {
    %0: f32 = load p0[a0, a1]
    %1: f32 = reduced(0, 0)
    %2: f32 = div(%0, %1)
    store p0[a0, a1] = %2
  }
}
";

/// The shim gives no pointer more than it is, so it would not miss this: what threads hand to one another by memory is declared for that, also
/// in every phase after, and what no thread waits for is not.
#[test]
fn memory_that_threads_exchange_is_declared_so() {
    let parameters = |program: &str| -> Vec<String> {
        let text = kernel(program).text;
        let heads = text.split("GR_KERNEL(").skip(1).map(|rest| rest.split_once(")(").expect("it has parameters").1);
        heads.map(|rest| rest.split_once(") {").expect("they end").0.to_owned()).collect()
    };
    let rest = "GR_EXCHANGE(u8) scratch, GR_STATUS status, u32 launch";
    assert_eq!(parameters(SORT), [format!("GR_IN(float) p0, GR_EXCHANGE(i64) p1, {rest}")]);
    assert_eq!(parameters(IN_PLACE), [format!("GR_EXCHANGE(float) p0, {rest}")]);
    for program in &results_in_memory() {
        assert_eq!(parameters(program), [format!("GR_IN(i32) p0, GR_EXCHANGE(i32) p1, {rest}")]);
    }
    let shares = parameters(&row_sums(3, 40_000));
    assert_eq!(shares, vec![format!("GR_IN(i32) p0, GR_EXCHANGE(i32) p1, {rest}"); 2]);
    let plain = parameters(
        &SORT
            .replace("sort [300] along 0 {", "nest [300] {\n  stage over [0] keep [0] {")
            .replace("    place p1[a0] = %0\n", "    %1: i64 = cast(%0)\n    store p1[a0] = %1\n  }\n"),
    );
    assert_eq!(plain, ["GR_IN(float) p0, GR_OUT(i64) p1, GR_OUT(u8) scratch, GR_STATUS status, u32 launch"]);
}

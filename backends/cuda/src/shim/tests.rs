//! Planted faults: what is wrong with a kernel is seen, and the same kernel without the fault passes.

use std::path::Path;

use graver_ir::kernel::{Mode, text};
use graver_ir::{DType, Dim, Sizes};

use super::Cxx;
use super::compiler::{Compiler, Order, Racing, Run, Told};
use crate::emit::{Emitted, Phase, emit, hash};

pub(super) fn compiler() -> Compiler {
    let folder = std::env::temp_dir().join("graver-shim-tests");
    Compiler::new(cxx(), Path::new(&folder)).expect("a folder")
}

fn cxx() -> Cxx {
    Cxx::find().expect("a C++ compiler")
}

#[test]
fn another_compiler_finds_nothing_of_this_ones() {
    let folder = std::env::temp_dir().join("graver-shim-tests");
    let header = |cxx| Compiler::new(cxx, &folder).expect("a folder").header_path();
    let mut newer = cxx();
    newer.version += ", patched";
    assert_eq!(header(cxx()), header(cxx()));
    assert_ne!(header(newer), header(cxx()));
}

/// The outcome of a kernel: what the shim says, or what is in the last argument, in bits.
pub(super) fn run(
    compiler: &Compiler,
    kernel: &Emitted,
    inputs: &[Vec<u32>],
    results: usize,
    order: Order,
) -> Result<Vec<u32>, String> {
    run_with(compiler, kernel, (inputs, &Sizes::new()), results, (order, super::MOST_SHARED)).map(|(results, _)| results)
}

/// The same with sizes of symbols and so many bytes of shared memory for a block at most, and the bytes that were read of arguments.
pub(super) fn run_with(
    compiler: &Compiler,
    kernel: &Emitted,
    (inputs, sizes): (&[Vec<u32>], &Sizes),
    results: usize,
    (order, shared): (Order, usize),
) -> Result<(Vec<u32>, u64), String> {
    compiler.ask(kernel);
    let mut buffers = inputs.to_vec();
    buffers.push(vec![0; results]);
    let mut pointers: Vec<*mut u8> = buffers.iter_mut().map(|buffer| buffer.as_mut_ptr().cast()).collect();
    let mut lengths: Vec<usize> = buffers.iter().map(|buffer| buffer.len() * 4).collect();
    let mut told = Told::NOTHING;
    let (grids, bytes) = kernel.spread(sizes, shared, |_| 3).expect("of known size");
    let mut scratch = vec![u64::MAX; bytes.div_ceil(8)];
    pointers.push(scratch.as_mut_ptr().cast());
    lengths.push(bytes);
    let sizes: Vec<i64> = kernel.symbols.iter().map(|symbol| sizes[symbol.name()]).collect();
    let run = Run { pointers: &pointers, lengths: &lengths, sizes: &sizes, grids: &grids, launch: 0, order };
    // SAFETY: the buffers are live, of the lengths given, and of elements that tests lay out in 4 bytes each, or two in 4.
    match unsafe { compiler.run(kernel, &run, &mut told) }.expect("it compiles") {
        Some(message) => Err(message),
        None => Ok((buffers.pop().expect("the result is last"), told.read)),
    }
}

/// The first kernel of a program's text.
pub(super) fn kernel(program: &str) -> Emitted {
    let program = text::parse(program).unwrap_or_else(|error| panic!("{error}"));
    emit(&program.kernels[0])
}

/// A kernel written by hand: `p0` is read, `p1` written, both of `u32`.
fn by_hand(name: &str, threads: u32, body: &str) -> Emitted {
    let parameters = "GR_IN(u32) p0, GR_OUT(u32) p1, GR_OUT(u8) scratch, GR_STATUS status, u32 launch";
    let name = format!("{name}_{:016x}", hash(body));
    Emitted {
        text: format!("GR_KERNEL({name}, {threads})({parameters}) {{\n{body}}}\n"),
        name: name.clone(),
        args: vec![(DType::U32, Mode::Read), (DType::U32, Mode::Write)],
        symbols: vec![],
        phases: vec![Phase {
            name,
            threads,
            blocks: Dim::ONE,
            shared: 0,
            dynamic: Dim::ZERO,
            scratch: Dim::ZERO,
            barriers: true,
        }],
        shared: Dim::ZERO,
    }
}

/// With a piece of the text replaced where it first occurs, or everywhere.
pub(super) fn planted(kernel: &Emitted, from: &str, to: &str, everywhere: bool) -> Emitted {
    assert!(kernel.text.contains(from), "{from} is in\n{}", kernel.text);
    let text = if everywhere { kernel.text.replace(from, to) } else { kernel.text.replacen(from, to, 1) };
    let name = format!("{}_planted_{:016x}", kernel.name, hash(&text));
    let phase = |phase: &Phase| Phase { name: phase.name.replace(&kernel.name, &name), ..phase.clone() };
    Emitted {
        text: text.replace(&kernel.name, &name),
        phases: kernel.phases.iter().map(phase).collect(),
        name: name.clone(),
        ..kernel.clone()
    }
}

/// The sums of rows.
pub(super) fn row_sums(rows: usize, columns: usize) -> String {
    format!(
        "program 1

kernel k0 \"row_sums\" (
  read p0: i32[{rows}, {columns}],
  write p1: i32[{rows}],
) nest [{rows}, {columns}] {{
  stage over [0, 1] keep [0] {{
    %0: i32 = load p0[a0, a1]
    reduce sum(%0): i32
  }}
  stage over [0] keep [0] {{
    %0: i32 = reduced(0, 0)
    store p1[a0] = %0
  }}
}}
"
    )
}

const DOT: &str = "program 1

kernel k0 \"dot\" (
  read p0: f32[40, 50],
  read p1: f32[50, 36],
  write p2: f32[40, 36],
) contract [40, 36, 50] batch [] m [0] n [1] k [2] acc f32 {
  side a {
    %0: f32 = load p0[a0, a2]
    yield %0
  }
  side b {
    %0: f32 = load p1[a2, a1]
    yield %0
  }
  epilogue {
    %0: f32 = acc
    store p2[a0, a1] = %0
  }
}
";

pub(super) fn numbers(count: usize) -> Vec<u32> {
    (0..count).map(|place| (place * 7 % 11) as u32).collect()
}

fn floats(count: usize) -> Vec<u32> {
    (0..count).map(|place| ((place * 7 % 11) as f32 - 5.0).to_bits()).collect()
}

#[test]
fn a_missing_barrier_changes_the_result_of_a_contraction() {
    let (compiler, kernel, inputs) = (compiler(), kernel(DOT), [floats(40 * 50), floats(50 * 36)]);
    let at = |buffer: &[u32], place: usize| f32::from_bits(buffer[place]);
    let element = |m: usize, n: usize| (0..50).map(|k| at(&inputs[0], m * 50 + k) * at(&inputs[1], k * 36 + n)).sum::<f32>();
    let expected: Vec<u32> = (0..40 * 36).map(|place| element(place / 36, place % 36).to_bits()).collect();
    for order in [Order::Ascending, Order::Descending] {
        assert_eq!(run(&compiler, &kernel, &inputs, 40 * 36, order), Ok(expected.clone()));
    }
    let planted = planted(&kernel, "gr_sync();", "", false);
    assert_ne!(run(&compiler, &planted, &inputs, 40 * 36, Order::Ascending), Ok(expected));
}

/// Sums of columns weighted by the sums of their rows: a stage keeps an axis that the next one drops.
fn weighted(columns: usize) -> String {
    format!(
        "program 1\n\nkernel k0 \"weighted\" (\n  read p0: i32[3, {columns}],\n  write p1: i32[{columns}],\n) nest [3, {columns}] {{\n  \
         stage over [0, 1] keep [0] {{\n    %0: i32 = load p0[a0, a1]\n    reduce sum(%0): i32\n  }}\n  \
         stage over [0, 1] keep [1] {{\n    %0: i32 = load p0[a0, a1]\n    %1: i32 = reduced(0, 0)\n    %2: i32 = mul(%0, %1)\n    \
         reduce sum(%2): i32\n  }}\n  stage over [1] keep [1] {{\n    %0: i32 = reduced(1, 0)\n    store p1[a1] = %0\n  }}\n}}\n"
    )
}

#[test]
fn results_that_later_stages_read_elsewhere_lie_in_memory() {
    let compiler = compiler();
    for columns in [4, 200, 1000, 5000] {
        let (kernel, inputs) = (kernel(&weighted(columns)), [numbers(3 * columns)]);
        assert!(kernel.text.contains("gr_place<"), "{}", kernel.text);
        // More points than one accumulator takes.
        assert_eq!(kernel.text.contains("(idx chunk"), columns > 2048, "{}", kernel.text);
        let sums: Vec<u32> = inputs[0].chunks(columns).map(|row| row.iter().sum()).collect();
        let column = |at: usize| (0..3).map(|row| inputs[0][row * columns + at] * sums[row]).sum::<u32>();
        let expected: Vec<u32> = (0..columns).map(column).collect();
        for order in [Order::Ascending, Order::Descending] {
            assert_eq!(run(&compiler, &kernel, &inputs, columns, order), Ok(expected.clone()), "{columns}");
        }
    }
}

#[test]
fn an_index_outside_is_named() {
    let (compiler, kernel, inputs) = (compiler(), kernel(&row_sums(3, 4096)), [numbers(3 * 4096)]);
    let planted = planted(&kernel, "gr_at(p0, ", "gr_at(p0, 4 + ", false);
    let message = run(&compiler, &planted, &inputs, 3, Order::Ascending).expect_err("it reads outside");
    assert!(message.contains("elements from 12288 on of 12288"), "{message}");
}

#[test]
fn a_barrier_that_not_all_reach_is_a_deadlock() {
    let compiler = compiler();
    let body =
        "    u32 x = p0[gr_thread()];\n    if (gr_thread() < 40) gr_sync();\n    else gr_shuffle_bits(x, 1);\n    p1[0] = x;\n";
    let message = run(&compiler, &by_hand("half", 64, body), &[numbers(64)], 1, Order::Ascending).expect_err("it cannot end");
    assert!(message.contains("deadlock"), "{message}");
    let body = "    if (gr_thread() < 32)\n        gr_sync();\n    else\n        gr_sync();\n    p1[0] = p0[0];\n";
    let message = run(&compiler, &by_hand("apart", 64, body), &[numbers(64)], 1, Order::Ascending).expect_err("they do not meet");
    assert!(message.contains("different barriers"), "{message}");
}

#[test]
fn a_warp_does_not_exchange_with_a_thread_that_has_ended() {
    let compiler = compiler();
    let body = "    u32 x = p0[gr_thread()];\n    if (gr_thread() < 20) p1[gr_thread()] = gr_shuffle_bits(x, 1);\n";
    let message = run(&compiler, &by_hand("ended", 32, body), &[numbers(32)], 20, Order::Ascending).expect_err("it is undefined");
    assert!(message.contains("has ended"), "{message}");
}

/// What a block reads of another's is what the order of blocks makes it.
#[test]
fn blocks_that_depend_on_each_other_give_other_results_in_another_order() {
    let compiler = compiler();
    let body = "    const i64 block = gr_block();\n    p1[block] = block ? p1[block - 1] + p0[block] : p0[0];\n";
    let mut kernel = by_hand("blocks", 1, body);
    kernel.phases[0].blocks = Dim::from(4);
    let [up, down] = [Order::Ascending, Order::Descending].map(|order| run(&compiler, &kernel, &[numbers(4)], 4, order));
    assert_ne!(up.expect("it runs"), down.expect("it runs"));
}

/// Each warp copies four rows of 16 bytes a thread, one group each, and reads a row once its group has come.
fn copies(first: u32) -> String {
    format!(
        "    GR_SHARED(shared, 2048);\n    GR_LOCAL(u32) rows = gr_local<u32>(shared, 0, 512);\n    const i32 t = gr_thread();\n    \
         for (i32 row = 0; row < 2; row++) {{\n        gr_copy16(&rows[row * 128 + t * 4], gr_at(p0, row * 128 + t * 4, 4));\n        \
         gr_copy_commit();\n    }}\n    gr_copy_wait<{first}>();\n    gr_sync();\n    p1[t] = rows[127 - t];\n    \
         gr_copy_wait<0>();\n    gr_sync();\n    p1[32 + t] = rows[128 + 127 - t];\n"
    )
}

#[test]
fn a_wrong_wait_count_reads_poison() {
    let (compiler, inputs) = (compiler(), [numbers(256)]);
    let expected: Vec<u32> = (0..2).flat_map(|row| (0..32).map(move |t| row * 128 + 127 - t)).map(|at| inputs[0][at]).collect();
    let right = by_hand("copies", 32, &copies(1));
    assert_eq!(run(&compiler, &right, &inputs, 64, Order::Descending), Ok(expected));
    let planted = by_hand("copies", 32, &copies(2));
    let got = run(&compiler, &planted, &inputs, 64, Order::Descending).expect("nothing is outside");
    assert!(got[..32].contains(&u32::MAX), "{got:?}");
}

#[test]
fn what_is_read_or_written_at_once_is_aligned() {
    let compiler = compiler();
    let body = |access: &str| {
        format!(
            "    GR_SHARED(shared, 64);\n    GR_LOCAL(u32) words = gr_local<u32>(shared, 0, 16);\n    GR_LOCAL(u16) halves = \
             gr_local<u16>(shared, 0, 32);\n    gr_pack<u32, 4> four = {{{{{{1, 2, 3, 4}}}}}};\n    gr_pack<u32, 2> two = {{{{{{1, 2}}}}}};\n    \
             {access};\n    p1[0] = words[4] + halves[0] + four.at[0] + two.at[0];\n"
        )
    };
    for (access, bytes) in [
        ("gr_write_aligned<u32, 4>(gr_at(words, PLACE, 4), four)", 16),
        ("four = gr_read_aligned<u32, 4>(gr_at(words, PLACE, 4))", 16),
        ("gr_write_aligned<u32, 2>(gr_at(words, PLACE, 2), two)", 8),
        ("two = gr_read_aligned<u32, 2>(gr_at(words, PLACE, 2))", 8),
        ("two.word = gr_pair_of(&halves[PLACE])", 4),
    ] {
        let run = |place: &str| {
            let kernel = by_hand("aligned", 32, &body(&access.replace("PLACE", place)));
            run(&compiler, &kernel, &[numbers(32)], 1, Order::Ascending)
        };
        assert!(run("4").is_ok(), "{access}");
        let message = run("5").expect_err("a GPU faults");
        assert!(message.contains(&format!("{bytes} bytes at once, ")), "{message}");
    }
}

pub(super) const TENSOR_DOT: &str = "program 1

kernel k0 \"dot\" (
  read p0: bf16[48, 96],
  read p1: bf16[40, 96],
  write p2: f32[48, 40],
) contract [48, 40, 96] batch [] m [0] n [1] k [2] acc f32 {
  side a {
    %0: bf16 = load p0[a0, a2]
    %1: f32 = cast(%0)
    yield %1
  }
  side b {
    %0: bf16 = load p1[a1, a2]
    %1: f32 = cast(%0)
    yield %1
  }
  epilogue {
    %0: f32 = acc
    store p2[a0, a1] = %0
  }
}
";

#[test]
fn a_wrong_wait_count_changes_the_result_of_a_contraction() {
    let value = |place: usize| (place * 5 % 13) as f32 - 6.0;
    let half = |place: usize| value(place).to_bits() >> 16;
    let words = |count: usize| (0..count / 2).map(|word| half(word * 2) | half(word * 2 + 1) << 16).collect::<Vec<u32>>();
    let (compiler, kernel, inputs) = (compiler(), kernel(TENSOR_DOT), [words(48 * 96), words(40 * 96)]);
    let element = |m: usize, n: usize| (0..96).map(|k| value(m * 96 + k) * value(n * 96 + k)).sum::<f32>();
    let expected: Vec<u32> = (0..48 * 40).map(|place| element(place / 40, place % 40).to_bits()).collect();
    assert!(kernel.text.contains("gr_copy16(") && kernel.text.contains("gr_mma_bf16("), "{}", kernel.text);
    for order in [Order::Ascending, Order::Descending] {
        assert_eq!(run(&compiler, &kernel, &inputs, 48 * 40, order), Ok(expected.clone()));
    }
    let planted = planted(&kernel, "gr_copy_wait<1>", "gr_copy_wait<2>", false);
    assert_ne!(run(&compiler, &planted, &inputs, 48 * 40, Order::Ascending), Ok(expected));
}

#[test]
fn tensor_instructions_multiply_fragments_as_ptx_lays_them_out() {
    // Row `r` of `a` is 16 halves, column `c` of `b` too; the result is 16 x 8 floats.
    let body = "    const i32 lane = gr_thread(), group = lane / 4, pair = lane % 4;\n    u32 a[4], b[2];\n    float d[4] = {};\n    \
                for (i32 r = 0; r < 4; r++) a[r] = p0[(group + r % 2 * 8) * 8 + pair + r / 2 * 4];\n    \
                for (i32 r = 0; r < 2; r++) b[r] = p0[128 + group * 8 + pair + r * 4];\n    gr_mma_bf16(d, a, b);\n    \
                for (i32 e = 0; e < 4; e++) p1[(group + e / 2 * 8) * 8 + pair * 2 + e % 2] = gr_bits(d[e]);\n";
    let half = |place: usize| ((place * 5 % 13) as f32 - 6.0).to_bits() >> 16;
    let words: Vec<u32> = (0..192).map(|word| half(word * 2) | half(word * 2 + 1) << 16).collect();
    let value = |place: usize| (place * 5 % 13) as f32 - 6.0;
    let element = |row: usize, column: usize| (0..16).map(|k| value(row * 16 + k) * value(256 + column * 16 + k)).sum::<f32>();
    let expected: Vec<u32> = (0..128).map(|place| element(place / 8, place % 8).to_bits()).collect();
    let got = run(&compiler(), &by_hand("mma", 32, body), &[words], 128, Order::Ascending);
    assert_eq!(got, Ok(expected));
}

#[test]
fn fragments_are_turned_as_ptx_has_it() {
    // 16 rows of eight halves: a lane gets the elements of two rows above each other, twice.
    let body = "    GR_SHARED(shared, 256);\n    GR_LOCAL(gr_f16) rows = gr_local<gr_f16>(shared, 0, 128);\n    const i32 lane = gr_thread();\n    \
                for (i32 i = lane; i < 128; i += 32) rows[i] = gr_f16{(u16)(p0[i / 2] >> i % 2 * 16)};\n    gr_sync();\n    u32 b[2];\n    \
                gr_read_turned(b, gr_at(rows, lane % 16 * 8, 8));\n    for (i32 r = 0; r < 2; r++) p1[lane * 2 + r] = b[r];\n";
    let words: Vec<u32> = (0..64).map(|word| (word * 2) | (word * 2 + 1) << 16).collect();
    let element = |row: u32, column: u32| row * 8 + column;
    let pair = |lane: u32, r: u32| {
        let row = r * 8 + lane % 4 * 2;
        element(row, lane / 4) | element(row + 1, lane / 4) << 16
    };
    let expected: Vec<u32> = (0..32).flat_map(|lane| [pair(lane, 0), pair(lane, 1)]).collect();
    assert_eq!(run(&compiler(), &by_hand("turned", 32, body), &[words], 64, Order::Ascending), Ok(expected));
}

/// What the thread sanitizer says of a kernel over small numbers, if anything.
pub(super) fn races(kernel: &Emitted, elements: &[usize]) -> Option<String> {
    races_of(&[Racing { kernel, elements: elements.to_vec(), sizes: Vec::new() }])
}

/// The same of several kernels, one after the other.
pub(super) fn races_of(kernels: &[Racing<'_>]) -> Option<String> {
    let program = compiler().racing(kernels).expect("it compiles");
    // The sanitizer needs addresses that are not random where the kernel randomises many bits.
    let fixed = std::process::Command::new("setarch").arg("-R").arg(&program).output();
    let directly = || std::process::Command::new(&program).output().expect("it was just compiled");
    let output = fixed.ok().filter(|output| output.status.code() != Some(1)).unwrap_or_else(directly);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code() {
        Some(0) => None,
        Some(66) if said.contains("data race") => Some(said),
        other => panic!("{other:?}: {said}"),
    }
}

/// Whether the sanitizer sees a race in one of a few runs: on a busy machine threads may happen not to meet.
pub(super) fn is_seen(kernel: &Emitted, elements: &[usize]) -> bool {
    (0..8).any(|_| races(kernel, elements).is_some())
}

#[test]
fn kernels_have_no_races_and_a_missing_barrier_is_one() {
    let rows = row_sums(3, 4096);
    for (program, elements) in
        [(rows.as_str(), &[3 * 4096, 3][..]), (DOT, &[2000, 1800, 1440]), (TENSOR_DOT, &[48 * 96, 40 * 96, 1920])]
    {
        let kernel = kernel(program);
        assert_eq!(races(&kernel, elements), None);
        if kernel.text.contains("gr_sync();") && program != rows {
            let planted = planted(&kernel, "gr_sync();", "", false);
            assert!(is_seen(&planted, elements), "{}", planted.text);
        }
    }
}

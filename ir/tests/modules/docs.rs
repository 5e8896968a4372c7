//! The examples of `docs/ir.md` read, verify and print as they stand there.

use graver_ir::{kernel, text};

const PAGE: &str = include_str!("../../../docs/ir.md");

/// The blocks of the page that begin with this word.
fn examples(word: &str) -> Vec<&'static str> {
    let blocks = PAGE.split("```gir\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.filter(|block| block.starts_with(word)).collect()
}

/// The text without comments, unused symbols and their lines.
fn plain(text: &str) -> String {
    text.lines()
        .filter(|line| !line.starts_with("//") && !line.starts_with("sym length"))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn the_examples_are_what_they_say() {
    let (modules, programs) = (examples("graver 1"), examples("program 1"));
    assert_eq!((modules.len(), programs.len()), (1, 1));
    for example in modules {
        let module = text::parse(example).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(text::print(&module), plain(example));
    }
    for example in programs {
        let program = kernel::text::parse(example).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(kernel::text::print(&program), example);
    }
    let wrong = examples("graver 1")[0].replace("add(%3, %4) : f32[batch, 10]", "add(%3, %4) : f32[batch, 11]");
    let says = PAGE.split("```text\n").nth(1).and_then(|rest| rest.lines().next()).expect("the page shows an error");
    let error = text::parse(&wrong).expect_err("another type").to_string();
    assert_eq!(error, says);
}

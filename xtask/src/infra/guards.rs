//! Each guard of a module is taken out, and the module's test of that name has to fail: a test that passes all the same
//! would guard nothing. A guard is the block below a line `# guard: NAME`; its test is the run `refuses_NAME`.
use super::{Tally, entries, terraform::Terraform};
use anyhow::{Context, Result, bail};
use std::{fs, path::Path};

/// What opens a guard.
const MARK: &str = "# guard: ";

/// Takes out every guard of every module, one after another.
pub fn check(terraform: &Terraform, copy: &Path, tally: &mut Tally) -> Result<()> {
    for module in entries(&copy.join("modules"))? {
        let files = entries(&module)?;
        for file in files
            .iter()
            .filter(|file| file.extension().is_some_and(|end| end == "tf"))
        {
            let whole = fs::read_to_string(file).with_context(|| file.display().to_string())?;
            for name in names(&whole) {
                let test = format!("refuses_{}", name.replace('-', "_"));
                fs::write(file, without(&whole, name))?;
                let in_file = format!("-filter=tests/{}", file_of(&module, &test)?);
                let said = terraform.run(&module, &["test", "-no-color", &in_file])?;
                let missed = said.text.contains(&format!("run \"{test}\"... fail"));
                let text = format!("{test} does not fail without its guard\n{}", said.text);
                tally.say(
                    &format!("guard {name} of {}", shown(&module)),
                    missed,
                    &text,
                );
            }
            fs::write(file, &whole)?;
        }
    }
    Ok(())
}

/// The file of the module's tests that has a run: the others have nothing to say of it.
fn file_of(module: &Path, test: &str) -> Result<String> {
    for path in entries(&module.join("tests"))? {
        let text = fs::read_to_string(&path).unwrap_or_default();
        if text.contains(&format!("run \"{test}\"")) {
            return Ok(shown(&path));
        }
    }
    bail!("{}: no test is called {test}", module.display())
}

fn shown(module: &Path) -> String {
    module
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The guards of a file.
fn names(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix(MARK))
        .collect()
}

/// The file without a guard: without the lines from its mark to the bracket that closes the block below, which stands
/// where the mark does.
fn without(text: &str, name: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut until: Option<String> = None;
    for line in text.lines() {
        match &until {
            Some(end) if line == end => until = None,
            Some(_) => {}
            None if line.trim().strip_prefix(MARK) == Some(name) => {
                let indent = line.len() - line.trim_start().len();
                until = Some(format!("{}}}", " ".repeat(indent)));
            }
            None => {
                kept.push_str(line);
                kept.push('\n');
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "variable \"a\" {\n  # guard: one\n  validation {\n    condition = x({\n    })\n  }\n  # guard: two\n  validation {\n  }\n}\n";

    #[test]
    fn a_guard_is_taken_out_with_its_block_and_nothing_else() {
        assert_eq!(names(FILE), ["one", "two"]);
        assert_eq!(
            without(FILE, "one"),
            "variable \"a\" {\n  # guard: two\n  validation {\n  }\n}\n"
        );
        assert_eq!(without(FILE, "none"), FILE);
    }
}

//! Variables of Terraform are written down again in every stack and module that takes them. What has one name is one thing: it
//! has one type wherever it stands; in every stack also one default, one validation and the same words, and so have those of
//! modules that are described by the same words; what is said when it is wrong has one condition; and the module that is said
//! to validate it does. What differs is named with both places.
use super::entries;
use anyhow::{Context, Result};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Folders of configurations, and whether what lies in them is a root, which a person gives values to.
const FOLDERS: [(&str, bool); 3] = [("environments", true), ("modules", false), ("stacks", true)];
const FILE: &str = "variables.tf";
/// What each layer says of these in its own words: whose region, account or clients they are differs.
const OF_THE_LAYER: [&str; 3] = ["account_id", "clients", "region"];
/// Variables that are another thing in one module, with the module.
const OTHERS: [(&str, &str); 6] = [
    ("devices", "modules/local-process"),
    ("facilities", "modules/edge-fleet"),
    ("jurisdictions", "modules/global"),
    ("pair", "modules/node-config"),
    ("place", "modules/local-process"),
    ("regions", "modules/global-node"),
];
/// The module that takes whatever is missing, so that its guards can say where it is.
const LENIENT: &str = "modules/topology";
/// Words before the module that describes a variable, and those behind it when it validates it too.
const AS_IN: &str = "s in the module ";
const VALIDATES: &str = "which validates it";

/// A variable where it is declared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Variable {
    place: String,
    is_root: bool,
    /// Its arguments: type, default, nullable, description.
    arguments: BTreeMap<String, String>,
    /// Conditions by what is said when they do not hold.
    validations: BTreeMap<String, String>,
}

impl Variable {
    fn argument(&self, name: &str) -> &str {
        self.arguments.get(name).map_or("", String::as_str)
    }
}

/// Every variable by its name.
type Variables = BTreeMap<String, Vec<Variable>>;

/// What differs, a line each; nothing when all agree.
pub fn differences(source: &Path) -> Result<Vec<String>> {
    let mut all = Variables::new();
    for (folder, is_root) in FOLDERS {
        for dir in entries(&source.join(folder))? {
            let file = dir.join(FILE);
            if !file.is_file() {
                continue;
            }
            let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            let name = dir.file_name().unwrap_or_default().to_string_lossy();
            declared(&format!("{folder}/{name}"), is_root, &text, &mut all);
        }
    }
    Ok(compared(&all))
}

/// The variables of a file.
fn declared(place: &str, is_root: bool, text: &str, all: &mut Variables) {
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let name = line
            .strip_prefix("variable \"")
            .and_then(|rest| rest.strip_suffix("\" {"));
        let Some(name) = name else { continue };
        let mut variable = Variable {
            place: place.to_owned(),
            is_root,
            ..Variable::default()
        };
        let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "}").collect();
        read(&body, &mut variable);
        all.entry(name.to_owned()).or_default().push(variable);
    }
}

/// The arguments of a variable, and its validations.
fn read(body: &[&str], variable: &mut Variable) {
    let mut rest = body;
    let mut own = Vec::new();
    while let Some((line, after)) = rest.split_first() {
        rest = after;
        if line.trim() != "validation {" {
            own.push(*line);
            continue;
        }
        let end = rest.iter().position(|line| *line == "  }");
        let (inside, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after.get(1..).unwrap_or_default();
        let mut of = arguments(inside, "    ");
        let message = of.remove("error_message").unwrap_or_default();
        let condition = of.remove("condition").unwrap_or_default();
        variable.validations.insert(message, condition);
    }
    variable.arguments = arguments(&own, "  ");
}

/// Arguments that stand behind some spaces, each with its value in one line.
fn arguments(lines: &[&str], indent: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::<String, String>::new();
    let mut name = String::new();
    for line in lines.iter().filter(|line| !line.trim().starts_with('#')) {
        let begins = line
            .strip_prefix(indent)
            .filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
            .and_then(|rest| rest.split_once('='));
        let value = match begins {
            Some((key, value)) => {
                name = key.trim().to_owned();
                value
            }
            None => *line,
        };
        let whole = found.entry(name.clone()).or_default();
        for word in value.split_whitespace() {
            whole.push_str(if whole.is_empty() { "" } else { " " });
            whole.push_str(word);
        }
    }
    found
}

/// What differs between variables of one name.
fn compared(all: &Variables) -> Vec<String> {
    let mut found = BTreeSet::new();
    for (name, places) in all {
        for (at, one) in places.iter().enumerate() {
            for other in places.iter().skip(at + 1) {
                let differs = between(name, one, other);
                found.extend(differs.into_iter().map(|what| {
                    let (one, other) = (&one.place, &other.place);
                    format!("{name}: {what} differs in {one} and {other}")
                }));
            }
            found.extend(
                referred(one, places)
                    .into_iter()
                    .map(|what| format!("{name} of {}: {what}", one.place)),
            );
        }
    }
    found.into_iter().collect()
}

/// In what two variables of one name differ that should not.
fn between(name: &str, one: &Variable, other: &Variable) -> Vec<String> {
    let mut found = Vec::new();
    let is_another = |it: &Variable| OTHERS.contains(&(name, it.place.as_str()));
    if is_another(one) || is_another(other) {
        return found;
    }
    let types = [one, other].map(|it| dense(it.argument("type")));
    let is_lenient = one.place == LENIENT || other.place == LENIENT;
    let same = if is_lenient {
        bare(&types[0]) == bare(&types[1])
    } else {
        types[0] == types[1]
    };
    if !same {
        found.push("the type".to_owned());
    }
    let roots = one.is_root && other.is_root && !OF_THE_LAYER.contains(&name);
    let same_words = one.argument("description") == other.argument("description");
    if roots && !same_words {
        found.push("the description".to_owned());
    }
    for what in ["default", "nullable"] {
        if (roots || same_words) && one.argument(what) != other.argument(what) {
            found.push(format!("the argument {what}"));
        }
    }
    if roots && one.validations != other.validations {
        found.push("the validation".to_owned());
    }
    for (message, condition) in &one.validations {
        let of_other = other.validations.get(message);
        if !roots && of_other.is_some_and(|of_other| of_other != condition) {
            found.push(format!("the condition of {message}"));
        }
    }
    found
}

/// What is wrong with a variable that says in which module it is described.
fn referred(one: &Variable, places: &[Variable]) -> Option<String> {
    let words = one.argument("description");
    let (_, rest) = words.split_once(AS_IN)?;
    let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '-');
    let (module, rest) = rest.split_at(end.unwrap_or(rest.len()));
    let place = format!("modules/{module}");
    let Some(there) = places.iter().find(|it| it.place == place) else {
        // In the midst of a description it may be of a part of the variable.
        return words
            .starts_with("\"As in")
            .then(|| format!("{place} has no such variable"));
    };
    let validates = rest.contains(VALIDATES);
    (validates && there.validations.is_empty())
        .then(|| format!("{place} does not validate it, as its description says"))
}

/// A type without what only separates its parts.
fn dense(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_whitespace() && *c != ',')
        .collect()
}

/// A dense type in which nothing is optional: `optional(string)` and `optional(string "")` are a string.
fn bare(text: &str) -> String {
    const OPTIONAL: &str = "optional(";
    const PLAIN: [&str; 3] = ["string", "number", "bool"];
    let mut whole = String::new();
    let mut rest = text;
    while let Some((before, inside)) = rest.split_once(OPTIONAL) {
        whole.push_str(before);
        let end = inside.find(')').unwrap_or(inside.len());
        let (value, after) = inside.split_at(end);
        let plain = PLAIN.iter().find(|plain| value.starts_with(**plain));
        whole.push_str(plain.copied().unwrap_or(value));
        rest = after.get(1..).unwrap_or_default();
    }
    whole + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Places;

    const STACK: &str = "variable \"image\" {\n  description = \"As in the module machine, which validates it.\"\n  type        = string\n  nullable    = false\n}\n";
    const MODULE: &str = "variable \"image\" {\n  description = \"The image.\"\n  type        = string\n  nullable    = false\n  # guard: a\n  validation {\n    condition     = var.image != \"\"\n    error_message = \"image is not empty.\"\n  }\n}\n";

    fn found(files: &[(&str, bool, &str)]) -> Vec<String> {
        let mut all = Variables::new();
        for (place, is_root, text) in files {
            declared(place, *is_root, text, &mut all);
        }
        compared(&all)
    }

    #[test]
    fn the_variables_of_this_clone_agree() -> Result<()> {
        let source = Places::find()?.root.join(super::super::SOURCE);
        assert_eq!(differences(&source)?, Vec::<String>::new());
        Ok(())
    }

    #[test]
    fn what_differs_between_two_places_is_named_with_both() {
        let stacks = |from: &str, to: &str| {
            assert!(STACK.contains(from), "{from}");
            let other = STACK.replace(from, to);
            let files = [("stacks/a", true, STACK), ("stacks/b", true, &other)];
            let module = ("modules/machine", false, MODULE);
            found(&[files[0], files[1], module])
        };
        assert_eq!(stacks("string", "string"), Vec::<String>::new());
        let of = |what: &str| format!("image: {what} differs in stacks/a and stacks/b");
        let typed = stacks("= string", "= number");
        assert!(typed.contains(&of("the type")), "{typed:?}");
        assert_eq!(stacks("false", "true"), [of("the argument nullable")]);
        assert_eq!(stacks("it.", "it, too."), [of("the description")]);
        let validated = stacks(
            "false\n",
            "false\n  validation {\n    condition = false\n  }\n",
        );
        assert_eq!(validated, [of("the validation")]);
    }

    #[test]
    fn a_module_that_is_said_to_validate_does_and_one_message_has_one_condition() {
        let bare = "variable \"image\" {\n  description = \"The image.\"\n  type        = string\n  nullable    = false\n}\n";
        let stack = ("stacks/a", true, STACK);
        let says = found(&[stack, ("modules/machine", false, bare)]);
        assert_eq!(
            says,
            ["image of stacks/a: modules/machine does not validate it, as its description says"]
        );
        assert_eq!(
            found(&[stack]),
            ["image of stacks/a: modules/machine has no such variable"]
        );
        let other = MODULE.replace("var.image != \"\"", "var.image != null");
        let modules = [
            ("modules/machine", false, MODULE),
            ("modules/place", false, other.as_str()),
        ];
        assert_eq!(
            found(&modules),
            [
                "image: the condition of \"image is not empty.\" differs in modules/machine and modules/place"
            ]
        );
    }

    #[test]
    fn a_type_is_compared_without_what_separates_its_parts_and_leniently_where_it_is_said() {
        let strict = "object({\n    a = string\n    b = optional(bool, false)\n  })";
        let lenient = "object({ a = optional(string, \"\"), b = optional(bool, false) })";
        let [strict, lenient] = [strict, lenient].map(dense);
        assert_ne!(strict, lenient);
        assert_eq!(bare(&strict), bare(&lenient));
        assert_eq!(bare(&strict), "object({a=stringb=bool})");
    }
}

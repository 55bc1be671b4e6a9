//! `docs/fhir-api.md`: the ten things to try, sent line by line as a shell would send them.
use super::*;
use std::collections::HashMap;

const PAGE: &str = include_str!("../../../docs/fhir-api.md");

/// The statements of the page's blocks: a line, or several within quotes.
fn statements() -> Vec<String> {
    let blocks = PAGE.split("```sh\n").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split("\n```").next());
    let (mut all, mut open) = (Vec::new(), String::new());
    for line in blocks.flat_map(str::lines) {
        if let Some(begun) = line.strip_suffix(" \\") {
            open.push_str(begun);
            continue;
        }
        open.push_str(line);
        if open.matches('\'').count() % 2 == 0 {
            all.push(std::mem::take(&mut open));
        } else {
            open.push('\n');
        }
    }
    assert_eq!(open, "");
    all
}

/// Words as a shell makes them of a statement, with its variables.
fn words(text: &str, variables: &HashMap<String, String>) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, quote) {
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(open)) if c == open => quote = None,
            (' ', None) => words.extend(word.take()),
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(rest.next()),
            ('$', None | Some('"')) => {
                let mut name = String::new();
                while let Some(c) = rest.next_if(|c| c.is_ascii_uppercase()) {
                    name.push(c);
                }
                let value = variables.get(&name);
                let value = value.unwrap_or_else(|| panic!("{text}: ${name} is not set"));
                word.get_or_insert_default().push_str(value);
            }
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// What `curl` would send.
fn request(words: &[String], kind: &str) -> Request<Body> {
    let (mut method, mut url, mut body) = (None, "", None);
    let mut headers = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "-X" => method = rest.next().map(String::as_str),
            "-d" => body = rest.next().cloned(),
            "-o" | "-w" => drop(rest.next()),
            flag if flag.starts_with("--") => {}
            "-H" => headers.extend(rest.next().and_then(|text| text.split_once(": "))),
            other => url = other,
        }
    }
    let method = method.unwrap_or(if body.is_some() { "POST" } else { "GET" });
    let mut request = Request::builder()
        .method(method)
        .uri(url.replace("https://region.example", ""))
        .header("authorization", "Bearer all")
        .header("content-type", kind);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.body(Body::from(body.unwrap_or_default())).unwrap()
}

/// What a variable takes of an answer: the place of a job or of its first file, or the id of a resource.
fn value_of(reply: &Reply) -> String {
    if let Some(place) = reply.headers.get(header::CONTENT_LOCATION) {
        return place.to_str().unwrap().to_owned();
    }
    let json = reply.json();
    let ways = ["/id", "/entry/0/resource/id", "/output/0/url"];
    let found = ways.iter().find_map(|way| json.pointer(way)).unwrap();
    found.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_ten_things_of_the_page_do_what_it_says() {
    let mut api = fixture().await;
    let bulk = Bulk::open(&api.dir.path().join("bulk")).unwrap();
    let served = api_over(api.store.clone(), false, api.log.clone(), Some(bulk));
    api.router = served.clone().router();
    let working = tokio::spawn(served.work());
    let base = "https://region.example/fhir".to_owned();
    let mut variables = HashMap::from([("FHIR".to_owned(), base)]);
    let mut sent = 0;
    for statement in statements() {
        let Some((command, status)) = statement.rsplit_once(" # ") else {
            let (name, value) = statement.split_once('=').unwrap();
            let value = words(value, &variables).concat();
            variables.insert(name.to_owned(), value);
            continue;
        };
        let (mut command, mut name, mut kind) = (command, None, FHIR_JSON);
        if let Some((variable, inner)) = command.split_once("=$(") {
            name = Some(variable);
            command = inner.split(" | jq -r ").next().unwrap();
        }
        if let Some(rest) = command.strip_prefix("TYPE=") {
            (kind, command) = rest.split_once(' ').unwrap();
        }
        let words = words(command, &variables);
        assert_eq!(words[0], "fhir", "{statement}");
        let mut reply = api.send(request(&words[1..], kind)).await;
        // A job that is being made is asked again, as the page says.
        while reply.headers.contains_key("x-progress") {
            assert!(!working.is_finished());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            reply = api.send(request(&words[1..], kind)).await;
        }
        let found = reply.status.as_str();
        assert_eq!(found, status, "{statement}: {}", reply.text);
        sent += 1;
        if let Some(name) = name {
            variables.insert(name.to_owned(), value_of(&reply));
        }
    }
    working.abort();
    assert!(sent >= 20, "{sent} lines of the page were sent");
    for number in 1..=10 {
        assert!(PAGE.contains(&format!("\n{number}. ")), "{number}");
    }
}

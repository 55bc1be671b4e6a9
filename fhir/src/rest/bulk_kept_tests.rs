//! Tests of jobs that two nodes of a region go on with in turn: what counts is where both reach it.
use super::bulk_tests::{ALL, ASYNC, Exporting, counts, ids};
use super::finding_tests::finding;
use super::*;
use storage::chunks::{Chunks, memory::Memory};

#[tokio::test]
async fn an_export_goes_on_at_another_node_whatever_that_has_of_it() {
    let mut api = Exporting::new(false).await;
    let chunks = Arc::new(Memory::default());
    let kept = || Some(chunks.clone() as Arc<dyn Chunks>);
    for year in 2001..2013 {
        api.fixture.create(&finding(year, None)).await;
    }
    let path = "/fhir/$export?_type=Condition,Observation";
    let undisturbed = api.output(path).await;
    api.start_at("a", kept());
    let job = api.begin(path, &[ALL, ASYNC]).await;
    let mut turns = 0;
    while api.api.bulk.clone().unwrap().turn_once(&api.api).await {
        turns += 1;
        // Two turns at each, so that a node has some of a file and lacks the rest.
        let node = if turns % 4 < 2 { "a" } else { "b" };
        api.start_at(node, kept());
        let known = api.fixture.get_with(&job, &[ALL]).await.status;
        assert_ne!(known, StatusCode::NOT_FOUND, "turn {turns}");
    }
    assert!(turns > 10, "{turns}");
    let manifest = api.manifest(&job, ALL).await;
    let found = api.lines(&manifest, "output", ALL).await;
    assert_eq!(counts(&found), counts(&undisturbed));
    for (kind, lines) in &found {
        assert_eq!(ids(lines), ids(&undisturbed[kind]));
    }
    // While nothing can be removed elsewhere the job is there, and its client is told so.
    chunks.refuses(true);
    let reply = api.fixture.write(Method::DELETE, &job, &[], "").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    chunks.refuses(false);
    assert_eq!(api.manifest(&job, ALL).await, manifest);
    // The last node deletes it; the one that has its files too does not bring it back.
    let reply = api.fixture.write(Method::DELETE, &job, &[], "").await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text);
    for node in ["a", "b"] {
        api.start_at(node, kept());
        let gone = api.fixture.get_with(&job, &[ALL]).await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND);
    }
    assert!(chunks.list("").unwrap().is_empty());
    // What cannot be kept elsewhere is not begun.
    chunks.refuses(true);
    let refused = api.fixture.get_with(path, &[ALL, ASYNC]).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn what_a_node_had_begun_to_remove_is_removed_by_the_next_one() {
    let mut api = Exporting::new(false).await;
    let chunks = Arc::new(Memory::default());
    let kept = || Some(chunks.clone() as Arc<dyn Chunks>);
    api.start_at("a", kept());
    let job = api.begin("/fhir/$export", &[ALL, ASYNC]).await;
    assert!(api.api.bulk.clone().unwrap().turn_once(&api.api).await);
    let asked = |names: &Vec<(String, u64)>| {
        let mut names = names.iter().map(|(name, _)| name.clone());
        names.find(|name| name.ends_with("/asked.json"))
    };
    let record = asked(&chunks.list("").unwrap()).unwrap();
    chunks.remove(&[record]).unwrap();
    for node in ["b", "a"] {
        api.start_at(node, kept());
        let gone = api.fixture.get_with(&job, &[ALL]).await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND, "{node}");
        assert!(chunks.list("").unwrap().is_empty(), "{node}");
    }
}

#[tokio::test]
async fn what_a_node_had_alone_goes_on_at_the_other_once_there_are_two() {
    let mut api = Exporting::new(false).await;
    let chunks = Arc::new(Memory::default());
    let kept = || Some(chunks.clone() as Arc<dyn Chunks>);
    let undisturbed = api.output("/fhir/$export").await;
    let job = api.begin("/fhir/$export", &[ALL, ASYNC]).await;
    assert!(api.api.bulk.clone().unwrap().turn_once(&api.api).await);
    api.start_at("bulk", kept());
    api.start_at("b", kept());
    let manifest = api.manifest(&job, ALL).await;
    let found = api.lines(&manifest, "output", ALL).await;
    assert_eq!(counts(&found), counts(&undisturbed));
}

#[tokio::test]
async fn what_each_node_of_two_had_alone_goes_on_whichever_comes_first() {
    let mut api = Exporting::new(false).await;
    let chunks = Arc::new(Memory::default());
    let kept = || Some(chunks.clone() as Arc<dyn Chunks>);
    let job = api.begin("/fhir/$export", &[ALL, ASYNC]).await;
    let (unknown, known) = (StatusCode::NOT_FOUND, StatusCode::ACCEPTED);
    for (node, expected) in [("b", unknown), ("bulk", known), ("b", known)] {
        api.start_at(node, kept());
        let reply = api.fixture.get_with(&job, &[ALL]).await;
        assert_eq!(reply.status, expected, "{node}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_brought_now_is_not_said_to_be_gone() {
    let mut api = Exporting::new(false).await;
    let chunks = Arc::new(Memory::default());
    let kept = || Some(chunks.clone() as Arc<dyn Chunks>);
    api.start_at("a", kept());
    let job = api.begin("/fhir/$export", &[ALL, ASYNC]).await;
    let manifest = api.manifest(&job, ALL).await;
    for (name, _) in chunks.list("").unwrap() {
        if name.ends_with(".ndjson") {
            // Its beginning is missing.
            chunks.remove(std::slice::from_ref(&name)).unwrap();
            chunks.put(&name, 7, b"x").unwrap();
        }
    }
    api.start_at("b", kept());
    let url = manifest["output"][0]["url"].as_str().unwrap();
    let path = url.strip_prefix("https://region.example").unwrap();
    let reply = api.fixture.get_with(path, &[ALL]).await;
    assert_eq!(reply.issue(), (503, "transient".into()));
}

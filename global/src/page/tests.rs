//! The pages over studies in a file: who is let in, what is shown, and that nobody's words become more than text.
use super::*;
use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use federation::{audit::Signer, ledger::Ledger, pki, policy::Rules};
use node::token::TokenServer;
use std::collections::BTreeSet;
use tower::ServiceExt;
use types::Place;

const STUDY: &str = r#"
name = "heart"
sites = 2
data = { table = "heart", minimum_records = 20, features = [{ name = "age", unit = "1", missing = "zero" }], label = { kind = "binary", column = "l" } }
model = { kind = "logistic" }
training = { rounds = 2, steps = 5, batch = 8, learning_rate = 0.5, strategy = { kind = "fed-avg" } }
aggregation = { secure = true, quorum = 2, bound = 8.0 }
"#;

/// What a facility of bad will gives as its reason.
const HOSTILE: &str = "<script>alert(1)</script>\"><img src=x>|`";

fn begun() -> Course {
    let known = BTreeSet::from(["us".parse().unwrap()]);
    Course::begin("heart-1".parse().unwrap(), STUDY.into(), &known, 0).unwrap()
}

/// A study that has ended, as it is stored.
fn ended() -> Course {
    let figures = json!({"records": 60, "accuracy": 0.75, "auroc": 0.8, "auprc": 0.7, "brier": 0.2, "calibration": 0.05,
        "calibration_intercept": 0.1, "calibration_slope": 0.9, "intervals": {
            "accuracy": {"low": 0.65, "high": 0.85}, "auroc": {"low": 0.71, "high": 0.89}, "auprc": {"low": 0.6, "high": 0.8},
            "brier": {"low": 0.1, "high": 0.3}, "calibration": {"low": 0.01, "high": 0.09}}});
    let report = |round: u32| {
        json!({"round": round, "attempt": 1, "began_ms": 0, "ended_ms": 1_500, "members": 1, "bytes": 160, "epsilon": null,
            "sites": {
                "us-f1": {"told": {"loss": 0.7 / f64::from(round), "auroc": 0.7}},
                "us-f2": {"missing": HOSTILE, "told": {}},
            }, "failure": null})
    };
    let mut state = serde_json::to_value(begun()).unwrap();
    state["standing"] = json!({"status": "done"});
    state["reports"] = json!([report(1), report(2), report(3)]);
    state["reports"][2]["sites"]["us-f1"]["told"] = json!({ "figures": figures });
    state["evaluation"] = json!({"pooled": figures, "sites": {"us-f1": figures}, "curves": {
        "roc": [[0, 0], [3, 12], [30, 30]],
        "calibration": [{"records": 30, "yes": 9, "score": 0.3}, {"records": 30, "yes": 21, "score": 0.7}]}});
    serde_json::from_str(&state.to_string()).unwrap()
}

async fn pages(dir: &std::path::Path) -> Pages {
    let clock = Clock::new(None);
    let key = pki::signing_key(&dir.join("key"), &mut rand::rng()).unwrap();
    let ledger = Ledger::open(
        &dir.join("ledger.db"),
        Place::Global,
        Rules::load(None).unwrap(),
        Signer::new(&Place::Global, key),
        Arc::new(move || clock.real()),
    );
    let ledger = ledger.unwrap();
    ledger.begin_log().await.unwrap();
    let tokens = TokenServer::new("https://localhost", &[], clock, &dir.join("used")).unwrap();
    let blobs = ledger.blobs(dir).unwrap();
    let signing = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    Pages {
        studies: Studies::open(ledger, blobs, signing).await.unwrap(),
        sessions: Sessions::new(clock),
        verifier: tokens.verifier(),
        origin: "https://localhost".into(),
    }
}

async fn ask(router: &Router, path: &str, cookie: Option<&str>) -> (u16, HeaderMap, String) {
    let mut request = Request::get(path);
    if let Some(cookie) = cookie {
        request = request.header("cookie", format!("other=1; {cookie}"));
    }
    let request = request.body(Body::empty()).unwrap();
    let answer = router.clone().oneshot(request).await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    (status, headers, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_link_lets_one_browser_in_once_and_nobody_else_sees_anything() {
    let dir = tempfile::tempdir().unwrap();
    let pages = pages(dir.path()).await;
    let router = routes(pages.clone());
    let forged = format!("{COOKIE}={}", "0".repeat(64));
    for path in [
        "/studies",
        "/studies/heart-1",
        "/studies/heart-1/model.onnx",
    ] {
        for cookie in [None, Some(forged.as_str())] {
            let (status, _, body) = ask(&router, path, cookie).await;
            assert_eq!(status, 401, "{path}");
            assert!(body.contains("medmesh fl open") && !body.contains("heart"));
        }
    }
    let link = pages.sessions.link("data-scientist".into());
    let path = format!("/studies/enter?link={link}&study=heart-1");
    let (status, headers, _) = ask(&router, &path, None).await;
    assert_eq!(
        (status, &headers["location"]),
        (303, &HeaderValue::from_static("/studies/heart-1"))
    );
    let given = headers["set-cookie"].to_str().unwrap();
    for rule in ["Secure", "HttpOnly", "SameSite=Lax", "Path=/", "__Host-"] {
        assert!(given.contains(rule), "{given}");
    }
    let cookie = given.split(';').next().unwrap();
    assert_eq!(
        ask(&router, &path, None).await.0,
        403,
        "it was followed before"
    );
    let (status, headers, body) = ask(&router, "/studies", Some(cookie)).await;
    assert_eq!(status, 200, "{body}");
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'") && !policy.contains("script-src"),
        "{policy}"
    );
    assert_eq!(ask(&router, "/studies/heart-1", Some(cookie)).await.0, 404);
    // A link elsewhere than on this node is not followed to.
    let link = pages.sessions.link("data-scientist".into());
    let (status, ..) = ask(
        &router,
        &format!("/studies/enter?link={link}&study=//x.example"),
        None,
    )
    .await;
    assert_eq!(status, 401);
}

#[test]
fn what_a_site_says_is_text_wherever_it_is_shown() {
    let course = ended();
    let page = html::study(&(course.clone(), 0), Some("00"));
    for forbidden in [
        "<script",
        "<img",
        "http://",
        "https://",
        "onload",
        " style=\"",
    ] {
        let within = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!within.contains(forbidden), "{forbidden}");
    }
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    let (_, card) = file_of(&course, "card.md").unwrap();
    let card = String::from_utf8(card).unwrap();
    assert!(
        !card.contains("<script") && !card.contains("<img"),
        "{card}"
    );
    assert!(card.contains("&lt;img src=x>\\|"), "{card}");
}

#[test]
fn the_reason_of_a_study_that_failed_is_text_in_its_card() {
    let mut state = serde_json::to_value(ended()).unwrap();
    let why = format!("round 1: us-f2 declined: {HOSTILE}[free](javascript:x)");
    state["standing"] = json!({"status": "failed", "why": why});
    let failed = serde_json::from_str(&state.to_string()).unwrap();
    let card = card(&failed);
    assert!(
        !card.contains("<script") && !card.contains("<img"),
        "{card}"
    );
    assert!(card.contains("\\[free](javascript:x)"), "{card}");
}

#[test]
fn a_study_that_is_done_shows_its_figures_and_has_every_file() {
    let course = ended();
    let page = html::study(&(course.clone(), 0), sha256(&course).as_deref());
    for shown in [
        "0.800",
        "0.710 to 0.890",
        "[0.650, 0.850]",
        "2 of 2",
        "AUROC by round",
        "Loss by round",
    ] {
        assert!(page.contains(shown), "{shown}");
    }
    assert_eq!(page.matches("<svg").count(), 4);
    for name in FILES {
        let (content, bytes) = file_of(&course, name).unwrap();
        assert_eq!(name.ends_with(".svg"), content == "image/svg+xml");
        assert!(!bytes.is_empty());
    }
    assert!(!page.contains("http-equiv=\"refresh\""));
}

#[test]
fn a_study_that_has_just_begun_has_no_model_and_looks_again() {
    let course = begun();
    let page = html::study(&(course.clone(), 0), sha256(&course).as_deref());
    assert!(page.contains("http-equiv=\"refresh\"") && page.contains("No round has ended yet"));
    assert!(page.contains("no answer yet of us."), "{page}");
    let mut state = serde_json::to_value(&course).unwrap();
    state["waiting"] = json!({"us": {
        "us-f1": {"told": {}}, "us-f2": {"missing": format!("declined: {HOSTILE}"), "told": {}}}});
    let waits: Course = serde_json::from_str(&state.to_string()).unwrap();
    let page = html::study(&(waits, 0), None);
    assert!(page.contains("<tr><td>us-f1</td><td class=\"text\">takes part</td></tr>"));
    assert!(page.contains("declined: &lt;script&gt;") && !page.contains("<script"));
    for name in FILES {
        assert_eq!(
            file_of(&course, name).is_some(),
            name == "card.md",
            "{name}"
        );
    }
    assert_eq!(file_of(&ended(), "study.json"), None);
}

/// A study that has ended, with another evaluation.
fn judged(evaluation: Value) -> Course {
    let mut state = serde_json::to_value(ended()).unwrap();
    state["evaluation"] = evaluation;
    serde_json::from_str(&state.to_string()).unwrap()
}

fn card(course: &Course) -> String {
    String::from_utf8(file_of(course, "card.md").unwrap().1).unwrap()
}

#[test]
fn a_cox_model_shows_its_concordance_and_no_page_links_to_a_curve_that_is_not_there() {
    let course = judged(json!({"pooled": null, "sites": {}, "concordance": {
        "pooled": 0.711, "within": {"low": 0.62, "high": 0.8}, "subjects": 240,
        "sites": {"us-f1": 0.67}, "sites_within": {"us-f1": {"low": 0.5, "high": 0.84}}}}));
    let page = html::study(&(course.clone(), 0), sha256(&course).as_deref());
    for shown in [
        "0.711<small>[0.620, 0.800]</small>",
        "0.670<small>[0.500, 0.840]</small>",
    ] {
        assert!(page.contains(shown), "{shown}");
    }
    assert!(!page.contains("judged after its last round"));
    for name in FILES {
        let linked = page.contains(&format!("/{name}\" download"));
        assert_eq!(linked, file_of(&course, name).is_some(), "{name}");
    }
    let card = card(&course);
    assert!(
        card.contains("| all sites | 240 | 0.711 [0.620, 0.800] |"),
        "{card}"
    );
    let told = course.evaluation().unwrap().shown();
    assert_eq!(
        told["pooled"],
        json!({"records": 240, "concordance": 0.711, "intervals": {"concordance": {"low": 0.62, "high": 0.8}}})
    );
    assert_eq!(told["sites"]["us-f1"]["concordance"], json!(0.67));
    assert_eq!(told.get("concordance"), None);
}

#[test]
fn a_model_of_which_nothing_is_told_says_why() {
    let cox = |subjects: u64| json!({"pooled": null, "sites": {}, "concordance": {"pooled": null, "sites": {}, "subjects": subjects}});
    for (told, expected) in [
        (
            json!({"pooled": null, "sites": {}}),
            "of fewer than 11 records that were kept from training nothing is told",
        ),
        (
            cox(10),
            "of fewer than 11 subjects that were kept from training nothing is told",
        ),
        (
            cox(11),
            "of no two subjects of one site it is known who had the event first",
        ),
    ] {
        let course = judged(told);
        let page = html::study(&(course.clone(), 0), None);
        let line = format!("No figures: {expected}.");
        assert!(page.contains(&line), "{page}");
        assert!(card(&course).contains(&line), "{expected}");
        let told = course.evaluation().unwrap().shown();
        assert_eq!(told, json!({"pooled": null, "sites": {}, "why": expected}));
    }
}

#[test]
fn figures_after_tuning_and_of_one_label_are_shown_and_say_why_they_lack_something() {
    let one = json!({"records": 40, "accuracy": 0.9, "auroc": null, "auprc": null, "brier": 0.08, "calibration": 0.02,
        "why": "no record that was kept from training has the label"});
    let tuned = json!({"records": 40, "accuracy": 0.95, "auroc": 0.6, "auprc": 0.5, "brier": 0.07, "calibration": 0.01});
    let course = judged(
        json!({"pooled": one, "sites": {}, "personal": {"pooled": tuned, "sites": {"us-f1": tuned}}}),
    );
    let page = html::study(&(course.clone(), 0), None);
    let card = card(&course);
    let why = "all sites: no area under a curve, since no record that was kept from training has the label.";
    assert!(page.contains(why) && card.contains(why), "{card}");
    assert!(
        card.contains("| all sites | 40 | 0.900 | – | – | 0.080 | 0.020 |"),
        "{card}"
    );
    assert!(card.contains("| us-f1 | 40 | 0.950 | 0.600 |"), "{card}");
    assert!(page.contains("after each site's own tuning") && page.contains("0.950"));
}

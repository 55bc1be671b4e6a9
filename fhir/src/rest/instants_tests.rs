//! Instants of versions, and places in listings by them.
use super::*;

#[tokio::test]
async fn versions_of_one_resource_differ_in_their_instants() {
    let api = fixture().await;
    let path = format!("/fhir/Patient/{}", fixture::patient(1, 1950).id());
    let mut instants = Vec::new();
    for version in ["_history/1", "_history/2"] {
        let reply = api.get(&format!("{path}/{version}")).await.json();
        instants.push(reply["meta"]["lastUpdated"].as_str().unwrap().to_owned());
    }
    assert!(instants[0] < instants[1], "{instants:?}");
    assert_eq!(
        api.get(&path).await.json()["meta"]["lastUpdated"],
        instants[1]
    );
}

#[tokio::test]
async fn within_one_patient_the_newest_commit_is_found_first_and_its_place_tells_nothing_elsewhere()
{
    let api = fixture().await;
    let of = |number: u32| fixture::patient(number, 1950).id().clone();
    // Readings 61, 67 and 73 are of patient 1, committed in another order than that of their ids.
    for number in [73, 61, 67] {
        api.commit(number).await;
    }
    let path = format!(
        "/fhir/Observation?patient={}&_sort=-_lastUpdated&_count=1",
        of(1)
    );
    let mut url = path.clone();
    for number in [67, 61, 73] {
        let reply = api.get(&url).await;
        assert_eq!(reply.ids(), [fixture::observation(number).id().to_string()]);
        let next = reply.link("next").unwrap();
        url = next
            .strip_prefix("https://region.example")
            .unwrap()
            .to_owned();
    }
    let elsewhere = url.replace(of(1).as_str(), of(2).as_str());
    assert_eq!(api.get(&elsewhere).await.issue(), (400, "value".into()));
    let (_, cursor) = url.split_once("_cursor=").unwrap();
    let everyone = format!("/fhir/Observation?_sort=-_lastUpdated&_cursor={cursor}");
    assert_eq!(api.get(&everyone).await.issue(), (400, "value".into()));
}

#[tokio::test]
async fn where_dates_are_true_instants_are_too() {
    let api = fixture_of(true).await;
    api.commit(100).await;
    let news = api.get("/fhir/Observation?_lastUpdated=ge2026-01-01").await;
    assert_eq!(news.instants().1, ["2026-11-22T10:00:00.000Z"]);
    let old = api
        .get("/fhir/Observation?_lastUpdated=1970-01-01&_count=0")
        .await;
    assert_eq!(old.json()["total"], 60);
}

/// A mark of another moment than that of asking would tell when a resource was stored.
#[tokio::test]
async fn who_reads_or_writes_what_is_older_is_told_the_last_commit_and_not_its_own() {
    let api = fixture().await;
    let basic = |text: &str| {
        format!(
            r#"{{"resourceType":"Basic",{text}"code":{{"coding":[{{"system":"http://loinc.org","code":"1-8"}}]}}}}"#
        )
    };
    let made = api
        .write(Method::POST, "/fhir/Basic", &[], &basic(""))
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/fhir/Basic/{id}");
    for writes in [false, true] {
        api.commit(100 + u32::from(writes)).await;
        let head = api.store.head().await.unwrap();
        let told = match writes {
            false => api.get_as("other", &path).await,
            true => {
                let same = Request::put(&path)
                    .header("authorization", "Bearer only:Basic")
                    .header("content-type", FHIR_JSON);
                let body = basic(&format!(r#""id":"{id}","#));
                api.send(same.body(Body::from(body)).unwrap()).await
            }
        };
        assert_eq!(told.status, StatusCode::OK, "{}", told.text);
        let expected = crate::axis::instant(head, 1);
        assert_eq!(told.json()["meta"]["lastUpdated"], expected);
    }
}

//! Who is a second person.
use super::*;

#[tokio::test]
async fn another_file_of_the_same_key_is_no_second_person() {
    let world = World::new().await;
    let [own, other] = [(); 2].map(|()| federation::pki::new_client_key().unwrap().public_pem);
    let copy = format!("of the ward\n{}", own.replace('\n', "\r\n"));
    let client = |(name, pem): (&str, &str)| {
        let public_key = world.dir.path().join(format!("{name}.of-another.pem"));
        std::fs::write(&public_key, pem).unwrap();
        ClientConfig {
            client_id: name.into(),
            kid: name.into(),
            public_key,
            scope: String::new(),
        }
    };
    let clients = [("one", &own), ("copy", &copy), ("two", &other)];
    let clients = clients.map(|(name, pem)| client((name, pem.as_str())));
    let parts = Parts {
        ledger: world.control.ledger.clone(),
        registry: world.registry.clone(),
        key: SigningKey::from_bytes(&[7; 32]),
        certificate: world.dir.path().join("unread.pem"),
        clients: &clients,
        draw: rand::random,
    };
    let control = Control::open(parts).await.unwrap();
    assert!(control.own.is_same_person("one", "copy"));
    assert!(!control.own.is_same_person("one", "two"));
}

//! An MQTT 5 device that is not ours to simulate: it publishes and remembers what was acknowledged.
use anyhow::{Context, Result, anyhow, bail};
use rumqttc::v5::{
    AsyncClient, Event, EventLoop, MqttOptions,
    mqttbytes::{QoS, v5::Packet},
};
use rumqttc::{TlsConfiguration, Transport};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::Value;
use std::{path::Path, sync::Arc, time::Duration};

/// A connected device.
pub struct Device {
    options: MqttOptions,
    client: AsyncClient,
    events: EventLoop,
    /// `devices/{region}/{facility}/{device}`.
    pub topic: String,
}

impl Device {
    /// Packets that wait to be sent; one is sent at a time.
    const QUEUE: usize = 64;

    /// Connects as the facility's device of kind `external`.
    ///
    /// # Errors
    /// As [`Device::connect`].
    pub async fn external(mesh: &Value, facility: &str) -> Result<Self> {
        let facility = crate::mesh::facility_of(mesh, facility)?;
        let all = facility["devices"].as_array().into_iter().flatten();
        let mut external = all.filter(|device| device["kind"] == "external");
        let device = external.next().context("no external device")?;
        Self::connect(mesh, facility, device).await
    }

    /// Connects as a device of `mesh.json`.
    ///
    /// # Errors
    /// The certificate cannot be read, or the broker refuses.
    pub async fn connect(mesh: &Value, facility: &Value, device: &Value) -> Result<Self> {
        let text = |value: &Value| {
            value
                .as_str()
                .map(str::to_owned)
                .ok_or_else(|| anyhow!("missing in mesh.json"))
        };
        let id = text(&device["id"])?;
        let address = text(&facility["mqtt"])?;
        let (_, port) = address.rsplit_once(':').context("mqtt has no port")?;
        let mut options = MqttOptions::new(&id, "localhost", port.parse()?);
        options.set_keep_alive(Duration::from_secs(30));
        let tls = tls(
            &text(&mesh["ca"])?,
            &text(&device["cert"])?,
            &text(&device["key"])?,
        )?;
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(tls)));
        let (client, events) = AsyncClient::new(options.clone(), Self::QUEUE);
        let topic = format!(
            "devices/{}/{}/{id}",
            text(&facility["region"])?,
            text(&facility["id"])?
        );
        let mut device = Self {
            options,
            client,
            events,
            topic,
        };
        device
            .expect(|packet| matches!(packet, Packet::ConnAck(_)).then_some(()))
            .await?;
        Ok(device)
    }

    /// Publishes QoS 1 on the telemetry topic and waits for the acknowledgement.
    ///
    /// # Errors
    /// The connection broke or the broker refused: nothing is known of the message but that. A broken connection is
    /// forgotten with what was under way on it, and the next message makes another one.
    pub async fn publish(&mut self, message: &Value) -> Result<()> {
        self.publish_on("telemetry", message).await
    }

    /// Publishes QoS 1 on one of the device's topics (`telemetry`, `alarm`) and waits for the acknowledgement.
    ///
    /// # Errors
    /// As [`Device::publish`].
    pub async fn publish_on(&mut self, leaf: &str, message: &Value) -> Result<()> {
        let topic = format!("{}/{leaf}", self.topic);
        self.client
            .publish(topic, QoS::AtLeastOnce, false, message.to_string())
            .await?;
        let acknowledged = self
            .expect(|packet| match packet {
                Packet::PubAck(ack) => Some(ack.reason),
                _ => None,
            })
            .await;
        if acknowledged.is_err() {
            (self.client, self.events) = AsyncClient::new(self.options.clone(), Self::QUEUE);
        }
        match acknowledged? {
            rumqttc::v5::mqttbytes::v5::PubAckReason::Success
            | rumqttc::v5::mqttbytes::v5::PubAckReason::NoMatchingSubscribers => Ok(()),
            refused => bail!("refused: {refused:?}"),
        }
    }

    /// Subscribes to one of the device's topics.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn subscribe(&mut self, leaf: &str) -> Result<()> {
        let topic = format!("{}/{leaf}", self.topic);
        self.client.subscribe(topic, QoS::AtLeastOnce).await?;
        self.expect(|packet| matches!(packet, Packet::SubAck(_)).then_some(()))
            .await
    }

    /// Waits for a message on what was subscribed to.
    ///
    /// # Errors
    /// The connection broke, or nothing came in time, or it is no JSON.
    pub async fn hear(&mut self) -> Result<Value> {
        let message = self
            .expect(|packet| match packet {
                Packet::Publish(message) => Some(message.payload.clone()),
                _ => None,
            })
            .await?;
        Ok(serde_json::from_slice(&message)?)
    }

    async fn expect<T>(&mut self, mut wanted: impl FnMut(&Packet) -> Option<T>) -> Result<T> {
        let look = async {
            loop {
                if let Event::Incoming(packet) = self.events.poll().await?
                    && let Some(found) = wanted(&packet)
                {
                    return anyhow::Ok(found);
                }
            }
        };
        tokio::time::timeout(crate::wait::PATIENCE, look).await?
    }
}

fn tls(ca: &str, cert: &str, key: &str) -> Result<Arc<ClientConfig>> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let pem = |path: &str| -> Result<Vec<CertificateDer<'static>>> {
        CertificateDer::pem_file_iter(Path::new(path))
            .and_then(Iterator::collect)
            .map_err(|e| anyhow!("{path}: {e:?}"))
    };
    let mut roots = RootCertStore::empty();
    for root in pem(ca)? {
        roots.add(root)?;
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| anyhow!("{key}: {e:?}"))?;
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(pem(cert)?, key)?;
    Ok(Arc::new(config))
}

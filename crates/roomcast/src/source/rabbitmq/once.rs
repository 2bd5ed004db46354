//! One message over a connection of its own, for the command line: connect, publish, wait for the confirm, close. Declares nothing.

use std::time::Duration;

use anyhow::{Context, bail};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties};

use super::publish::PERSISTENT;
use super::settings::{Settings, name};

/// How long it may take altogether.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Publishes a persistent message as a service would. Returns whether a queue took it.
///
/// # Errors
/// The broker is away or says no, or its confirm does not come in 10 s.
pub async fn publish_once(settings: &Settings, exchange: Option<&str>, key: &str, body: &[u8]) -> anyhow::Result<bool> {
    let published = tokio::time::timeout(TIMEOUT, publish(settings, exchange, key, body)).await;
    published.with_context(|| format!("RabbitMQ at {} did not answer in {TIMEOUT:?}", settings.broker()))?
}

async fn publish(settings: &Settings, exchange: Option<&str>, key: &str, body: &[u8]) -> anyhow::Result<bool> {
    let exchange = match exchange {
        Some(other) => name("exchange", other)?,
        None => settings.exchange.clone(),
    };
    let properties = ConnectionProperties::default().with_connection_name("roomcast publish".into());
    let connection = Connection::connect_uri(settings.uri.clone(), properties).await;
    let connection = connection.with_context(|| format!("cannot connect to RabbitMQ at {}", settings.broker()))?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties =
        BasicProperties::default().with_content_type("application/json".into()).with_delivery_mode(PERSISTENT);
    let sent = channel.basic_publish(exchange.clone(), name("key", key)?, options, body, properties).await?;
    let confirmation = sent.await.with_context(|| format!("RabbitMQ does not take messages for {exchange}"))?;
    // What became of the message is known; how the connection ends changes nothing.
    let _ = connection.close(200, "done".into()).await;
    match confirmation {
        Confirmation::Ack(None) => Ok(true),
        Confirmation::Ack(Some(_)) => Ok(false),
        Confirmation::Nack(_) | Confirmation::NotRequested => bail!("RabbitMQ refused the message"),
    }
}

//! TLS below AMQP: what to trust, which certificate to send, and the meaning of errors.

use std::io;

use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};
use tokio::task::spawn_blocking;

use super::fault::Fault;

/// What TLS trusts and sends; certificates and keys are in DER.
#[derive(Clone)]
pub struct Tls {
    /// The only authorities that the broker's certificate may come from; `None` means the system's.
    pub authorities: Option<Vec<Vec<u8>>>,
    /// Our own certificate.
    pub identity: Option<Identity>,
}

/// A certificate and its private key.
#[derive(Clone)]
pub struct Identity {
    /// Our certificate first, then the intermediate ones.
    pub chain: Vec<Vec<u8>>,
    /// The private key; never printed.
    pub key: Vec<u8>,
}

/// The data for the handshakes of one session. Reading the system's authorities takes some milliseconds of disk time,
/// so it happens in a thread that may block.
pub(super) async fn connector(tls: Tls) -> Result<RustlsConnector, Fault> {
    let built = spawn_blocking(move || built(tls)).await;
    built.unwrap_or_else(|error| Err(Fault::Tls(error.to_string())))
}

fn built(tls: Tls) -> Result<RustlsConnector, Fault> {
    let unusable = |what: &str, error: io::Error| Fault::Tls(format!("{what}: {error}"));
    let config = match tls.authorities {
        Some(authorities) => RustlsConnectorConfig::default()
            .with_parsable_certificates(authorities.into_iter().map(Into::into).collect()),
        None => RustlsConnectorConfig::new_with_native_certs().map_err(|error| {
            unusable("cannot read the CA certificates of the system, install ca-certificates or set ca_file", error)
        })?,
    };
    let Some(Identity { chain, key }) = tls.identity else {
        return config.connector_with_no_client_auth().map_err(|error| unusable("cannot use ca_file", error));
    };
    let key = key.try_into().map_err(|error| Fault::Tls(format!("cannot use client_key: {error}")))?;
    config
        .connector_with_single_cert(chain.into_iter().map(Into::into).collect(), key)
        .map_err(|error| unusable("cannot use ca_file, client_cert and client_key together", error))
}

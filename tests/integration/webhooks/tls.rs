//! A receiver with a certificate of an authority of its own, by HTTP/2.

use std::convert::Infallible;
use std::sync::Arc;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response, Version, body};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::{HOOKS, hook};
use crate::harness::{ALICE, Bench};

/// Serves HTTP/2 on loopback with a certificate for `localhost`; its port, the authority as PEM, and the versions of the requests.
async fn serve() -> (u16, String, mpsc::UnboundedReceiver<Version>) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = config.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let (port, (sender, versions)) = (listener.local_addr().unwrap().port(), mpsc::unbounded_channel());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, sender) = (acceptor.clone(), sender.clone());
            tokio::spawn(async move {
                let stream = TokioIo::new(acceptor.accept(stream).await.ok()?);
                let answer = service_fn(move |request: Request<body::Incoming>| {
                    let _ = sender.send(request.version());
                    async { Ok::<_, Infallible>(Response::new(String::from("ok"))) }
                });
                http2::Builder::new(TokioExecutor::new()).serve_connection(stream, answer).await.ok()
            });
        }
    });
    (port, authority.pem(), versions)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_of_ones_own_is_trusted_when_it_is_named_and_http2_is_used() {
    let (port, authority, mut versions) = serve().await;
    let mut bench = Bench::with(|config| config.fetch_allow = "localhost".parse().unwrap()).await;
    bench.link("alice", ALICE).await;
    let id = hook(&bench, HOOKS, json!({ "url": format!("https://localhost:{port}/") })).await;
    let test = format!("{HOOKS}/{id}/test");
    let refused = bench.post(&test, json!({})).await.body;
    assert_eq!(refused["success"], false, "{refused}");
    let error = refused["error"].as_str().unwrap();
    assert!(error.contains("TLS") && error.contains("--webhook-ca-file"), "{error}");

    let file = bench.data_dir().parent().unwrap().join("authority.pem");
    std::fs::write(&file, authority).unwrap();
    bench.restart_with(|config| config.webhook_ca_file = Some(file)).await;
    let tried = bench.post(&test, json!({})).await;
    assert_eq!(tried.body, json!({ "success": true, "statusCode": 200 }));
    assert_eq!(versions.recv().await, Some(Version::HTTP_2));
}

//! The ways to WhatsApp: from this machine, or through a session's proxy. All that a session's connections need of its
//! way is made here, so that none goes past its proxy.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio_rustls::TlsConnector;

use super::connect::Connect;
use super::connect_throttle::ConnectThrottle;
use super::direct::Direct;
use super::http::SessionHttp;
use super::proxied::Proxied;
use crate::tls_config;
use rookery_model::Proxy;

/// One session's way to WhatsApp.
pub(crate) struct Way {
    pub(crate) connect: Arc<dyn Connect>,
    pub(crate) http: SessionHttp,
    pub(crate) throttle: Arc<ConnectThrottle>,
}

/// All ways of a daemon.
pub(crate) struct Ways {
    direct: Arc<Direct>,
    http: SessionHttp,
    throttle: Arc<ConnectThrottle>,
    /// Connects to the proxies themselves: their names are looked up beside WhatsApp's.
    to_proxies: Arc<Direct>,
    tls: rustls::ClientConfig,
    /// The throttles of the proxies in use, by name and port: one proxy has many names of users.
    throttles: Mutex<HashMap<String, Weak<ConnectThrottle>>>,
}

impl Ways {
    /// # Errors
    /// TLS cannot be used.
    pub(crate) fn new(per_second: NonZeroU32, at_once: usize) -> Result<Self, rustls::Error> {
        let tls = tls_config()?;
        Ok(Self {
            direct: Arc::new(Direct::to_whatsapp()),
            http: SessionHttp::new(tls.clone(), None),
            throttle: Arc::new(ConnectThrottle::new(per_second, at_once)),
            to_proxies: Arc::new(Direct::to_proxies()),
            tls,
            throttles: Mutex::default(),
        })
    }

    /// The way of a session with this proxy, or without one.
    ///
    /// # Errors
    /// The proxy cannot be spoken to over TLS.
    pub(crate) fn of(&self, proxy: Option<Arc<Proxy>>) -> anyhow::Result<Way> {
        let Some(proxy) = proxy else {
            let (connect, http, throttle) = (self.direct.clone(), self.http.clone(), self.throttle.clone());
            return Ok(Way { connect, http, throttle });
        };
        let tls = TlsConnector::from(Arc::new(self.tls.clone()));
        Ok(Way {
            throttle: self.throttle_of(&proxy),
            http: SessionHttp::new(self.tls.clone(), Some(proxy.clone())),
            connect: Arc::new(Proxied::new(proxy, self.to_proxies.clone(), &tls)?),
        })
    }

    fn throttle_of(&self, proxy: &Proxy) -> Arc<ConnectThrottle> {
        let mut throttles = self.throttles.lock().unwrap_or_else(PoisonError::into_inner);
        let name = proxy.authority();
        if let Some(throttle) = throttles.get(&name).and_then(Weak::upgrade) {
            return throttle;
        }
        throttles.retain(|_, throttle| throttle.strong_count() > 0);
        let throttle = Arc::new(self.throttle.of_proxy());
        throttles.insert(name, Arc::downgrade(&throttle));
        throttle
    }
}

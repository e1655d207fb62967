//! Fetches over real sockets on loopback, which only the allow-list makes possible.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const BYTES_MAX: usize = 1000;

/// A server on loopback that gives one answer to everything. `PORT` in it is its own port.
async fn serve(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.replace("PORT", &port.to_string()).as_bytes()).await;
            if answer.contains("STAY") {
                // Held open until the client goes.
                let _ = stream.read(&mut request).await;
            }
        }
    });
    port
}

fn fetcher(allowed: &str) -> Fetcher {
    Fetcher::new(Guard::new(allowed.parse().unwrap())).unwrap()
}

async fn fetch(answer: &'static str) -> Result<Bytes, FetchError> {
    let port = serve(answer).await;
    let fetcher = Fetcher { time_max: Duration::from_millis(500), ..fetcher(&format!("127.0.0.1:{port}")) };
    fetcher.fetch(&format!("http://127.0.0.1:{port}/picture?token=secret"), BYTES_MAX).await
}

#[tokio::test]
async fn what_is_allowed_is_read() {
    let read = fetch("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(read, Ok(Bytes::from_static(b"hello")));
}

#[tokio::test]
async fn a_host_is_reached_at_the_addresses_that_were_looked_at() {
    let port = serve("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
    let read = fetcher(&format!("localhost:{port}")).fetch(&format!("http://localhost:{port}/"), BYTES_MAX).await;
    assert_eq!(read, Ok(Bytes::from_static(b"hi")));
}

#[tokio::test]
async fn what_leads_to_this_machine_or_its_network_is_refused() {
    let port = serve("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
    let allowed = fetcher("other.example.com");
    let urls = "\
        http://127.0.0.1:PORT/ http://127.1:PORT/ http://0x7f000001:PORT/ http://2130706433:PORT/ \
        http://017700000001:PORT/ http://[::1]:PORT/ http://[::ffff:127.0.0.1]:PORT/ http://0.0.0.0:PORT/ \
        http://169.254.169.254/ https://10.0.0.1/ http://\u{ff11}27.0.0.1:PORT/";
    for url in urls.split_whitespace() {
        let url = url.replace("PORT", &port.to_string());
        let refused = allowed.fetch(&url, BYTES_MAX).await;
        assert!(matches!(refused, Err(FetchError::NotPublic(_))), "{url}: {refused:?}");
    }
}

#[tokio::test]
async fn what_is_no_plain_web_address_is_refused() {
    let long = format!("http://example.com/{}", "x".repeat(URL_CHARS_MAX));
    let cases = [
        ("", FetchError::NotHttp),
        ("picture.png", FetchError::NotHttp),
        ("file:///etc/passwd", FetchError::NotHttp),
        ("ftp://example.com/", FetchError::NotHttp),
        ("data:image/png;base64,AA==", FetchError::NotHttp),
        (&long, FetchError::NotHttp),
        ("http://alice@example.com/", FetchError::Credentials),
        ("http://:secret@example.com/", FetchError::Credentials),
    ];
    for (url, expected) in cases {
        assert_eq!(fetcher("a").fetch(url, BYTES_MAX).await, Err(expected), "{url}");
    }
}

#[tokio::test]
async fn names_of_our_own_network_are_refused_with_the_words_for_unknown_ones() {
    let port = serve("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
    let fetcher = fetcher("other.example.com");
    for (host, written) in [
        ("does-not-exist.invalid", "does-not-exist.invalid"),
        ("localhost", "localhost"),
        ("LocalHost.", "localhost."),
        ("app.localhost", "app.localhost"),
        ("metadata.google.internal", "metadata.google.internal"),
        ("db.internal", "db.internal"),
        ("printer.local", "printer.local"),
    ] {
        let refused = fetcher.fetch(&format!("http://{host}:{port}/"), BYTES_MAX).await;
        assert_eq!(refused, Err(FetchError::NotFound(written.into())), "{host}");
    }
}

#[tokio::test]
async fn each_redirect_is_checked_anew() {
    // To another port of the same machine, which is not the one that is allowed.
    let elsewhere = fetch("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(elsewhere, Err(FetchError::NotPublic("127.0.0.1".into())));
    let metadata = fetch("HTTP/1.1 307 T\r\nLocation: http://169.254.169.254/x\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(metadata, Err(FetchError::NotPublic("169.254.169.254".into())));
    let file = fetch("HTTP/1.1 301 M\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(file, Err(FetchError::NotHttp));
    let credentials = fetch("HTTP/1.1 301 M\r\nLocation: //a:b@127.0.0.1:PORT/\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(credentials, Err(FetchError::Credentials));
    let nowhere = fetch("HTTP/1.1 303 S\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(nowhere, Err(FetchError::BadRedirect));
    let round = fetch("HTTP/1.1 308 P\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(round, Err(FetchError::Redirects));
}

#[tokio::test]
async fn a_redirect_within_what_is_allowed_is_followed() {
    let last = serve("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let first = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        let answer = format!("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{last}/\r\nContent-Length: 0\r\n\r\n");
        let _ = stream.write_all(answer.as_bytes()).await;
    });
    let read = fetcher("127.0.0.1").fetch(&format!("http://127.0.0.1:{first}/"), BYTES_MAX).await;
    assert_eq!(read, Ok(Bytes::from_static(b"last")));
}

#[tokio::test]
async fn an_answer_that_is_too_large_too_slow_or_no_answer_is_not_read() {
    let too_large = Err(FetchError::TooLarge { bytes_max: BYTES_MAX });
    let too_slow = Err(FetchError::TooSlow(Duration::from_millis(500)));
    let endless = concat!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", "STAY");
    assert_eq!(fetch("HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\nx").await, too_large.clone(), "as announced");
    let unannounced: &'static str =
        Box::leak(format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", "x".repeat(1001)).into_boxed_str());
    assert_eq!(fetch(unannounced).await, too_large);
    assert_eq!(fetch("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nSTAY").await, too_slow.clone());
    assert!(matches!(fetch(endless).await, Err(FetchError::Broken(_))), "`STAY` is no chunk");
    assert_eq!(fetch("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await, Err(FetchError::Status(404)));
    assert_eq!(fetch("HTTP/1.1 204 No Content\r\n\r\n").await, Err(FetchError::Status(204)));
    assert_eq!(fetch("nonsense\r\n\r\n").await, Err(FetchError::Broken("127.0.0.1".into())));
    let cut = fetch("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe").await;
    assert_eq!(cut, Err(FetchError::Broken("127.0.0.1".into())));
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_said_to_be_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://127.0.0.1:{}/?token=secret", listener.local_addr().unwrap().port());
    drop(listener);
    let error = fetcher("127.0.0.1").fetch(&url, BYTES_MAX).await.unwrap_err();
    assert_eq!(error, FetchError::Unreachable("127.0.0.1".into()));
    assert!(!error.to_string().contains("secret"));
}

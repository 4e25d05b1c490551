//! axum with tokio's broadcast channel: one task and one `Receiver` per client, and one message that
//! all of them share. This is axum's chat example, reduced to the broadcast.
//!
//!     peer threads|thread [CERT KEY]
//!
//! threads: tokio's default, one per core; thread: a single one.

use std::env;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;
use axum::serve::ListenerExt;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::broadcast::{Sender, channel, error::RecvError};

/// How many messages a client may be behind before it misses some.
const CAPACITY: usize = 1024;

async fn upgrade(State(messages): State<Sender<Utf8Bytes>>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(move |socket| serve(socket, messages))
}

async fn serve(mut socket: WebSocket, messages: Sender<Utf8Bytes>) {
    let mut receiver = messages.subscribe();
    drop(messages);
    let ready = Message::Text(Utf8Bytes::from_static(r#"{"type":"subscribed"}"#));
    if socket.send(ready).await.is_err() {
        return;
    }
    loop {
        tokio::select! {
            message = receiver.recv() => match message {
                Ok(text) => if socket.send(Message::Text(text)).await.is_err() { return },
                // The load generator detects and reports the gap.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            received = socket.recv() => if !matches!(received, Some(Ok(_))) { return },
        }
    }
}

async fn feed(listener: TcpListener, messages: Sender<Utf8Bytes>) {
    while let Ok((connection, _)) = listener.accept().await {
        let mut lines = BufReader::new(connection).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            // An error means that there are no clients.
            let _ = messages.send(line.into());
        }
    }
}

async fn run(files: &[String]) {
    let (messages, _) = channel(CAPACITY);
    let application = Router::new()
        .route("/{*path}", any(upgrade))
        .with_state(messages.clone())
        .into_make_service();
    let any_port: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let clients = std::net::TcpListener::bind(any_port).unwrap();
    clients.set_nonblocking(true).unwrap();
    let feeder = TcpListener::bind(any_port).await.unwrap();
    println!(
        r#"{{"port":{},"feed":{}}}"#,
        clients.local_addr().unwrap().port(),
        feeder.local_addr().unwrap().port()
    );
    tokio::spawn(feed(feeder, messages));
    // Neither listener sets TCP_NODELAY by default. Without it the kernel holds messages back and joins
    // them (Nagle): cheaper, much later, and not how the other peers are measured.
    if let [cert, key] = files {
        let tls = RustlsConfig::from_pem_file(cert, key).await.unwrap();
        axum_server::from_tcp(clients)
            .unwrap()
            .acceptor(RustlsAcceptor::new(tls).acceptor(NoDelayAcceptor::new()))
            .serve(application)
            .await
            .unwrap();
    } else {
        let clients = TcpListener::from_std(clients).unwrap();
        let clients = clients.tap_io(|stream| stream.set_nodelay(true).unwrap());
        axum::serve(clients, application).await.unwrap();
    }
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (threads, files) = arguments.split_first().expect("threads or thread");
    let mut runtime = match threads.as_str() {
        "threads" => Builder::new_multi_thread(),
        "thread" => Builder::new_current_thread(),
        other => panic!("unknown argument: {other}"),
    };
    runtime.enable_all().build().unwrap().block_on(run(files));
}

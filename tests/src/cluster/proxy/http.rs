//! HTTP/1.1 through the proxy, one request after the other as on any connection of that protocol.
//!
//! Heads, the bearer token among them, pass as they are; bodies pass while they come, so watches work. Upgrades (exec,
//! port-forward) do not.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::fault::Verdict;
use super::tls::Terminator;

/// How long the bytes before a cut have for getting on their way; an error at once would throw them away.
const FLUSH: Duration = Duration::from_millis(10);

type Error = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, Error>;

/// Serves one connection of a client with one connection to the API server, until either ends. `judge` is asked once a request,
/// with whether it writes.
pub(super) async fn serve(
    client: impl AsyncRead + AsyncWrite + Unpin,
    target: SocketAddr,
    tls: &Terminator,
    judge: impl Fn(bool) -> Verdict,
) -> Result<()> {
    let client = tls.accept(client).await?;
    let server = TcpStream::connect(target).await.context("no connection to the server")?;
    server.set_nodelay(true).ok();
    let server = TokioIo::new(tls.connect(server).await?);
    let (sender, connection) = hyper::client::conn::http1::handshake(server).await?;
    let sender = Mutex::new(sender);
    let service = service_fn(|request| answer(request, &sender, &judge));
    let http = hyper::server::conn::http1::Builder::new();
    let mut serving = pin!(http.serve_connection(TokioIo::new(client), service));
    tokio::select! {
        ended = serving.as_mut() => return ended.context("the client's connection broke"),
        // The server has ended it. Its last response may still be on its way to the client.
        _ = connection => {}
    }
    serving.as_mut().graceful_shutdown();
    serving.await.context("the client's connection broke")
}

/// The server's response or the proxy's own. An error closes the client's connection without a response.
async fn answer(
    request: Request<Incoming>,
    sender: &Mutex<SendRequest<Incoming>>,
    judge: &impl Fn(bool) -> Verdict,
) -> Result<Response<Body>, Error> {
    let writes = ![Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
    match judge(writes) {
        Verdict::Answer { status, retry_after } => {
            // Read to its end, or the connection could not be used again.
            request.into_body().collect().await?;
            refusal(status, retry_after)
        }
        Verdict::Pass => {
            Ok(forward(request, sender).await?.map(|body| body.map_err(Into::into).boxed_unsync()))
        }
        Verdict::Cut { after } => Ok(forward(request, sender).await?.map(|body| cut(body, after))),
    }
}

async fn forward(
    request: Request<Incoming>,
    sender: &Mutex<SendRequest<Incoming>>,
) -> hyper::Result<Response<Incoming>> {
    let mut sender = sender.lock().await;
    sender.ready().await?;
    sender.send_request(request).await
}

/// An error as the API server words it, see
/// <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/>.
fn refusal(status: u16, retry_after: Option<Duration>) -> Result<Response<Body>, Error> {
    let status = StatusCode::from_u16(status).ok();
    let status = status
        .filter(|status| status.is_client_error() || status.is_server_error())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let seconds = retry_after.map(|wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
    let mut object = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": format!("{} by the fault proxy", status.canonical_reason().unwrap_or("Refused")),
        "reason": reason(status),
        "code": status.as_u16(),
    });
    let mut response = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
    if let Some(seconds) = seconds {
        object["details"] = json!({"retryAfterSeconds": seconds});
        response = response.header(header::RETRY_AFTER, seconds);
    }
    let body = Full::new(Bytes::from(object.to_string()));
    Ok(response.body(body.map_err(|never| match never {}).boxed_unsync())?)
}

/// The `StatusReason` that goes with a code; `Expired` rather than `Gone`, as that is what watches end with.
fn reason(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "BadRequest",
        StatusCode::UNAUTHORIZED => "Unauthorized",
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::CONFLICT => "Conflict",
        StatusCode::GONE => "Expired",
        StatusCode::PAYLOAD_TOO_LARGE => "RequestEntityTooLarge",
        StatusCode::UNPROCESSABLE_ENTITY => "Invalid",
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        StatusCode::INTERNAL_SERVER_ERROR => "InternalError",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
        StatusCode::GATEWAY_TIMEOUT => "Timeout",
        _ => "",
    }
}

/// The first bytes of a body and then an error, upon which the connection is closed.
fn cut(body: Incoming, after: usize) -> Body {
    let frames = stream::try_unfold((body, after, false), |(mut body, left, ends)| async move {
        if ends {
            tokio::time::sleep(FLUSH).await;
            return Err(Error::from("cut by the fault proxy"));
        }
        let Some(frame) = body.frame().await else { return Ok(None) };
        let mut data = match frame?.into_data() {
            Ok(data) => data,
            Err(trailers) => return Ok(Some((trailers, (body, left, false)))),
        };
        let ends = data.len() > left;
        data.truncate(left);
        let left = left - data.len();
        Ok(Some((Frame::data(data), (body, left, ends))))
    });
    StreamBody::new(frames).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(status: u16, retry_after: Option<Duration>) -> (Response<()>, serde_json::Value) {
        let (head, body) = refusal(status, retry_after).unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (Response::from_parts(head, ()), serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn refusals_are_of_kubernetes() {
        for (code, reason) in [
            (409, "Conflict"),
            (410, "Expired"),
            (429, "TooManyRequests"),
            (500, "InternalError"),
            (503, "ServiceUnavailable"),
        ] {
            let (head, body) = read(code, None).await;
            assert_eq!(head.status(), code);
            assert!(!head.headers().contains_key(header::RETRY_AFTER));
            let status: kube::core::Status = serde_json::from_value(body).unwrap();
            assert!(status.is_failure() && status.code == code && status.reason == reason, "{status:?}");
        }
        let (head, body) = read(429, Some(Duration::from_millis(1500))).await;
        assert_eq!(head.headers()[header::RETRY_AFTER], "2");
        assert_eq!(body["details"]["retryAfterSeconds"], 2);
        for code in [0, 99, 200, 304, 600, 1000] {
            assert_eq!(read(code, None).await.0.status(), 500, "{code} is no error");
        }
    }
}

//! Programs as they are, over IPv4 and IPv6, through two captured sidecars; mutual TLS and nothing else on the wire.

use crate::{
    ECHO, GRPC, HTTP, MARIADB, MQTT, POSTGRES, Pods, REDIS, SMTP, SSH, TLS, V4, V6, WEBSOCKET, peer,
    wire::{Tap, tls13_only},
};
use std::path::Path;
use weir_tests::{eventually, peers, pods::Pod, process::Process};

/// `host:port`, as URIs have it.
fn at(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[tokio::test]
async fn every_program_over_ipv4() {
    every_program(false).await;
}

#[tokio::test]
async fn every_program_over_ipv6() {
    every_program(true).await;
}

/// `v6`: also between the sidecars.
async fn every_program(v6: bool) {
    let (Some(curl), Some(tcpdump)) = (peers::find("curl"), peers::find("tcpdump")) else { return };
    let Some(mut pods) = Pods::start(v6, "").await else { return };
    start_applications(&mut pods).await;
    let tap = Tap::start(&tcpdump, pods.mesh.folder.path()).await;
    let host = if v6 { V6 } else { V4 };
    http(&pods, &curl, host).await;
    grpc_and_websockets(&pods, host).await;
    databases(&pods, host).await;
    broker(&pods, host).await;
    shell(&pods, host).await;
    let mail = pods.plain(&["greeted", host, &SMTP.to_string(), "1"]).await;
    assert!(mail.trim().parse::<f64>().is_ok(), "{mail}");
    assert_eq!(pods.plain(&["half", host, &ECHO.to_string()]).await.trim(), "all came back");
    told(&pods).await;
    let (client, server) = if v6 { (pods.client.v6, pods.server.v6) } else { (pods.client.v4, pods.server.v4) };
    // Long enough not to be in megabytes of noise by chance.
    let words = ["scratchless", "HTTP/1.1", "220 scratchless", "SELECT", "+PONG\r\n"];
    tls13_only(&tap.stop().await, client, server, &words);
}

async fn http(pods: &Pods, curl: &Path, host: &str) {
    let uri = format!("http://{}/a%20path?q=1", at(host, HTTP));
    let said = pods.call(curl, &["-gsSf", &uri]).await;
    assert_eq!(said, "GET /a%20path?q=1 scratchless\n");
    // A method that nobody knows, a Host that means nothing here, and two requests on one connection.
    let said = pods.call(curl, &["-gsSf", "-X", "FETCH", "-H", "Host: other.example", &uri, &uri]).await;
    assert_eq!(said, "FETCH /a%20path?q=1 scratchless\n".repeat(2));
    // The application's own TLS, passed on as it is: its certificate is the application's.
    let name = format!("secret.scratchless.example:{TLS}");
    let resolve = format!("{name}:{}", if host.contains(':') { format!("[{host}]") } else { host.into() });
    let said = pods.call(curl, &["-gksSv", "--resolve", &resolve, &format!("https://{name}/")]).await;
    assert!(said.contains("CN=the application itself") || said.contains("CN = the application itself"), "{said}");
}

async fn grpc_and_websockets(pods: &Pods, host: &str) {
    let said = pods.call(&pods.python, &[&peer("grpc_peer.py"), "client", &at(host, GRPC)]).await;
    assert!(said.contains("all calls passed"), "{said}");
    let said = pods.call(&pods.python, &[&peer("websocket_peer.py"), "client", &at(host, WEBSOCKET)]).await;
    assert!(said.contains("all messages came back"), "{said}");
}

async fn databases(pods: &Pods, host: &str) {
    if let Some(psql) = peers::find("psql") {
        let ask = "SELECT 'scratch' || 'less', count(*) FROM generate_series(1, 100000)";
        let (port, to) = (POSTGRES.to_string(), format!("host={host} port={POSTGRES} user=postgres dbname=postgres"));
        let said = pods.call(psql, &["-tA", &to, "-c", ask]).await;
        assert_eq!(said.trim(), "scratchless|100000", "port {port}");
    }
    if let (Some(_), Some(mariadb)) = (peers::find("mariadbd"), peers::find("mariadb")) {
        rows(pods, &mariadb, host).await;
    }
    if let Some(redis) = peers::find("redis-cli") {
        let port = REDIS.to_string();
        let said = pods.call(&redis, &["-h", host, "-p", &port, "set", "key", "scratchless"]).await;
        assert_eq!(said.trim(), "OK");
        assert_eq!(pods.call(&redis, &["-h", host, "-p", &port, "get", "key"]).await.trim(), "scratchless");
        // In words, as by hand: a line that begins like a request and is none.
        assert_eq!(pods.plain(&["first", host, &port, "GET key\r\n"]).await.trim(), "$11\r\nscratchless");
    }
}

/// The server greets, the client says who it is; then rows, there and back.
async fn rows(pods: &Pods, mariadb: &Path, host: &str) {
    let port = MARIADB.to_string();
    let usual = ["--no-defaults", "-h", host, "-P", &port, "-u", "root", "-N", "-B", "-e"];
    let ask = async |sql: &str| pods.call(mariadb, &[&usual[..], &[sql]].concat()).await;
    assert_eq!(ask("SELECT CONCAT('scratch', 'less'), 6 * 7").await.trim(), "scratchless\t42");
    let values: Vec<_> = (1..=4000).map(|n| format!("({n}, 'scratchless {n}')")).collect();
    let fill = format!(
        "CREATE DATABASE mesh; CREATE TABLE mesh.rows_of (n INT PRIMARY KEY, said VARCHAR(99)); \
         INSERT INTO mesh.rows_of VALUES {}",
        values.join(", ")
    );
    ask(&fill).await;
    let all: String = (1..=4000).map(|n| format!("{n}\tscratchless {n}\n")).collect();
    assert!(ask("SELECT n, said FROM mesh.rows_of ORDER BY n").await == all, "not the rows that were written");
}

/// A message that is kept for who comes later, and half a megabyte.
async fn broker(pods: &Pods, host: &str) {
    let (Some(_), Some(publish), Some(subscribe)) =
        (peers::find("mosquitto"), peers::find("mosquitto_pub"), peers::find("mosquitto_sub"))
    else {
        return;
    };
    let port = MQTT.to_string();
    let with = |more: &[&'static str]| [&["-h", host, "-p", &port, "-q", "1"][..], more].concat();
    pods.call(&publish, &with(&["-t", "kept", "-r", "-m", "scratchless"])).await;
    let said = pods.call(&subscribe, &with(&["-t", "kept", "-C", "1", "-W", "20"])).await;
    assert_eq!(said.trim(), "scratchless");
    let long = "scratchless ".repeat(40_000);
    let file = pods.mesh.folder.path().join("message");
    std::fs::write(&file, &long).expect("a file");
    let says = [with(&["-t", "long", "-r", "-f"]), vec![file.to_str().expect("a name")]].concat();
    // Who comes late hears what was kept; who is there hears it at once.
    let listens = with(&["-t", "long", "-C", "1", "-W", "20"]);
    let (said, _) = tokio::join!(pods.call(&subscribe, &listens), pods.call(&publish, &says));
    assert!(said.trim_end() == long.trim_end(), "{} bytes of {}", said.len(), long.len());
}

/// The server greets, then both shake hands: the client is shown the key that the server has.
async fn shell(pods: &Pods, host: &str) {
    if let (Some(_), Some(scan)) = (peers::find("sshd"), peers::find("ssh-keyscan")) {
        let said = pods.call(&scan, &["-t", "ed25519", "-T", "20", "-p", &SSH.to_string(), host]).await;
        let key = std::fs::read_to_string(pods.mesh.folder.path().join("ssh.pub")).expect("a key");
        let key = key.split(' ').nth(1).expect("the key itself");
        assert!(said.contains(key), "{said}");
    }
}

/// Each decision is counted, with what it was and how it was made.
async fn told(pods: &Pods) {
    let metrics = pods.metrics(&pods.client).await;
    for (result, method) in
        [("http1", "client_bytes"), ("http2", "client_bytes"), ("tls", "client_bytes"), ("bytes", "server_first")]
    {
        let line =
            format!("weir_protocol_detect_total{{direction=\"outbound\",result=\"{result}\",method=\"{method}\"}}");
        assert!(metrics.contains(&line), "no {line} in\n{metrics}");
    }
    let bytes = format!("weir_tcp_destination_bytes_total{{destination=\"server.default.svc.cluster.local:{ECHO}\"");
    for way in ["sent", "received"] {
        let line = format!("{bytes},way=\"{way}\"}} 110000");
        assert!(metrics.contains(&line), "no {line} in\n{metrics}");
    }
    // The other side knows who called.
    let metrics = pods.metrics(&pods.server).await;
    assert!(metrics.contains("source=\"default/client\""), "{metrics}");
}

/// gRPC's and WebSockets' servers, TLS of the application's own, PostgreSQL, MariaDB, Redis, MQTT's: on loopback, as they come.
async fn start_applications(pods: &mut Pods) {
    let folder = pods.mesh.folder.path().to_owned();
    let python = pods.python.clone();
    let mut ports = vec![HTTP, SMTP, ECHO, GRPC, WEBSOCKET];
    for (script, port) in [("grpc_peer.py", GRPC), ("websocket_peer.py", WEBSOCKET)] {
        let (script, port) = (peer(script), port.to_string());
        pods.applications.push(pods.server.start(&port, &folder, &python, &[&script, "server", &port]));
    }
    if let Some(openssl) = peers::find("openssl") {
        let (key, certificate) = (folder.join("app.key"), folder.join("app.pem"));
        let (key, certificate) = (key.to_str().unwrap(), certificate.to_str().unwrap());
        let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
        let subject = ["-subj", "/CN=the application itself", "-keyout", key, "-out", certificate];
        pods.server.must(&openssl, &[&new[..], &subject].concat()).await;
        let listen = format!("127.0.0.1:{TLS}");
        let serve = ["s_server", "-quiet", "-www", "-accept", &listen, "-key", key, "-cert", certificate];
        pods.applications.push(pods.server.start("tls", &folder, &openssl, &serve));
        ports.push(TLS);
    }
    if let Some(sshd) = peers::find("sshd") {
        let key = folder.join("ssh");
        let key = key.to_str().expect("a name");
        pods.server.must("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", key]).await;
        // It drops its rights in a folder that the system's start would make.
        std::fs::create_dir_all("/run/sshd").expect("a folder");
        let (port, listen) = (SSH.to_string(), format!("ListenAddress=127.0.0.1:{SSH}"));
        let serve = ["-D", "-e", "-f", "/dev/null", "-h", key, "-p", &port, "-o", &listen, "-o", "PidFile=none"];
        pods.applications.push(pods.server.start("ssh", &folder, &sshd, &serve));
        ports.push(SSH);
    }
    if peers::find("psql").is_some() {
        let data = folder.join("postgres");
        let script = format!(
            "set -e; bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1); mkdir -p {0}; chown postgres {0}\n\
             setpriv --reuid postgres --regid postgres --clear-groups -- $bin/initdb -A trust -D {0} >/dev/null\n\
             exec setpriv --reuid postgres --regid postgres --clear-groups -- \
             $bin/postgres -D {0} -p {POSTGRES} -h 127.0.0.1 -k {0} -F",
            data.display()
        );
        pods.applications.push(pods.server.start("postgres", &folder, "sh", &["-c", &script]));
        ports.push(POSTGRES);
    }
    if peers::find("mariadbd").is_some() {
        pods.applications.push(start_mariadb(&pods.server, &folder));
        ports.push(MARIADB);
    }
    if let Some(redis) = peers::find("redis-server") {
        let port = REDIS.to_string();
        let serve = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--dir", folder.to_str().unwrap()];
        pods.applications.push(pods.server.start("redis", &folder, &redis, &serve));
        ports.push(REDIS);
    }
    if let Some(mosquitto) = peers::find("mosquitto") {
        // Without a file it listens on loopback alone.
        pods.applications.push(pods.server.start("mosquitto", &folder, &mosquitto, &["-p", &MQTT.to_string()]));
        ports.push(MQTT);
    }
    pods.listening(&ports).await;
}

/// As nobody, in a folder of its own; the system's own instance, if there is one, knows nothing of it.
fn start_mariadb(server: &Pod, folder: &Path) -> Process {
    let script = format!(
        "set -e; mkdir -p {0}; chown nobody {0}\n\
         own='--no-defaults --user=nobody --datadir={0} --innodb-log-file-size=4M'\n\
         mariadb-install-db $own --auth-root-authentication-method=normal --skip-test-db\n\
         exec mariadbd $own --bind-address=127.0.0.1 --port={MARIADB} --socket={0}/socket --pid-file={0}/pid \
         --skip-name-resolve --skip-ssl --innodb-buffer-pool-size=16M",
        folder.join("mariadb").display()
    );
    server.start("mariadb", folder, "sh", &["-c", &script])
}

/// The timer of each connection to a port, as the kernel has it.
async fn timers(pod: &Pod, ports: &str) -> Vec<String> {
    let said = pod.must("ss", &["-tnoH", "state", "established", ports]).await;
    said.lines().map(|l| l.split("timer:(").nth(1).unwrap_or("none").to_owned()).collect()
}

#[tokio::test]
async fn bytes_that_are_silent_are_probed_on_all_three_ways() {
    let Some(mut pods) = Pods::start(false, "").await else { return };
    pods.listening(&[ECHO]).await;
    let folder = pods.mesh.folder.path().to_owned();
    let until = folder.join("until");
    let talk = [peer("captured_peer.py"), "silence".into(), V4.into(), ECHO.to_string(), until.display().to_string()];
    let client = pods.client.start("silence", &folder, &pods.python, &talk.each_ref().map(String::as_str));
    pods.applications.push(client);
    // From the client to its sidecar, from there to the other, and from that to the application.
    for (pod, ports) in
        [(&pods.client, "sport = :15001"), (&pods.client, "dport = :15006"), (&pods.server, "dport = :7000")]
    {
        eventually(&format!("all of {ports} are probed"), 20, || async {
            let timers = timers(pod, ports).await;
            (!timers.is_empty() && timers.iter().all(|t| t.starts_with("keepalive,"))).then_some(())
        })
        .await;
    }
    std::fs::write(until, "").expect("a file");
}

#[tokio::test]
async fn who_is_greeted_waits_for_nobody() {
    let Some(pods) = Pods::start(false, "").await else { return };
    pods.listening(&[SMTP]).await;
    let times = pods.plain(&["greeted", V4, &SMTP.to_string(), "40"]).await;
    let mut times: Vec<f64> = times.lines().map(|l| l.parse().expect("milliseconds")).collect();
    times.sort_by(f64::total_cmp);
    // The same with nobody between.
    let (script, port) = (peer("captured_peer.py"), SMTP.to_string());
    let without = pods.server.must(&pods.python, &[&script, "greeted", "127.0.0.1", &port, "40"]).await;
    let without = without.lines().map(|l| l.parse().expect("milliseconds")).fold(f64::MAX, f64::min);
    let (least, median) = (times[0], times[times.len() / 2]);
    eprintln!(
        "greeted through two sidecars after {least:.2} ms at least, {median:.2} ms in the middle; without any after \
         {without:.2} ms at least"
    );
    // A wait of any kind would be in all of them; that it is no more is the machine's affair.
    assert!(least - without < 5.0, "{times:?} with, {without} without");
}

//! Tests of the options.

use super::*;

fn args(args: &[&str]) -> Args {
    Args::try_parse_from([&["weir-proxy"], args].concat()).unwrap()
}

const LEAST: [&str; 4] = ["--workload", "web-1", "--control-plane", "127.0.0.1:15012"];

#[test]
fn flags_win_over_the_file_and_defaults_fill_the_rest() {
    let file = bootstrap::Proxy::parse(
        "node: {workload: other, namespace: demo, serviceAccount: web}\nlisten: {outbound: '127.0.0.1:0'}\n\
         controlPlane: {rootsFile: roots.pem}\nidentity: {token: t}\n",
    )
    .unwrap();
    let options = args(&LEAST).merge(file, Some(Path::new("/run/weir"))).unwrap();
    assert_eq!(options.node.id(), "demo/web-1");
    assert_eq!(options.id().unwrap().as_str(), "spiffe://weir.local/ns/demo/sa/web");
    assert_eq!(options.listen.outbound.port(), 0);
    assert_eq!(options.listen.inbound, "0.0.0.0:15006".parse().unwrap());
    assert!(matches!(options.control_plane.roots, Some(Roots::File(p)) if p == Path::new("/run/weir/roots.pem")));
    assert!(matches!(options.token, Some(Token::Text(_))));
    assert!(options.upgrade.socket.is_none() && !options.allow_quit, "nowhere to be, and not asked for");
}

#[test]
fn a_successor_knocks_in_the_state_directory_unless_told_where() {
    let file = bootstrap::Proxy::parse("stateDirectory: state\nallowQuit: true\nupgrade: {readySeconds: 5}\n").unwrap();
    let options = args(&LEAST).merge(file, Some(Path::new("/run/weir"))).unwrap();
    assert_eq!(options.upgrade.socket.as_deref(), Some(Path::new("/run/weir/state/upgrade.sock")));
    assert_eq!((options.upgrade.ready, options.allow_quit), (Duration::from_secs(5), true));
    let told = [&LEAST[..], &["--upgrade-socket", "/x", "--state-directory", "/y"]].concat();
    let options = args(&told).merge(bootstrap::Proxy::default(), None).unwrap();
    assert_eq!(options.upgrade.socket.as_deref(), Some(Path::new("/x")));
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let merge = |a: &[&str]| args(a).merge(bootstrap::Proxy::default(), None).unwrap_err().to_string();
    assert!(merge(&LEAST[2..]).contains("WEIR_WORKLOAD"));
    assert!(merge(&LEAST[..2]).contains("--control-plane"));
    assert!(merge(&[&LEAST[..], &["--admin", "0.0.0.0:15000"]].concat()).contains("loopback"));
    assert!(merge(&[&LEAST[2..], &["--workload", "a/b"]].concat()).contains("a/b"));
}

//! Host names whose addresses are wanted.

use super::*;

const NAME: &str = "dns/web.demo";

#[test]
fn a_name_is_endpoints_alone_until_nobody_asks_for_it() {
    let mut mesh = Mesh::new();
    assert_eq!(mesh.want(NAME), [(Kind::Endpoints, NAME.into())]);
    assert_eq!(mesh.machine.authorities(), 1);
    assert!(mesh.want(NAME).is_empty(), "asked for once");
    mesh.send(endpoints(NAME, 53));
    assert!(mesh.published.as_ref().unwrap().endpoints.contains_key(NAME), "though no cluster names it");
    mesh.bring_up();
    assert_eq!(mesh.published.as_ref().unwrap().endpoints.len(), 2);
    let requests = mesh.machine.forget(&NAME.into(), mesh.now);
    mesh.server.receive(requests);
    mesh.publish();
    assert_eq!(mesh.published.as_ref().unwrap().endpoints.keys().map(|n| &**n).collect::<Vec<_>>(), [F]);
    assert_eq!(mesh.machine.authorities(), 1);
}

#[test]
fn a_name_that_is_not_the_mesh_s_is_absent_until_it_appears_or_is_forgotten() {
    let mut mesh = Mesh::new();
    mesh.want(NAME);
    mesh.respond(Kind::Endpoints, &[], &[NAME]);
    assert_eq!(mesh.absent, [NAME.into()].into());
    mesh.send(endpoints(NAME, 53));
    assert!(mesh.absent.is_empty());
    mesh.respond(Kind::Endpoints, &[], &[NAME]);
    mesh.now += ABSENT_FOR;
    let requests = mesh.machine.tidy(mesh.now);
    mesh.server.receive(requests);
    mesh.publish();
    assert_eq!((mesh.absent.len(), mesh.machine.authorities()), (0, 0));
}

#[test]
fn names_of_the_whole_world_do_not_keep_real_ones_out() {
    let mut mesh = Mesh::new();
    mesh.want(NAME);
    mesh.send(endpoints(NAME, 53));
    for n in 0..MAX_AUTHORITIES + 10 {
        let name = format!("dns/{n}.example");
        let requests = mesh.machine.want(&name.as_str().into(), mesh.now).expect("room is made");
        mesh.server.receive(requests);
        let response = mesh.server.response(Kind::Endpoints, &[], &[&name]);
        let outcome = mesh.machine.response(response, mesh.now);
        mesh.server.receive(outcome.requests);
    }
    mesh.publish();
    assert_eq!(mesh.machine.authorities(), MAX_AUTHORITIES);
    assert!(mesh.published.as_ref().unwrap().endpoints.contains_key(NAME));
}

#[test]
fn names_are_kept_over_a_restart() {
    let mut mesh = Mesh::new();
    mesh.want(NAME);
    mesh.send(endpoints(NAME, 53));
    let kept: Vec<_> = mesh.machine.raw().collect();
    let mut machine = Machine::new(Node::default(), [], mesh.now);
    machine.restore(kept, mesh.now);
    assert!(machine.publish(mesh.now).unwrap().resources.endpoints.contains_key(NAME));
    assert_eq!(machine.authorities(), 1);
}

//! Fills a cluster as a company's is: namespaces with services, and pods and EndpointSlices behind each of them; and changes
//! single instances as a kubelet and the controller of slices would.
//!
//! There is no node: the pods are objects that say that they run.

use super::Cluster;
use futures::StreamExt;
use http::{Method, Request};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

/// Namespaces that are filled at the same time: so many requests are under way at most.
const AT_ONCE: usize = 48;
/// The first address of the pods; services are in 10.96.0.0/12.
const FIRST: u32 = u32::from_be_bytes([10, 64, 0, 0]);

/// How much there is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Namespaces.
    pub namespaces: usize,
    /// Services in each of them.
    pub services: usize,
    /// Instances behind each service.
    pub instances: usize,
}

impl Size {
    /// 500 namespaces, 5,000 services, 50,000 instances.
    pub const FULL: Self = Self { namespaces: 500, services: 10, instances: 10 };
    /// A tenth of it.
    pub const TENTH: Self = Self { namespaces: 50, ..Self::FULL };

    /// All services.
    pub fn all_services(self) -> usize {
        self.namespaces * self.services
    }

    /// All instances.
    pub fn all_instances(self) -> usize {
        self.all_services() * self.instances
    }
}

/// One instance: a pod, and its place in the one slice of its service.
#[derive(Debug, Clone)]
pub struct Instance {
    namespace: String,
    service: String,
    pod: String,
    place: usize,
}

/// Writes to a cluster, as somebody who may do everything.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    size: Size,
}

impl Writer {
    /// For a cluster of this size.
    pub async fn connect(cluster: &Cluster, size: Size) -> Self {
        // Two of the crates here would each choose a provider of cryptography.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let kubeconfig = Kubeconfig::read_from(&cluster.kubeconfig).expect("a kubeconfig");
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let client = Client::try_from(config.expect("a kubeconfig")).expect("a client");
        Self { client, size }
    }

    /// Writes everything; how long it took.
    pub async fn fill(&self) -> Duration {
        let begun = Instant::now();
        futures::stream::iter(0..self.size.namespaces).for_each_concurrent(AT_ONCE, |n| self.namespace(n)).await;
        begun.elapsed()
    }

    /// The instance of a number, which may be any.
    pub fn instance(&self, number: usize) -> Instance {
        let number = number % self.size.all_instances();
        let (service, place) = (number / self.size.instances, number % self.size.instances);
        let (namespace, service) = (service / self.size.services, service % self.size.services);
        self.at(namespace, service, place)
    }

    /// Says that an instance is ready, or not, as a kubelet says it of a pod. It is so when this returns.
    pub async fn ready(&self, instance: &Instance, ready: bool) {
        let Instance { namespace, pod, .. } = instance;
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/status");
        let status = json!({ "status": { "conditions": [condition(ready)] } });
        self.send(Method::PATCH, &path, "application/merge-patch+json", &status).await;
    }

    /// Says the same in the slice, as the cluster's controller does some time later.
    pub async fn ready_in_slice(&self, instance: &Instance, ready: bool) {
        let Instance { namespace, service, place, .. } = instance;
        let path = format!("{}/{service}-slice", slices(namespace));
        let field = format!("/endpoints/{place}/conditions/ready");
        let patch = json!([{ "op": "replace", "path": field, "value": ready }]);
        self.send(Method::PATCH, &path, "application/json-patch+json", &patch).await;
    }

    /// Writes a service with one instance at an address of this machine, without a sidecar. It has no slice: the API server
    /// takes no loopback addresses there.
    pub async fn single(&self, namespace: &str, service: &str, address: IpAddr, port: u16) -> Instance {
        let pod = format!("{service}-0");
        let instance = Instance { namespace: namespace.into(), service: service.into(), pod, place: 0 };
        self.account(namespace, service).await;
        self.service(namespace, service).await;
        self.pod(&instance, address, port, false).await;
        instance
    }

    fn at(&self, namespace: usize, service: usize, place: usize) -> Instance {
        let service = format!("service-{service}");
        Instance { namespace: format!("team-{namespace}"), pod: format!("{service}-{place}"), service, place }
    }

    async fn namespace(&self, n: usize) {
        let name = format!("team-{n}");
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        self.create("/api/v1/namespaces", &namespace).await;
        self.account(&name, "default").await;
        for s in 0..self.size.services {
            let service = format!("service-{s}");
            self.account(&name, &service).await;
            self.service(&name, &service).await;
            let number = |place| (n * self.size.services + s) * self.size.instances + place;
            let address = |place| IpAddr::from(Ipv4Addr::from_bits(FIRST + number(place) as u32));
            let all: Vec<_> = (0..self.size.instances).map(|p| (self.at(n, s, p), address(p))).collect();
            for (instance, address) in &all {
                self.pod(instance, *address, 8080, true).await;
            }
            self.slice(&name, &service, &all, 8080).await;
        }
    }

    async fn account(&self, namespace: &str, name: &str) {
        let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } });
        self.create(&format!("/api/v1/namespaces/{namespace}/serviceaccounts"), &account).await;
    }

    async fn service(&self, namespace: &str, name: &str) {
        let port = json!({ "name": "http", "port": 80, "targetPort": "http", "appProtocol": "http" });
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "labels": { "app": name } },
            "spec": { "selector": { "app": name }, "ports": [port] },
        });
        self.create(&format!("/api/v1/namespaces/{namespace}/services"), &service).await;
    }

    /// A pod that runs and is ready.
    async fn pod(&self, instance: &Instance, address: IpAddr, port: u16, sidecar: bool) {
        let Instance { namespace, service, pod, place } = instance;
        let mut containers = vec![json!({
            "name": "app", "image": "app:1", "ports": [{ "name": "http", "containerPort": port }],
            "env": [{ "name": "NAMESPACE", "value": namespace }], "readinessProbe": { "httpGet": { "path": "/", "port": port } },
        })];
        if sidecar {
            containers.push(json!({ "name": "weir-proxy", "image": "weir-proxy:0.1.0" }));
        }
        let labels = json!({
            "app": service, "pod-template-hash": "5d4f8c7b9", "topology.kubernetes.io/zone": zone(*place),
        });
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        let written = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": pod, "labels": labels },
            "spec": {
                "serviceAccountName": service, "automountServiceAccountToken": false, "containers": containers,
            },
        });
        self.create(&path, &written).await;
        let status = json!({ "status": {
            "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }], "conditions": [condition(true)],
        } });
        self.send(Method::PATCH, &format!("{path}/{pod}/status"), "application/merge-patch+json", &status).await;
    }

    async fn slice(&self, namespace: &str, service: &str, all: &[(Instance, IpAddr)], port: u16) {
        let endpoint = |(instance, address): &(Instance, IpAddr)| {
            json!({
                "addresses": [address], "conditions": { "ready": true }, "zone": zone(instance.place),
                "targetRef": { "kind": "Pod", "name": instance.pod, "namespace": namespace },
            })
        };
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": { "name": format!("{service}-slice"), "labels": { "kubernetes.io/service-name": service } },
            "ports": [{ "name": "http", "port": port, "protocol": "TCP" }],
            "endpoints": all.iter().map(endpoint).collect::<Vec<_>>(),
        });
        self.create(&slices(namespace), &slice).await;
    }

    async fn create(&self, path: &str, object: &Value) {
        self.send(Method::POST, path, "application/json", object).await;
    }

    async fn send(&self, method: Method, path: &str, kind: &str, object: &Value) {
        let request = Request::builder().method(method).uri(path).header("content-type", kind);
        let request = request.body(object.to_string().into_bytes()).expect("a request");
        if let Err(error) = self.client.request_text(request).await {
            panic!("{path}: {error}");
        }
    }
}

fn slices(namespace: &str) -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")
}

fn zone(place: usize) -> &'static str {
    ["zone-a", "zone-b", "zone-c"][place % 3]
}

fn condition(ready: bool) -> Value {
    json!({ "type": "Ready", "status": if ready { "True" } else { "False" } })
}

//! How large a resource may be. What is above is refused by name, so that no peer can make us hold without bound.

/// Bytes of one resource.
pub const RESOURCE_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of a name or other short text.
pub const TEXT_BYTES: usize = 4096;
/// Bytes of an answer's body (`direct_response`), as Envoy.
pub const BODY_BYTES: usize = 4096;
/// Issues or notes told of one resource; further ones are counted in the last.
pub const ISSUES: usize = 20;
/// Endpoints of a cluster, all localities together.
pub const ENDPOINTS: usize = 10_000;
/// Localities of a cluster.
pub const LOCALITIES: usize = 1_000;
/// Virtual hosts of a route configuration.
pub const VIRTUAL_HOSTS: usize = 1_000;
/// Domains of a virtual host.
pub const DOMAINS: usize = 1_000;
/// Routes of a route configuration, all virtual hosts together.
pub const ROUTES: usize = 10_000;
/// Header and query conditions of a route.
pub const CONDITIONS: usize = 64;
/// Header changes in one list.
pub const MUTATIONS: usize = 64;
/// Destinations of a route.
pub const WEIGHTED_CLUSTERS: usize = 128;
/// Filter chains of a listener.
pub const CHAINS: usize = 1_000;
/// Server names of a filter chain: one for each port of each service that leads to the workload.
pub const SERVER_NAMES: usize = 20_000;
/// Network or HTTP filters in one chain.
pub const FILTERS: usize = 64;
/// Authorisation rules of a filter chain.
pub const RULES: usize = 2_000;
/// Methods, paths or principals of one authorisation rule.
pub const RULE_ITEMS: usize = 1_000;
/// Regular expressions of a resource: each may take 256 KiB once compiled.
pub const REGEXES: usize = 1_000;
/// Identities that a cluster accepts.
pub const IDENTITIES: usize = 1_000;
/// Roots of a trust bundle.
pub const ROOTS: usize = 16;
/// The longest duration, ten years: what a peer sends must not overflow a clock.
pub const DURATION_SECONDS: u64 = 315_360_000;

//! Where hosts outside the mesh are: asked at the machine's resolvers when a connection is to be made, and kept for as long
//! as the answer says. What has been found stays in use while nobody answers: an old address is better than none.

use super::{Over, Upstream};
use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::{Name, RecordType},
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// Hosts that are kept.
const MAX_HOSTS: usize = 1024;
/// The shortest and the longest time that an answer is kept, whatever it says.
const KEPT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// Addresses of one host.
const MAX_ADDRESSES: usize = 64;
/// How long an answer that could not be had again stays in use.
const STALE: Duration = Duration::from_secs(3600);

/// Finds hosts.
#[derive(Debug)]
pub struct Resolver {
    upstream: Arc<Upstream>,
    known: Mutex<HashMap<Arc<str>, Arc<Slot>>>,
}

/// One host: whoever asks while it is being asked waits for that answer.
type Slot = tokio::sync::Mutex<Option<Known>>;

#[derive(Debug, Clone)]
struct Known {
    addresses: Arc<[IpAddr]>,
    until: Instant,
}

impl Resolver {
    /// By these resolvers.
    pub fn new(upstream: Arc<Upstream>) -> Self {
        Self { upstream, known: Mutex::default() }
    }

    /// The addresses of a host, at least one; IPv4 first.
    ///
    /// # Errors
    /// It has none, or nobody answers and nothing is known from before.
    pub async fn addresses(&self, host: &str) -> io::Result<Arc<[IpAddr]>> {
        let slot = self.slot(host);
        let mut known = slot.lock().await;
        let now = Instant::now();
        if let Some(fresh) = known.as_ref().filter(|k| now < k.until) {
            return Ok(fresh.addresses.clone());
        }
        match self.ask(host).await {
            Ok((addresses, ttl)) => {
                let until = now + ttl.clamp(KEPT.0, KEPT.1);
                *known = Some(Known { addresses: addresses.clone(), until });
                Ok(addresses)
            }
            Err(error) => match known.as_ref().filter(|k| now < k.until + STALE) {
                Some(old) => {
                    tracing::warn!(host, %error, "not found anew; its last addresses stay in use");
                    Ok(old.addresses.clone())
                }
                None => Err(error),
            },
        }
    }

    fn slot(&self, host: &str) -> Arc<Slot> {
        let mut known = self.known.lock();
        if let Some(slot) = known.get(host) {
            return slot.clone();
        }
        if known.len() >= MAX_HOSTS {
            // What somebody waits for stays; of the rest any may go: it is asked for again.
            let spare = known.iter().find(|(_, slot)| Arc::strong_count(slot) == 1).map(|(host, _)| host.clone());
            match spare {
                Some(spare) => drop(known.remove(&spare)),
                None => return Arc::default(),
            }
        }
        let slot = Arc::<Slot>::default();
        known.insert(host.into(), slot.clone());
        slot
    }

    /// Both families at once; one that fails is no matter where the other has an answer.
    async fn ask(&self, host: &str) -> io::Result<(Arc<[IpAddr]>, Duration)> {
        let (v4, v6) = tokio::join!(self.family(host, RecordType::A), self.family(host, RecordType::AAAA));
        let (mut addresses, mut ttl, mut failed) = (Vec::new(), KEPT.1, None);
        for family in [v4, v6] {
            match family {
                Ok((found, least)) if !found.is_empty() => {
                    addresses.extend(found);
                    ttl = ttl.min(least);
                }
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
        }
        if addresses.is_empty() {
            return Err(failed.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it has no address")));
        }
        addresses.truncate(MAX_ADDRESSES);
        Ok((addresses.into(), ttl))
    }

    async fn family(&self, host: &str, kind: RecordType) -> io::Result<(Vec<IpAddr>, Duration)> {
        let mut name = Name::from_ascii(host).map_err(io::Error::other)?;
        name.set_fqdn(true);
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(name, kind));
        let question = message.to_vec().map_err(io::Error::other)?;
        let mut answer = read(&self.upstream.ask(&question, Over::Udp).await?)?;
        if answer.metadata.truncation {
            answer = read(&self.upstream.ask(&question, Over::Tcp).await?)?;
        }
        match answer.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => {}
            code => return Err(io::Error::other(format!("the resolver says: {code}"))),
        }
        // Aliases are followed by the resolver: whatever address is there is the host's.
        let found = answer.answers.iter().filter(|r| r.record_type() == kind);
        let all: Vec<_> = found.filter_map(|r| Some((r.data.ip_addr()?, r.ttl))).collect();
        // The chain holds as long as its shortest link.
        let ttl = answer.answers.iter().map(|r| r.ttl).min().unwrap_or(0);
        Ok((all.into_iter().map(|(address, _)| address).collect(), Duration::from_secs(ttl.into())))
    }
}

fn read(bytes: &[u8]) -> io::Result<Message> {
    Message::from_vec(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::{super::Conf, *};
    use hickory_proto::rr::{RData, Record, rdata::A};
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::net::UdpSocket;

    /// A resolver that knows one host, in IPv4, until it is told to say nothing; and how often it was asked.
    async fn resolver(ttl: u32) -> (Arc<Resolver>, Arc<AtomicU32>, tokio::task::JoinHandle<()>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = socket.local_addr().unwrap();
        let asked = Arc::new(AtomicU32::new(0));
        let count = asked.clone();
        let task = tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let query = question.queries[0].clone();
                let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
                if query.query_type == RecordType::A && query.name.to_ascii().starts_with("api.") {
                    count.fetch_add(1, Ordering::Relaxed);
                    let data = RData::A(A([192, 0, 2, 7].into()));
                    answer.add_answers([Record::from_rdata(query.name.clone(), ttl, data)]);
                }
                answer.add_query(query);
                socket.send_to(&answer.to_vec().unwrap(), peer).await.unwrap();
            }
        });
        (Arc::new(Resolver::new(Arc::new(Upstream::new(Conf { servers: vec![server] })))), asked, task)
    }

    #[tokio::test]
    async fn an_answer_is_kept_and_asked_for_once_by_all_who_wait() {
        let (resolver, asked, _task) = resolver(60).await;
        let all = futures::future::join_all((0..20).map(|_| resolver.addresses("api.example"))).await;
        for found in all {
            assert_eq!(found.unwrap()[..], [IpAddr::from([192, 0, 2, 7])]);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let error = resolver.addresses("nobody.example").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
    }

    #[tokio::test]
    async fn an_old_answer_is_better_than_none() {
        let (resolver, _, task) = resolver(0).await;
        resolver.addresses("api.example").await.unwrap();
        task.abort();
        let _ = task.await;
        // As if its time were over.
        let slot = resolver.slot("api.example");
        slot.lock().await.as_mut().unwrap().until = Instant::now();
        assert_eq!(resolver.addresses("api.example").await.unwrap().len(), 1);
        slot.lock().await.as_mut().unwrap().until = Instant::now() - STALE - Duration::from_secs(1);
        assert!(resolver.addresses("api.example").await.is_err(), "not for ever");
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded() {
        let (resolver, ..) = resolver(60).await;
        for n in 0..MAX_HOSTS + 10 {
            resolver.slot(&format!("{n}.example"));
        }
        assert_eq!(resolver.known.lock().len(), MAX_HOSTS);
    }
}

//! What is asked, and what is answered (RFC 1035, EDNS: RFC 6891).

use crate::resolve::Over;
use hickory_proto::{
    op::{Edns, Message, MessageType, Metadata, OpCode, ResponseCode},
    rr::{
        DNSClass, RData, Record, RecordType,
        rdata::{A, AAAA},
    },
};
use std::net::IpAddr;

/// How long an answer may be kept, in seconds: instances come and go. (CoreDNS has the same for Kubernetes' names.)
const TTL: u32 = 5;
/// What every message has.
const HEADER: usize = 12;
/// What we take over UDP (DNS Flag Day 2020).
const PAYLOAD: u16 = 1232;
/// Addresses of one answer: all that fit into 64 KiB with room for the rest.
const MAX_ADDRESSES: usize = 1000;

/// A question for one name, in the class of the Internet.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// The name, lower case, without a dot at its end.
    pub(super) name: String,
    kind: RecordType,
    message: Message,
}

impl Question {
    /// `None`: it is not such a question, or none that we understand.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let message = Message::from_vec(bytes).ok()?;
        let asks = message.metadata.message_type == MessageType::Query && message.metadata.op_code == OpCode::Query;
        let [query] = &message.queries[..] else { return None };
        if !asks || query.query_class != DNSClass::IN {
            return None;
        }
        let name = query.name.to_ascii().trim_end_matches('.').to_ascii_lowercase();
        Some(Self { name, kind: query.query_type, message })
    }

    /// Whether the name may be a host's: letters, digits, `-` and dots. (Names of services by `SRV` and of zones begin
    /// with `_`; what an address is called is somebody else's to say.)
    pub(super) fn is_of_a_host(&self) -> bool {
        let label = |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        self.name.split('.').all(label) && !self.name.ends_with(".arpa")
    }

    /// The answer of who has the name: its addresses of the family that is asked for, from the `first` of them on. A name
    /// that has none of that family exists all the same (RFC 8020: `NXDOMAIN` would deny both).
    pub(super) fn answer(&self, addresses: &[IpAddr], first: usize, over: Over) -> Vec<u8> {
        let wanted = |address: &&IpAddr| match self.kind {
            RecordType::A => address.is_ipv4(),
            RecordType::AAAA => address.is_ipv6(),
            RecordType::ANY => true,
            _ => false,
        };
        let mut found: Vec<_> = addresses.iter().filter(wanted).copied().collect();
        // Many clients take the first: it is another one each time.
        let turn = first.checked_rem(found.len()).unwrap_or(0);
        found.rotate_left(turn);
        let mut message = self.reply(ResponseCode::NoError);
        message.metadata.authoritative = true;
        for query in &self.message.queries {
            message.add_answers(found.iter().take(MAX_ADDRESSES).map(|address| {
                let data = match *address {
                    IpAddr::V4(v4) => RData::A(A(v4)),
                    IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
                };
                Record::from_rdata(query.name.clone(), TTL, data)
            }));
        }
        self.written(message, over)
    }

    /// Says that no answer could be found.
    pub(super) fn failed(&self, over: Over) -> Vec<u8> {
        self.written(self.reply(ResponseCode::ServFail), over)
    }

    fn reply(&self, code: ResponseCode) -> Message {
        let mut message = Message::response(self.message.metadata.id, OpCode::Query);
        message.metadata = Metadata::response_from_request(&self.message.metadata);
        message.metadata.recursion_available = true;
        message.metadata.response_code = code;
        message.add_queries(self.message.queries.iter().cloned());
        if self.message.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(PAYLOAD).set_version(0);
            message.set_edns(edns);
        }
        message
    }

    fn written(&self, message: Message, over: Over) -> Vec<u8> {
        let room = match over {
            Over::Udp => self.message.max_payload().max(512).into(),
            Over::Tcp => usize::from(u16::MAX),
        };
        let written = message.to_vec().unwrap_or_default();
        if written.len() <= room && !written.is_empty() {
            return written;
        }
        // Whoever asked asks again over TCP.
        message.truncate().to_vec().unwrap_or_default()
    }
}

/// Says that no answer could be found, to something that may be no question that we understand. `None`: it is no question
/// at all, and an answer to an answer would go round for ever.
pub(super) fn failed(bytes: &[u8], over: Over) -> Option<Vec<u8>> {
    if let Some(question) = Question::read(bytes) {
        return Some(question.failed(over));
    }
    let [a, b, flags, ..] = *bytes else { return None };
    if bytes.len() < HEADER || flags & 0x80 != 0 {
        return None;
    }
    let mut header = vec![a, b, flags & 0x79 | 0x80, 0x80 | ResponseCode::ServFail.low()];
    header.resize(HEADER, 0);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::{op::Query, rr::Name};

    fn asked(name: &str, kind: RecordType, edns: Option<u16>) -> Question {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        if let Some(room) = edns {
            let mut edns = Edns::new();
            edns.set_max_payload(room);
            message.set_edns(edns);
        }
        Question::read(&message.to_vec().unwrap()).unwrap()
    }

    fn read(bytes: &[u8]) -> Message {
        Message::from_vec(bytes).unwrap()
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    fn told(message: &Message) -> Vec<String> {
        message.answers.iter().map(|r| format!("{} {} {}", r.name, r.ttl, r.data.ip_addr().unwrap())).collect()
    }

    #[test]
    fn each_family_is_answered_and_a_name_without_one_still_exists() {
        let both = ips(&["10.96.0.7", "fd00::7", "10.96.0.8"]);
        let v4 = read(&asked("WEB.Demo.", RecordType::A, None).answer(&both, 1, Over::Udp));
        assert_eq!(told(&v4), ["WEB.Demo. 5 10.96.0.8", "WEB.Demo. 5 10.96.0.7"], "in the case in which it was asked");
        let v6 = read(&asked("web.demo.", RecordType::AAAA, None).answer(&both, 1, Over::Udp));
        assert_eq!(told(&v6), ["web.demo. 5 fd00::7"]);
        for kind in [RecordType::AAAA, RecordType::TXT, RecordType::HTTPS] {
            let none = read(&asked("web.demo.", kind, None).answer(&both[..1], 0, Over::Udp));
            assert_eq!((none.answers.len(), none.metadata.response_code), (0, ResponseCode::NoError), "{kind}");
            assert!(none.metadata.authoritative && none.metadata.recursion_available);
        }
    }

    #[test]
    fn what_does_not_fit_is_truncated_and_fits_over_tcp() {
        let many: Vec<IpAddr> = (0..5000u32).map(|n| std::net::Ipv4Addr::from_bits(0x0A00_0000 + n).into()).collect();
        for (room, fits) in [(None, 512), (Some(1232), 1232), (Some(100), 512)] {
            let question = asked("web.demo.", RecordType::A, room);
            let bytes = question.answer(&many, 0, Over::Udp);
            let message = read(&bytes);
            assert!(message.metadata.truncation && message.answers.is_empty() && bytes.len() <= fits);
            assert_eq!(message.edns.is_some(), room.is_some());
            let message = read(&question.answer(&many, 0, Over::Tcp));
            assert_eq!((message.metadata.truncation, message.answers.len()), (false, MAX_ADDRESSES));
        }
        let few = read(&asked("web.demo.", RecordType::A, Some(1232)).answer(&many[..60], 0, Over::Udp));
        assert_eq!((few.metadata.truncation, few.answers.len()), (false, 60));
    }

    #[test]
    fn only_names_that_hosts_may_have_are_the_mesh_s() {
        for (name, is) in [
            ("web", true),
            ("web-0.web.demo.svc.cluster.local.", true),
            ("_http._tcp.web.demo.", false),
            ("7.0.96.10.in-addr.arpa.", false),
            (".", false),
            ("a\\.b.demo.", false),
        ] {
            assert_eq!(asked(name, RecordType::A, None).is_of_a_host(), is, "{name}");
        }
    }

    #[test]
    fn failure_is_told_to_every_question_and_to_nothing_else() {
        let question = asked("api.example.", RecordType::A, Some(1232));
        let message = read(&question.failed(Over::Udp));
        assert_eq!((message.metadata.response_code, message.queries.len()), (ResponseCode::ServFail, 1));
        assert_eq!(message.metadata.id, question.message.metadata.id);
        // Two questions in one, as nobody asks: the header alone.
        let odd = [7, 8, 0x01, 0x00, 0, 2, 0, 0, 0, 0, 0, 0];
        let answer = failed(&odd, Over::Udp).unwrap();
        assert_eq!(answer, [7, 8, 0x81, 0x82, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(failed(&answer, Over::Udp), None, "an answer");
        assert_eq!(failed(&odd[..5], Over::Udp), None, "nothing");
    }

    #[test]
    fn nothing_that_comes_breaks_it() {
        let whole = {
            let mut message = Message::query();
            message.add_query(Query::query(Name::from_ascii("web.demo.").unwrap(), RecordType::A));
            message.to_vec().unwrap()
        };
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        for n in 0..20_000usize {
            let mut bytes = whole.clone();
            for _ in 0..=n % 4 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = (seed >> 33) as usize % bytes.len();
                bytes[at] = (seed >> 24) as u8;
            }
            bytes.truncate(1 + (seed >> 40) as usize % bytes.len());
            if let Some(question) = Question::read(&bytes) {
                question.is_of_a_host();
                question.answer(&[[10, 0, 0, 1].into()], n, Over::Udp);
            }
            failed(&bytes, Over::Udp);
        }
    }
}

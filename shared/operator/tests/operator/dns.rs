//! A DNS server on this machine, which knows a few domains.

use std::net::{SocketAddr, UdpSocket};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::MX;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

/// The server's answer for one domain.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Says {
    /// These MX records: preference and host.
    Mx(&'static [(u16, &'static str)]),
    /// The domain is an alias of this one, with its MX records.
    Alias(&'static str, &'static [(u16, &'static str)]),
    /// There is no MX record.
    Nothing,
    /// A server failure.
    Error,
    /// No answer.
    Silence,
}

/// Domains of the tests. Any other domain does not exist.
pub(crate) const DOMAINS: &[(&str, Says)] = &[
    (
        "workspace.example",
        Says::Mx(&[(1, "ASPMX.L.GOOGLE.COM."), (5, "alt1.aspmx.l.google.com."), (30, "mx.other.example.")]),
    ),
    ("tenant.example", Says::Mx(&[(0, "tenant-example.mail.protection.outlook.com.")])),
    (
        "filtered.example",
        Says::Alias(
            "alias.example",
            &[(10, "mxa-00112233.gslb.pphosted.com."), (10, "mxb-00112233.gslb.pphosted.com.")],
        ),
    ),
    ("own.example", Says::Mx(&[(10, "mx1.own.example."), (10, "mx2.own.example.")])),
    ("strange.example", Says::Mx(&[(10, "mx.hoster.example.")])),
    ("mixed.example", Says::Mx(&[(10, "mx.hoster.example."), (10, "mx1.example.iphmx.com.")])),
    ("null.example", Says::Mx(&[(0, ".")])),
    ("nothing.example", Says::Nothing),
    ("broken.example", Says::Error),
    ("silent.example", Says::Silence),
];

/// Starts the server; it answers for as long as the test runs.
pub(crate) fn start() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            if let Some(answer) = answer(&Message::from_vec(&packet[..length]).unwrap()) {
                socket.send_to(&answer.to_vec().unwrap(), from).unwrap();
            }
        }
    });
    address
}

fn answer(question: &Message) -> Option<Message> {
    let query = question.queries[0].clone();
    assert_eq!(query.query_type(), RecordType::MX, "only MX records are asked for");
    let name = query.name().clone();
    let asked = name.to_ascii().to_ascii_lowercase();
    let says = DOMAINS.iter().find(|(domain, _)| asked == format!("{domain}.")).map(|(_, says)| *says);
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = true;
    answer.metadata.recursion_available = true;
    answer.add_query(query);
    let mx = |name: &Name, (preference, host): &(u16, &str)| {
        Record::from_rdata(name.clone(), 60, RData::MX(MX::new(*preference, Name::from_ascii(host).unwrap())))
    };
    match says {
        None => answer.metadata.response_code = ResponseCode::NXDomain,
        Some(Says::Mx(records)) => {
            answer.add_answers(records.iter().map(|record| mx(&name, record)));
        }
        Some(Says::Alias(to, records)) => {
            let to = Name::from_ascii(format!("{to}.")).unwrap();
            let alias = hickory_resolver::proto::rr::rdata::CNAME(to.clone());
            answer.add_answer(Record::from_rdata(name, 60, RData::CNAME(alias)));
            answer.add_answers(records.iter().map(|record| mx(&to, record)));
        }
        Some(Says::Nothing) => {}
        Some(Says::Error) => answer.metadata.response_code = ResponseCode::ServFail,
        Some(Says::Silence) => return None,
    }
    Some(answer)
}

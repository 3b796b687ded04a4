//! MX look-ups: the port, its limits, and its implementation by DNS.
//!
//! **Invariant:** only domain names leave this machine, and only to the resolver.
//! **Invariant:** a look-up that takes too long ends as [`MxAnswer::TimedOut`]; when the time for all of them is over, the
//! others end as [`MxAnswer::NotAsked`].

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData};
use tokio::time::{Instant, timeout_at};

use crate::asking::Progress;
use crate::failure::Failure;

/// One MX record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exchange {
    /// The preference; the lowest is tried first.
    pub preference: u16,
    /// The host, in lower case, without its trailing dot; empty = the root, which means "no host" (RFC 7505).
    pub host: String,
}

/// The result of one look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MxAnswer {
    /// MX records, at least one.
    Exchanges(Vec<Exchange>),
    /// The domain exists and has no MX record.
    NoRecord,
    /// There is no such domain (NXDOMAIN).
    NoSuchDomain,
    /// There was no answer in time.
    TimedOut,
    /// The resolver answered with an error, or could not be reached; with its description.
    Failed(String),
    /// The name is not a domain name that DNS can look up.
    NoDomainName,
    /// The time for all look-ups was over before this one.
    NotAsked,
}

/// Looks up the MX records of a domain.
pub trait MxLookup {
    /// The MX records of `domain`, in any order. The caller limits the time.
    fn mx(&self, domain: &str) -> impl Future<Output = MxAnswer>;
}

/// Limits of look-ups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The number of look-ups at a time.
    pub at_once: usize,
    /// The limit for one look-up.
    pub each: Duration,
    /// The limit for all of them.
    pub total: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { at_once: 16, each: Duration::from_secs(3), total: Duration::from_secs(60) }
    }
}

/// Looks up all domains, a few at a time. The answers are in the order of the domains.
pub async fn look_up(
    lookup: &impl MxLookup,
    domains: &[&str],
    limits: Limits,
    progress: Progress<'_>,
) -> Vec<MxAnswer> {
    let deadline = Instant::now() + limits.total;
    let one = |(index, domain): (usize, &str)| {
        let domain = domain.to_owned();
        async move {
            let now = Instant::now();
            if now >= deadline {
                return (index, MxAnswer::NotAsked);
            }
            let end = deadline.min(now + limits.each);
            (index, timeout_at(end, lookup.mx(&domain)).await.unwrap_or(MxAnswer::TimedOut))
        }
    };
    let mut answers = vec![MxAnswer::NotAsked; domains.len()];
    let mut under_way =
        stream::iter(domains.iter().copied().enumerate()).map(one).buffer_unordered(limits.at_once.max(1));
    let mut done = 0;
    while let Some((index, answer)) = under_way.next().await {
        progress(done, domains.len(), "looking up MX records");
        done += 1;
        if let Some(place) = answers.get_mut(index) {
            *place = answer;
        }
    }
    answers
}

/// The resolver of this machine, or another one.
#[derive(Debug)]
pub struct Dns {
    resolver: TokioResolver,
}

impl Dns {
    /// `server`: the resolver to ask; `None` = those that this machine is configured with.
    ///
    /// # Errors
    ///
    /// The configuration of this machine cannot be read or names no resolver.
    pub fn new(server: Option<SocketAddr>, limits: Limits) -> Result<Dns, Failure> {
        let failed = |error: NetError| Failure::NoResolver { problem: error.to_string() };
        let mut builder = match server {
            Some(server) => {
                let config = ResolverConfig::from_name_servers(vec![name_server(server)]);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
            None => TokioResolver::builder_tokio().map_err(failed)?,
        };
        let options = builder.options_mut();
        // A lost packet is sent once more within the time of a look-up.
        options.timeout = limits.each / 2;
        options.attempts = 1;
        options.use_hosts_file = ResolveHosts::Never;
        options.max_active_requests = limits.at_once.max(1);
        let resolver = builder.build().map_err(failed)?;
        Ok(Dns { resolver })
    }
}

fn name_server(server: SocketAddr) -> NameServerConfig {
    let at = |mut connection: ConnectionConfig| {
        connection.port = server.port();
        connection
    };
    let connections = vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())];
    NameServerConfig::new(server.ip(), true, connections)
}

impl MxLookup for Dns {
    async fn mx(&self, domain: &str) -> MxAnswer {
        let Ok(mut name) = Name::from_ascii(domain) else { return MxAnswer::NoDomainName };
        // Otherwise this machine's search list would be tried, too, and its servers would see the domain.
        name.set_fqdn(true);
        match self.resolver.mx_lookup(name).await {
            Ok(found) => {
                // The answers include the aliases on the way.
                let exchanges = found.answers().iter().filter_map(|record| {
                    let RData::MX(mx) = &record.data else { return None };
                    Some(Exchange { preference: mx.preference, host: host_name(&mx.exchange) })
                });
                let exchanges: Vec<Exchange> = exchanges.collect();
                if exchanges.is_empty() { MxAnswer::NoRecord } else { MxAnswer::Exchanges(exchanges) }
            }
            Err(error) => of_error(&error),
        }
    }
}

/// A host name in lower case, without its trailing dot.
fn host_name(name: &Name) -> String {
    let mut text = name.to_ascii().to_ascii_lowercase();
    if text.ends_with('.') {
        text.pop();
    }
    text
}

fn of_error(error: &NetError) -> MxAnswer {
    if let NetError::Dns(DnsError::NoRecordsFound(none)) = error {
        return if none.response_code == ResponseCode::NXDomain {
            MxAnswer::NoSuchDomain
        } else if none.response_code == ResponseCode::NoError {
            MxAnswer::NoRecord
        } else {
            MxAnswer::Failed(none.response_code.to_string())
        };
    }
    if let NetError::Timeout = error {
        return MxAnswer::TimedOut;
    }
    if let NetError::Dns(DnsError::ResponseCode(code)) = error {
        return MxAnswer::Failed(code.to_string());
    }
    MxAnswer::Failed(error.to_string())
}

/// A resolver's address as given on the command line: with a port, or without one for port 53.
pub(crate) fn server(text: &str) -> Result<SocketAddr, String> {
    let with_port = text.parse::<SocketAddr>();
    let address = with_port.or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)));
    address.map_err(|_| {
        format!(
            "`{text}` is not an address: write an IP address such as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Answers after a delay, and counts the look-ups in flight.
    struct Slow {
        seconds: u64,
        now: Cell<usize>,
        most: Cell<usize>,
    }

    impl MxLookup for Slow {
        async fn mx(&self, domain: &str) -> MxAnswer {
            self.now.set(self.now.get() + 1);
            self.most.set(self.most.get().max(self.now.get()));
            tokio::time::sleep(Duration::from_secs(self.seconds)).await;
            self.now.set(self.now.get() - 1);
            MxAnswer::Exchanges(vec![Exchange { preference: 10, host: format!("mx.{domain}") }])
        }
    }

    async fn asked(seconds: u64, domains: usize, limits: Limits) -> (Vec<MxAnswer>, usize) {
        let slow = Slow { seconds, now: Cell::new(0), most: Cell::new(0) };
        let domains: Vec<String> = (0..domains).map(|number| format!("{number}.example")).collect();
        let domains: Vec<&str> = domains.iter().map(String::as_str).collect();
        let answers = look_up(&slow, &domains, limits, &|_, _, _| {}).await;
        (answers, slow.most.get())
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_domains_are_asked_for_at_once_and_answers_keep_their_order() {
        let (answers, most) = asked(1, 40, Limits { at_once: 4, ..Limits::default() }).await;
        assert_eq!((answers.len(), most), (40, 4));
        let host = |answer: &MxAnswer| {
            let MxAnswer::Exchanges(exchanges) = answer else { panic!("{answer:?}") };
            exchanges[0].host.clone()
        };
        assert_eq!(host(&answers[7]), "mx.7.example");
        assert_eq!(host(&answers[39]), "mx.39.example");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_look_up_ends_alone_and_the_end_of_all_time_ends_the_rest() {
        let (answers, _) = asked(4, 3, Limits::default()).await;
        assert!(answers.iter().all(|answer| *answer == MxAnswer::TimedOut), "{answers:?}");
        let limits = Limits { at_once: 2, total: Duration::from_secs(5), ..Limits::default() };
        let (answers, _) = asked(2, 8, limits).await;
        let count = |wanted: &MxAnswer| answers.iter().filter(|answer| *answer == wanted).count();
        assert_eq!((count(&MxAnswer::TimedOut), count(&MxAnswer::NotAsked)), (2, 2), "{answers:?}");
    }

    #[test]
    fn a_resolver_is_an_ip_address_with_or_without_a_port() {
        assert_eq!(server("192.0.2.53").unwrap().to_string(), "192.0.2.53:53");
        assert_eq!(server("192.0.2.53:5353").unwrap().port(), 5353);
        assert_eq!(server("2001:db8::53").unwrap().to_string(), "[2001:db8::53]:53");
        assert!(server("dns.example").unwrap_err().contains("192.0.2.53"));
    }
}

//! The subject that a message of a stream is acknowledged on, which tells where the message stands.
//!
//! `$JS.ACK.<stream>.<consumer>.<deliveries>.<stream sequence>.<consumer sequence>.<time>.<pending>`, or with domain and
//! account before the stream and perhaps more at the end.

/// What such a subject says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// How often the message was handed out so far.
    pub(crate) n_deliveries: u64,
    /// Its number in the stream.
    pub(crate) sequence: u64,
    /// Which delivery of the consumer this is, counted over all messages and all replicas.
    pub(crate) delivery: u64,
}

impl Place {
    /// Of a message that was received.
    pub(crate) fn of(reply: &str) -> Option<Self> {
        let (_, mut tokens) = parts(reply)?;
        let mut number = || tokens.next()?.parse().ok();
        Some(Self {
            n_deliveries: number()?,
            sequence: number()?,
            delivery: number()?,
        })
    }
}

/// Makes such subjects, for messages that were not received or that are forgotten.
#[derive(Debug)]
pub(crate) struct Places(String);

impl Places {
    pub(crate) fn new(stream: &str, durable: &str) -> Self {
        Self(format!("$JS.ACK.{stream}.{durable}."))
    }

    /// As in this subject: where there is a domain, the server may want it.
    pub(crate) fn learn(&mut self, reply: &str) {
        if let Some((prefix, _)) = parts(reply)
            && prefix != self.0
        {
            prefix.clone_into(&mut self.0);
        }
    }

    /// The server looks at the sequence in the stream. Where it is told that a message is wanted again, the delivery must
    /// be one that it has made.
    pub(crate) fn subject(&self, sequence: u64, delivery: u64) -> String {
        format!("{}1.{sequence}.{delivery}.0.0", self.0)
    }
}

/// What stands before the number of deliveries, and the tokens from there.
fn parts(reply: &str) -> Option<(&str, impl Iterator<Item = &str>)> {
    const PREFIX: &str = "$JS.ACK.";
    let rest = reply.strip_prefix(PREFIX)?;
    let n_names = if rest.split('.').count() > 8 { 4 } else { 2 };
    let names: usize = rest.split('.').take(n_names).map(|name| name.len() + 1).sum();
    let (prefix, numbers) = reply.split_at_checked(PREFIX.len() + names)?;
    Some((prefix, numbers.split('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_stands_in_the_subject_of_the_acknowledgement() {
        let check = |reply: &str, expected: Option<(u64, u64, u64)>| {
            let place = Place::of(reply);
            let place = place.map(|place| (place.n_deliveries, place.sequence, place.delivery));
            assert_eq!(place, expected, "{reply}");
        };
        check("$JS.ACK.keptn.d.2.17.40.1700000000000000000.3", Some((2, 17, 40)));
        check(
            "$JS.ACK.hub.Ab12.keptn.d.1.18.41.1700000000000000000.0.x",
            Some((1, 18, 41)),
        );
        check(
            "$JS.ACK.hub.Ab12.keptn.d.1.18.41.1700000000000000000.0",
            Some((1, 18, 41)),
        );
        check("$JS.ACK.keptn", None);
        check("_INBOX.x", None);
        check("$JS.ACK.keptn.d.x.y.40.0.3", None);
    }

    #[test]
    fn a_made_subject_is_like_those_of_the_server() {
        let mut places = Places::new("keptn", "d");
        assert_eq!(places.subject(17, 40), "$JS.ACK.keptn.d.1.17.40.0.0");
        places.learn("_INBOX.x");
        places.learn("$JS.ACK.hub.Ab12.keptn.d.1.18.41.1700000000000000000.0.x");
        assert_eq!(places.subject(17, 40), "$JS.ACK.hub.Ab12.keptn.d.1.17.40.0.0");
        assert_eq!(Place::of(&places.subject(17, 40)).map(|place| place.sequence), Some(17));
    }
}

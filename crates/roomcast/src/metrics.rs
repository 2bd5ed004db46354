//! Every metric of the process, defined once: the struct, the registry and the reference page come from one table.
//! Hot paths count in their own memory and add here once a tick.

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Labels of one value each; the label's name stands in the table.
type Label = Vec<(&'static str, String)>;

/// A counter for each value of one label. The label's values must come from a bounded set.
#[derive(Debug, Clone)]
pub struct Labelled {
    label: &'static str,
    family: Family<Label, Counter>,
}

impl Labelled {
    /// Counts one for `value`.
    pub fn inc(&self, value: &str) {
        self.family.get_or_create(&vec![(self.label, value.to_owned())]).inc();
    }

    /// Counts several for `value`.
    pub fn add(&self, value: &str, count: u64) {
        self.family.get_or_create(&vec![(self.label, value.to_owned())]).inc_by(count);
    }

    /// Brings `value` up to a count that is kept elsewhere.
    pub fn raise_to(&self, value: &str, count: u64) {
        // Two who look at once must not both add the difference.
        static RAISING: Mutex<()> = Mutex::new(());
        let _alone = RAISING.lock();
        let counter = self.family.get_or_create(&vec![(self.label, value.to_owned())]);
        counter.inc_by(count.saturating_sub(counter.get()));
    }

    /// What stands for `value`.
    pub fn value(&self, value: &str) -> u64 {
        self.family.get_or_create(&vec![(self.label, value.to_owned())]).get()
    }
}

/// One row of the reference page.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The name as Prometheus reads it, `roomcast_` included; counters end in `_total`.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`, and the label if there is one.
    pub kind: &'static str,
    /// What it counts.
    pub help: &'static str,
}

macro_rules! metrics {
    (
        counters { $($c:ident: $chelp:literal,)* }
        gauges { $($g:ident: $ghelp:literal,)* }
        labelled { $($l:ident($label:literal): $lhelp:literal,)* }
        histograms { $($h:ident [$($bound:expr),*]: $hhelp:literal,)* }
    ) => {
        /// Handles to every metric.
        #[derive(Debug)]
        #[allow(missing_docs, reason = "each field's meaning stands in its help text, in the table below")]
        pub struct Metrics {
            registry: Registry,
            $(pub $c: Counter,)*
            $(pub $g: Gauge,)*
            $(pub $l: Labelled,)*
            $(pub $h: Histogram,)*
        }

        impl Default for Metrics {
            fn default() -> Self {
                let mut registry = Registry::with_prefix("roomcast");
                $(let $c = Counter::default(); registry.register(stringify!($c), $chelp, $c.clone());)*
                $(let $g = Gauge::default(); registry.register(stringify!($g), $ghelp, $g.clone());)*
                $(let $l = Labelled { label: $label, family: Family::default() }; registry.register(stringify!($l), $lhelp, $l.family.clone());)*
                $(let $h = Histogram::new([$($bound),*]); registry.register(stringify!($h), $hhelp, $h.clone());)*
                Self { registry, $($c,)* $($g,)* $($l,)* $($h,)* }
            }
        }

        /// The rows of the reference page.
        pub const TABLE: &[Row] = &[
            $(Row { name: concat!("roomcast_", stringify!($c), "_total"), kind: "counter", help: $chelp },)*
            $(Row { name: concat!("roomcast_", stringify!($g)), kind: "gauge", help: $ghelp },)*
            $(Row { name: concat!("roomcast_", stringify!($l), "_total"), kind: concat!("counter by `", $label, "`"), help: $lhelp },)*
            $(Row { name: concat!("roomcast_", stringify!($h)), kind: "histogram", help: $hhelp },)*
        ];
    };
}

metrics! {
    counters {
        connections_opened: "Engine.IO sessions and plain WebSocket connections opened since the start",
        connections_closed: "Engine.IO sessions and plain WebSocket connections closed since the start",
        messages_received: "Messages that clients sent",
        deliveries: "Events handed to a member: sent, or queued for a member whose socket was full",
        bytes_sent: "Bytes written to clients, framing included",
        socket_sends: "System calls that sent to clients' WebSockets: one for each connection and tick, however many events it is due",
        slow_consumers: "Connections cut because they read too slowly",
        commands_dropped: "Commands of clients that are gone, dropped since too many others were still to be finished",
        rate_limited: "Client messages refused over the rate limit",
        rabbitmq_deliveries: "Messages received from RabbitMQ",
        rabbitmq_redelivered: "Messages that RabbitMQ marked as redelivered: an event may have been sent twice",
        rabbitmq_acked: "Messages acknowledged to RabbitMQ",
        rabbitmq_repeats: "Events dropped because the same one was sent lately",
        rabbitmq_returned: "Publishes that RabbitMQ returned because no queue was bound",
        rabbitmq_reconnects: "Connections to RabbitMQ that were lost or refused, each followed by another attempt",
        redis_messages: "Messages received from the channels of Redis",
        redis_reconnects: "Connections to Redis that were lost or refused, each followed by another attempt",
        bus_messages: "Messages received from other nodes of the cluster, those for rooms without a member here included",
        bus_repeats: "Events that another node published again, since its connection was cut before Redis answered: their members had them already",
        bus_published: "Events published to the other nodes of the cluster",
        bus_reconnects: "Connections to the cluster's Redis that were lost or refused, each followed by another attempt",
        nodes_lost: "Nodes of the cluster whose lease ran out, and whose sockets this node took out of the directory",
        dead_letters: "Messages published to the dead-letter queue",
        jwks_fetches: "Fetches of the JSON Web Key Set",
        jwks_failures: "Fetches of the JSON Web Key Set that failed; the old keys stay in use",
        log_lines_dropped: "Log lines dropped because the log could not be written fast enough",
    }
    gauges {
        connections: "Open connections",
        sockets: "Sockets: a connection has one for each namespace it is in",
        rooms: "Rooms with a member on this node",
        queued_bytes: "Bytes waiting for clients whose socket is full",
        inbox_bytes: "Bytes waiting in the inboxes of the shards",
        rabbitmq_up: "1 while connected to RabbitMQ and consuming",
        redis_up: "1 while connected to Redis and subscribed to its channels",
        bus_members: "Members of the cluster that listen, Node servers and this node included, as counted last; 0 where they cannot be counted",
        bus_rooms: "Rooms whose own channel this node listens to, where rooms have one (`redis.mode` `sharded`)",
        bus_up: "1 while connected to the other nodes of the cluster",
        directory_up: "1 while this node is in the cluster's directory",
        ready: "1 while the node is ready",
        passing_on: "Polls and WebSockets of other nodes' sessions that came to this node, and are passed on at present",
    }
    labelled {
        refused("reason"): "Handshakes and tokens refused",
        client_errors("code"): "Errors told to clients, by error code",
        disconnects("reason"): "Connections and sockets ended, by reason",
        events_ignored("key"): "Events that no route asks for, by routing key (the first 1,000 keys; then `other`)",
        redis_dropped("reason"): "Messages of Redis that reached nobody: they could not be handled, were over the size limit, or came faster than the shards took them",
        bus_dropped("reason"): "Events that missed members: the bus was `away` for too long, Redis `refused` one that is too large for it, what was said here is `unsayable` to others, or what came from them was `unreadable`, `too_large`, or found the queue `full`",
        condition_errors("condition"): "Conditions that could not be evaluated, each of which counted as a no, and emits of hooks that could not be made",
        passed_on("outcome"): "Requests of other nodes' sessions: `answered` by their node, `unknown` where no node of that name is alive, `unreachable` where it is not to be reached, `lost` on the way, or `full` while this node passes on as many as it may",
        upstream_calls("outcome"): "Calls of services: `answered`, `refused`, `unavailable`, `timed_out`, or `spared` while one is left alone since it does not answer",
    }
    histograms {
        rabbitmq_to_socket_seconds [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]:
            "From a message's arrival from RabbitMQ until the last local member had it sent or queued",
        passed_on_seconds [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]:
            "From the head of a POST for another node's session until that node's answer was here",
    }
}

impl Metrics {
    /// The Prometheus text exposition (OpenMetrics).
    pub fn prometheus_text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing into a String cannot fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_exposed() {
        let metrics = Metrics::default();
        // A family is exposed once it has a member.
        let labelled = [
            &metrics.refused,
            &metrics.client_errors,
            &metrics.disconnects,
            &metrics.events_ignored,
            &metrics.redis_dropped,
            &metrics.bus_dropped,
            &metrics.condition_errors,
            &metrics.passed_on,
            &metrics.upstream_calls,
        ];
        labelled.iter().for_each(|family| family.inc("some"));
        let text = metrics.prometheus_text();
        for row in TABLE {
            let name = row.name.strip_suffix("_total").unwrap_or(row.name);
            assert!(text.contains(&format!("# HELP {name} ")), "{name} is missing");
        }
        assert!(text.contains("roomcast_refused_total{reason=\"some\"} 1"), "{text}");
    }
}

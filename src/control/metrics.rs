//! Owns the metrics for Prometheus: a status in, its text format 0.0.4 out. Pure.
//!
//! Labels have values that the manifest or this program has chosen, never a client or a guest: no paths, no ids, no pids.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::status::{ComponentState, ComponentStatus, HistogramStatus, Status, WorkerState};

/// The type of the text (Prometheus, "Exposition formats").
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of a status.
pub fn render(status: &Status) -> String {
    let mut text = Text(String::new());
    text.about_the_server(status);
    text.about_requests(status);
    text.about_workers(status);
    text.about_components(status);
    text.0
}

struct Text(String);

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Text {
    fn about_the_server(&mut self, status: &Status) {
        self.family("rusmd_info", Kind::Gauge, "Which rusmd this is; always 1.");
        self.sample("rusmd_info", &[("version", &status.version), ("build", &status.build)], 1);
        self.gauge("rusmd_uptime_seconds", "Time since the start.", Seconds(status.uptime_ms, 1000));
        self.family("rusmd_state", Kind::Gauge, "1 for what the server does now.");
        self.sample("rusmd_state", &[("state", status.state.name())], 1);
        self.gauge("rusmd_generation", "The generation that new requests go to.", status.generation);
        self.gauge("rusmd_generations", "Generations that have workers.", status.generations.len());
        self.gauge("rusmd_connections", "Open client connections.", status.connections);
        self.gauge("rusmd_connections_max", "Client connections that may be open.", status.connections_max);
        let totals = &status.totals;
        self.counter("rusmd_connections_accepted_total", "Client connections accepted.", totals.connections_accepted);
        self.counter(
            "rusmd_multiplexed_connections_total",
            "Client connections that went over to HTTP/2.",
            totals.connections_http2,
        );
        self.counter(
            "rusmd_connections_refused_total",
            "Client connections turned away because there were too many.",
            totals.connections_refused,
        );
        self.counter(
            "rusmd_openings_failed_total",
            "Client connections that did not get as far as HTTP: no header of the PROXY protocol, or no TLS.",
            totals.openings_failed,
        );
        for (name, help, attempts) in [
            ("rusmd_reloads_total", "Reloads, by their result.", totals.reloads),
            ("rusmd_upgrades_total", "Upgrades of the program, by their result.", totals.upgrades),
        ] {
            self.family(name, Kind::Counter, help);
            self.sample(name, &[("result", "ok")], attempts.ok);
            self.sample(name, &[("result", "failed")], attempts.failed);
        }
        if let Some(kib) = status.memory_kib {
            let help = "Resident memory of the supervisor.";
            self.gauge("process_resident_memory_bytes", help, kib.saturating_mul(1024));
        }
        if let Some(ms) = status.cpu_ms {
            let help = "Processor time of the supervisor.";
            self.counter("process_cpu_seconds_total", help, Seconds(ms, 1000));
        }
    }

    fn about_requests(&mut self, status: &Status) {
        let (totals, queue) = (&status.totals, &status.queue);
        self.counters(
            "rusmd_requests_total",
            "Requests that are over, by what became of them.",
            "outcome",
            &totals.requests,
        );
        let help = "Responses, by the class of their status.";
        self.counters("rusmd_responses_total", help, "class", &totals.responses);
        let help = "Requests whose head was whole, by the version of HTTP in which it came.";
        self.counters("rusmd_requests_by_version_total", help, "version", &totals.versions);
        let help = "From a request's head to the end of its response.";
        self.histogram("rusmd_request_duration_seconds", help, &totals.durations);
        let help = "How long requests waited until a worker had them.";
        self.histogram("rusmd_queue_wait_seconds", help, &queue.waits);
        self.gauge("rusmd_queue_depth", "Requests that wait for a worker.", queue.depth);
        self.gauge("rusmd_queue_length_max", "Requests that may wait for a worker.", queue.length_max);
        self.counter(
            "rusmd_dispatched_again_total",
            "Requests given to a second worker because the first died before it started them.",
            totals.dispatched_again,
        );
    }

    fn about_workers(&mut self, status: &Status) {
        self.family("rusmd_workers", Kind::Gauge, "Worker processes, by what they do.");
        for state in WorkerState::ALL {
            let number = status.workers.iter().filter(|worker| worker.state == state).count();
            self.sample("rusmd_workers", &[("state", state.name())], number);
        }
        let wanted = status.workers_wanted + status.spares_wanted;
        self.gauge("rusmd_workers_wanted", "Workers that there should be, with spares.", wanted);
        let help = "Worker processes that ended, by the reason.";
        self.counters("rusmd_worker_restarts_total", help, "reason", &status.restarts);
        let help = "Template processes that had to be started anew.";
        self.counter("rusmd_template_restarts_total", help, status.totals.template_restarts);
        let memory = status.workers.iter().filter_map(|worker| worker.memory_kib);
        let memory = memory.max().unwrap_or(0).saturating_mul(1024);
        self.gauge("rusmd_worker_resident_memory_max_bytes", "Resident memory of the largest worker.", memory);
    }

    fn about_components(&mut self, status: &Status) {
        type Value = fn(&ComponentStatus) -> u64;
        let families: [(&str, Kind, &str, Value); 4] = [
            ("rusmd_component_requests_total", Kind::Counter, "Requests that a worker was given.", |c| c.requests),
            ("rusmd_component_failures_total", Kind::Counter, "Those that the guest did not answer.", |c| c.failures),
            ("rusmd_component_worker_deaths_total", Kind::Counter, "Workers that died with it.", |c| c.worker_deaths),
            ("rusmd_component_suspended", Kind::Gauge, "1 while it is not served, for whatever reason.", |c| {
                u64::from(c.state != ComponentState::Ok)
            }),
        ];
        for (name, kind, help, value) in families {
            self.family(name, kind, help);
            for component in &status.components {
                self.sample(name, &[("component", &component.name)], value(component));
            }
        }
        let help = "Kinds of requests that are refused because they killed workers.";
        self.gauge("rusmd_poisoned_requests", help, status.poisoned.len());
    }

    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{}\"", if at == 0 { '{' } else { ',' }, Escaped(text));
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, Kind::Gauge, help);
        self.sample(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, Kind::Counter, help);
        self.sample(name, &[], value);
    }

    fn counters(&mut self, name: &str, help: &str, label: &str, values: &BTreeMap<String, u64>) {
        self.family(name, Kind::Counter, help);
        for (text, value) in values {
            self.sample(name, &[(label, text)], value);
        }
    }

    /// Buckets are cumulative here, and were not before.
    fn histogram(&mut self, name: &str, help: &str, histogram: &HistogramStatus) {
        self.family(name, Kind::Histogram, help);
        let bucket = format!("{name}_bucket");
        let mut sum = 0u64;
        for (bound, count) in histogram.bounds_us.iter().zip(&histogram.counts) {
            sum = sum.saturating_add(*count);
            self.sample(&bucket, &[("le", &Seconds(*bound, 1_000_000).to_string())], sum);
        }
        self.sample(&bucket, &[("le", "+Inf")], histogram.count());
        self.sample(&format!("{name}_sum"), &[], Seconds(histogram.sum_us, 1_000_000));
        self.sample(&format!("{name}_count"), &[], histogram.count());
    }
}

/// A whole number of fractions of a second, as seconds: exact, where a floating point number would not be.
struct Seconds(u64, u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Seconds(value, per_second) = *self;
        let digits = per_second.ilog10() as usize;
        let text = format!("{}.{:0digits$}", value / per_second, value % per_second);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// A label's value between its quotes.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                _ => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use std::collections::BTreeSet;

    fn value(text: &str, name: &str) -> Option<String> {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned))
    }

    /// Every line is a comment about the family that follows, or a sample of the family that was announced; each family once.
    #[track_caller]
    fn assert_well_formed(text: &str) {
        let mut seen = BTreeSet::new();
        let mut family = String::new();
        let mut samples = BTreeSet::new();
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a help text");
                assert!(seen.insert(name.to_owned()), "{name} twice");
                assert!(!help.is_empty());
                family = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                assert_eq!(name, family);
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            } else {
                let (series, value) = line.rsplit_once(' ').expect("a value");
                assert!(value.parse::<f64>().is_ok(), "{line}");
                let name = series.split('{').next().expect("a name");
                let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
                assert!(name == family || base == family, "{line} in {family}");
                assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
                assert!(samples.insert(series.to_owned()), "{series} twice");
            }
        }
    }

    #[test]
    fn the_text_is_well_formed_for_a_busy_server_and_for_a_new_one() {
        assert_well_formed(&render(&sample::status()));
        assert_well_formed(&render(&Status::default()));
    }

    #[test]
    fn figures_are_those_of_the_status() {
        let text = render(&sample::status());
        let expected = [
            ("rusmd_requests_total{outcome=\"served\"}", "990"),
            ("rusmd_requests_total{outcome=\"trap\"}", "0"),
            ("rusmd_responses_total{class=\"5xx\"}", "2"),
            ("rusmd_queue_depth", "3"),
            ("rusmd_workers{state=\"idle\"}", "2"),
            ("rusmd_workers_wanted", "3"),
            ("rusmd_worker_restarts_total{reason=\"crashed\"}", "2"),
            ("rusmd_worker_resident_memory_max_bytes", "15518720"),
            ("rusmd_state{state=\"reloading\"}", "1"),
            ("rusmd_generation", "7"),
            ("rusmd_reloads_total{result=\"failed\"}", "1"),
            ("rusmd_component_suspended{component=\"legacy\"}", "1"),
            ("rusmd_component_suspended{component=\"api\"}", "0"),
            ("rusmd_component_requests_total{component=\"api\"}", "1234567"),
            ("process_resident_memory_bytes", "3984384"),
            ("process_cpu_seconds_total", "65.43"),
        ];
        for (name, figure) in expected {
            assert_eq!(value(&text, name).as_deref(), Some(figure), "{name}");
        }
    }

    #[test]
    fn buckets_are_cumulative_and_end_with_all() {
        let histogram = HistogramStatus { bounds_us: vec![100, 2_500_000], counts: vec![5, 2, 1], sum_us: 10_000_001 };
        let mut text = Text(String::new());
        text.histogram("h_seconds", "Help.", &histogram);
        let expected = "# HELP h_seconds Help.\n# TYPE h_seconds histogram\n\
            h_seconds_bucket{le=\"0.0001\"} 5\nh_seconds_bucket{le=\"2.5\"} 7\nh_seconds_bucket{le=\"+Inf\"} 8\n\
            h_seconds_sum 10.000001\nh_seconds_count 8\n";
        assert_eq!(text.0, expected);
    }

    #[test]
    fn seconds_are_exact() {
        assert_eq!(Seconds(0, 1000).to_string(), "0");
        assert_eq!(Seconds(100, 1_000_000).to_string(), "0.0001");
        assert_eq!(Seconds(60_000_000, 1_000_000).to_string(), "60");
        assert_eq!(Seconds(100_000_000_001, 1_000_000).to_string(), "100000.000001");
    }

    #[test]
    fn names_of_components_are_escaped_and_nothing_of_clients_is_shown() {
        let mut status = sample::status();
        status.components[0].name = "a\"b\\c\nd".to_owned();
        let text = render(&status);
        assert!(text.contains(r#"rusmd_component_suspended{component="a\"b\\c\nd"} 0"#), "{text}");
        for outside in ["/users", "/reports", "0661f0c2a7400001", "4721"] {
            assert!(!text.contains(outside), "{outside}");
        }
    }
}

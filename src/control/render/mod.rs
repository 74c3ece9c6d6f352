//! Owns what `rusmd ctl status` and `rusmd ctl workers` look like in a terminal: what is wrong first, then the figures, then the workers.
//!
//! Pure: a status and a width in, text out. `client` drives it.

mod text;

pub use text::size;

use std::collections::BTreeMap;

use super::status::{
    ComponentState, ComponentStatus, DeathStatus, GenerationState, RequestStatus, ServerState, Status, WorkerState,
    WorkerStatus,
};
use text::{Side, Span, Table, Tone, bound, count, duration, wrap};

/// What the terminal can show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    pub columns: usize,
    pub colour: bool,
}

impl Look {
    /// For a file or a pipe.
    pub const PLAIN: Look = Look { columns: 80, colour: false };
}

/// Where the facts begin, after their labels.
const INDENT: usize = 13;

/// Deaths of workers that are shown, of those that the server remembers.
const DEATHS_SHOWN_MAX: usize = 5;

/// Components that are shown; those that have trouble come first.
const COMPONENTS_SHOWN_MAX: usize = 20;

/// Outcomes that are nothing to worry about.
const HARMLESS: [&str; 4] = ["served", "unrouted", "malformed", "client-left"];

/// The whole status.
pub fn status(status: &Status, look: Look) -> String {
    let mut page = Page { look, text: String::new() };
    page.heading(status);
    page.problems(status);
    page.facts(status);
    page.text.push('\n');
    page.text.push_str(&workers(&status.workers, look));
    page.components(&status.components);
    page.deaths(&status.last_deaths);
    page.text
}

/// The workers as a table.
pub fn workers(workers: &[WorkerStatus], look: Look) -> String {
    let mut table = Table::new(&[
        ("GEN", Side::Right),
        ("SLOT", Side::Right),
        ("PID", Side::Right),
        ("STATE", Side::Left),
        ("REQUESTS", Side::Right),
        ("AGE", Side::Right),
        ("CPU", Side::Right),
        ("MEMORY", Side::Right),
    ]);
    let mut sorted: Vec<&WorkerStatus> = workers.iter().collect();
    sorted.sort_by_key(|worker| (worker.generation, worker.slot, worker.pid));
    for worker in sorted {
        let tone = match worker.state {
            WorkerState::Idle => Tone::Plain,
            WorkerState::Busy | WorkerState::Discarding => Tone::Strong,
            WorkerState::Starting | WorkerState::Retiring => Tone::Warn,
        };
        table.push(vec![
            Span::plain(worker.generation.to_string()),
            Span::plain(worker.slot.to_string()),
            Span::plain(worker.pid.to_string()),
            Span::new(worker.state.name(), tone),
            Span::plain(count(worker.requests)),
            Span::plain(duration(worker.age_ms)),
            Span::plain(worker.cpu_ms.map_or("-".to_owned(), duration)),
            Span::plain(worker.memory_kib.map_or("-".to_owned(), size)),
        ]);
        if let Some(RequestStatus { id, method, path, component, action, age_ms }) = &worker.request {
            let handler = handler(component, action.as_deref());
            table.push_note(Span::plain(format!("{} {id} {handler} {method} {path}", duration(*age_ms))));
        }
    }
    let mut out = String::new();
    table.write(look.columns, look.colour, &mut out);
    out
}

fn handler(component: &str, action: Option<&str>) -> String {
    action.map_or(component.to_owned(), |action| format!("{component}#{action}"))
}

/// The text while it is made.
struct Page {
    look: Look,
    text: String,
}

impl Page {
    fn heading(&mut self, status: &Status) {
        let tone = match status.state {
            ServerState::Serving | ServerState::Reloading | ServerState::Upgrading => Tone::Good,
            ServerState::Starting | ServerState::Resting | ServerState::Draining | ServerState::Stopping => Tone::Warn,
        };
        let by = if status.state == ServerState::Resting { " (WINCH)" } else { "" };
        let spans = [
            Span::new(&format!("rusmd {}", status.version), Tone::Strong),
            Span::new(&format!(" is {}{by}", status.state.name()), tone),
            Span::plain(format!(", pid {}, up {}", status.pid, duration(status.uptime_ms))),
        ];
        for span in spans {
            span.write(self.look.colour, &mut self.text);
        }
        self.text.push('\n');
    }

    /// What somebody should look after.
    fn problems(&mut self, status: &Status) {
        for component in &status.components {
            let reason = component.reason.as_deref().unwrap_or("no reason given");
            match component.state {
                ComponentState::Ok => {}
                ComponentState::Suspended => {
                    let left = component.retry_in_ms.map_or(String::new(), |ms| format!(" for {}", duration(ms)));
                    self.problem(&format!("component {} is suspended{left}: {reason}", component.name));
                }
                ComponentState::Unloadable => {
                    self.problem(&format!("component {} is not served: {reason}", component.name));
                }
            }
        }
        for poison in &status.poisoned {
            let handler = handler(&poison.component, poison.action.as_deref());
            let (left, deaths) = (duration(poison.refused_for_ms), poison.deaths);
            self.problem(&format!("{handler} {} is refused for {left}: it killed {deaths} workers", poison.path));
        }
        if status.reload_waits {
            let alive = status.generations.len();
            self.problem(&format!("a reload waits: {alive} generations have requests, and the first has to end"));
        }
        let has_few = !matches!(status.state, ServerState::Starting | ServerState::Resting);
        if status.workers_ready() < status.workers_wanted && has_few {
            let (ready, wanted) = (status.workers_ready(), status.workers_wanted);
            self.problem(&format!("{ready} of {wanted} workers are ready"));
        }
        if !status.sandbox.missing.is_empty() {
            let missing = status.sandbox.missing.join(", ");
            self.problem(&format!("the sandbox of the workers is without: {missing}"));
        }
    }

    fn problem(&mut self, text: &str) {
        for (at, line) in wrap(text, self.look.columns.saturating_sub(2)).iter().enumerate() {
            let mark = if at == 0 { '!' } else { ' ' };
            let span = Span::new(&format!("{mark} {line}"), Tone::Bad).cut(self.look.columns);
            span.write(self.look.colour, &mut self.text);
            self.text.push('\n');
        }
    }

    fn facts(&mut self, status: &Status) {
        self.fact("manifest", vec![Span::plain(&status.manifest)]);
        self.fact("listeners", status.listeners.iter().map(|listener| Span::plain(&listener.address)).collect());
        let (open, most) = (count(status.connections), count(status.connections_max));
        self.fact("connections", vec![Span::plain(format!("{open} of {most}"))]);
        self.generations(status);
        self.worker_counts(status);
        self.queue(status);
        self.requests(status);
        self.restarts(status);
        self.memory(status);
        if !status.sandbox.wanted.is_empty() {
            let mut spans = vec![Span::plain(&status.sandbox.reached)];
            if status.sandbox.reached != status.sandbox.wanted && status.sandbox.reached != "strict" {
                spans.push(Span::plain(format!("{} wanted", status.sandbox.wanted)));
            }
            self.fact("sandbox", spans);
        }
    }

    fn generations(&mut self, status: &Status) {
        let mut spans = Vec::new();
        for generation in &status.generations {
            let number = generation.number;
            spans.push(match generation.state {
                GenerationState::Current => Span::plain(format!("{number} serves")),
                GenerationState::Starting => Span::new(&format!("{number} gets ready"), Tone::Warn),
                GenerationState::Draining => {
                    Span::new(&format!("{number} drains ({} in flight)", count(generation.in_flight)), Tone::Warn)
                }
            });
        }
        self.fact("generation", spans);
        for (what, attempts) in [("reloads", status.totals.reloads), ("upgrades", status.totals.upgrades)] {
            let mut spans = Vec::new();
            if attempts.ok > 0 {
                spans.push(Span::plain(format!("{} ok", count(attempts.ok))));
            }
            if attempts.failed > 0 {
                spans.push(Span::new(&format!("{} failed", count(attempts.failed)), Tone::Warn));
            }
            self.fact(what, spans);
        }
    }

    fn worker_counts(&mut self, status: &Status) {
        let mut wanted = format!("{} wanted", count(status.workers_wanted));
        if status.spares_wanted > 0 {
            wanted.push_str(&format!(" and {} spare", count(status.spares_wanted)));
        }
        let mut spans = vec![Span::plain(wanted)];
        for state in WorkerState::ALL {
            let number = status.workers.iter().filter(|worker| worker.state == state).count() as u64;
            if number > 0 {
                spans.push(Span::plain(format!("{} {}", count(number), state.name())));
            }
        }
        self.fact("workers", spans);
    }

    fn queue(&mut self, status: &Status) {
        let queue = &status.queue;
        let depth = format!("{} of {} waiting", count(queue.depth), count(queue.length_max));
        let tone = match queue.depth {
            0 => Tone::Plain,
            depth if depth < queue.length_max => Tone::Warn,
            _ => Tone::Bad,
        };
        let mut spans = vec![Span::new(&depth, tone)];
        if let Some(oldest) = queue.oldest_wait_ms {
            spans.push(Span::new(&format!("the first for {}", duration(oldest)), tone));
        }
        self.fact("queue", spans);
        self.fact("waits", quantiles(&queue.waits));
    }

    fn requests(&mut self, status: &Status) {
        let totals = &status.totals;
        let mut spans: Vec<_> = nonzero(&totals.requests)
            .map(|(name, number)| {
                let tone = if HARMLESS.contains(&name) { Tone::Plain } else { Tone::Warn };
                Span::new(&format!("{} {name}", count(number)), tone)
            })
            .collect();
        if totals.dispatched_again > 0 {
            spans.push(Span::plain(format!("{} given to a second worker", count(totals.dispatched_again))));
        }
        self.fact_or_none("requests", spans);
        let classes = totals.responses.iter().filter(|(_, number)| **number > 0);
        let classes = classes.map(|(name, number)| Span::plain(format!("{name} {}", count(*number))));
        self.fact_or_none("responses", classes.collect());
        self.fact("durations", quantiles(&totals.durations));
    }

    fn restarts(&mut self, status: &Status) {
        let spans = nonzero(&status.restarts).map(|(name, number)| {
            let tone = match name {
                "max-requests" | "max-age" | "scaled-down" | "reload" => Tone::Plain,
                _ => Tone::Warn,
            };
            Span::new(&format!("{} {name}", count(number)), tone)
        });
        self.fact_or_none("restarts", spans.collect());
    }

    fn memory(&mut self, status: &Status) {
        let mut spans = Vec::new();
        if let Some(kib) = status.memory_kib {
            spans.push(Span::plain(format!("{} supervisor", size(kib))));
        }
        let workers: Vec<u64> = status.workers.iter().filter_map(|worker| worker.memory_kib).collect();
        if let Some(most) = workers.iter().max() {
            spans.push(Span::plain(format!("{} the largest worker", size(*most))));
        }
        self.fact("memory", spans);
    }

    /// Nothing is written without spans.
    fn fact(&mut self, label: &str, spans: Vec<Span>) {
        if spans.is_empty() {
            return;
        }
        Span::new(&format!("{label:INDENT$}"), Tone::Dim).write(self.look.colour, &mut self.text);
        let room = self.look.columns.saturating_sub(INDENT);
        let mut used = 0;
        for span in spans {
            let span = span.cut(room);
            if used > 0 && used + 2 + span.width() >= room {
                self.text.push_str(",\n");
                self.text.push_str(&" ".repeat(INDENT));
                used = 0;
            } else if used > 0 {
                self.text.push_str(", ");
                used += 2;
            }
            used += span.width();
            span.write(self.look.colour, &mut self.text);
        }
        self.text.push('\n');
    }

    fn fact_or_none(&mut self, label: &str, spans: Vec<Span>) {
        self.fact(label, if spans.is_empty() { vec![Span::plain("none")] } else { spans });
    }

    fn components(&mut self, components: &[ComponentStatus]) {
        if components.is_empty() {
            return;
        }
        let mut sorted: Vec<&ComponentStatus> = components.iter().collect();
        let trouble = |component: &ComponentStatus| component.state != ComponentState::Ok || component.failures > 0;
        sorted.sort_by(|a, b| {
            let by_trouble = trouble(b).cmp(&trouble(a));
            by_trouble.then(b.failures.cmp(&a.failures)).then(b.requests.cmp(&a.requests)).then(a.name.cmp(&b.name))
        });
        let mut table = Table::new(&[
            ("REQUESTS", Side::Right),
            ("FAILURES", Side::Right),
            ("DEATHS", Side::Right),
            ("STATE", Side::Left),
            ("COMPONENT", Side::Left),
        ]);
        for component in sorted.iter().take(COMPONENTS_SHOWN_MAX) {
            let alarm = |number: u64| if number > 0 { Tone::Warn } else { Tone::Plain };
            let tone = if component.state == ComponentState::Ok { Tone::Plain } else { Tone::Bad };
            table.push(vec![
                Span::plain(count(component.requests)),
                Span::new(&count(component.failures), alarm(component.failures)),
                Span::new(&count(component.worker_deaths), alarm(component.worker_deaths)),
                Span::new(component.state.name(), tone),
                Span::plain(&component.name),
            ]);
        }
        self.text.push('\n');
        table.write(self.look.columns, self.look.colour, &mut self.text);
        if sorted.len() > COMPONENTS_SHOWN_MAX {
            self.text.push_str(&format!("and {} more\n", sorted.len() - COMPONENTS_SHOWN_MAX));
        }
    }

    fn deaths(&mut self, deaths: &[DeathStatus]) {
        if deaths.is_empty() {
            return;
        }
        let mut table = Table::new(&[
            ("GEN", Side::Right),
            ("SLOT", Side::Right),
            ("PID", Side::Right),
            ("DIED", Side::Right),
            ("REASON", Side::Left),
            ("EXIT", Side::Left),
        ]);
        for death in deaths.iter().rev().take(DEATHS_SHOWN_MAX) {
            table.push(vec![
                Span::plain(death.generation.to_string()),
                Span::plain(death.slot.to_string()),
                Span::plain(death.pid.to_string()),
                Span::plain(format!("{} ago", duration(death.ago_ms))),
                Span::plain(&death.reason),
                Span::plain(&death.exit),
            ]);
            if let Some(id) = &death.request {
                let handler = handler(death.component.as_deref().unwrap_or("?"), death.action.as_deref());
                table.push_note(Span::plain(format!("with {id} {handler}")));
            }
        }
        self.text.push('\n');
        table.write(self.look.columns, self.look.colour, &mut self.text);
    }
}

fn nonzero(counts: &BTreeMap<String, u64>) -> impl Iterator<Item = (&str, u64)> {
    let mut sorted: Vec<_> = counts.iter().map(|(name, number)| (name.as_str(), *number)).collect();
    // The names keep their order where the numbers are the same.
    sorted.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
    sorted.into_iter().filter(|(_, number)| *number > 0)
}

fn quantiles(histogram: &super::status::HistogramStatus) -> Vec<Span> {
    if histogram.count() == 0 {
        return Vec::new();
    }
    let of = |share: &str, thousandths| {
        let within = histogram.quantile_us(thousandths).map_or_else(
            || format!("over {}", bound(histogram.bounds_us.last().copied().unwrap_or(0))),
            |us| format!("within {}", bound(us)),
        );
        Span::plain(format!("{share} {within}"))
    };
    vec![of("half", 500), of("99%", 990)]
}

#[cfg(test)]
mod tests;

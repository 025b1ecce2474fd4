//! One run: the clusters, the floor, then the operator through all scenarios.

use super::{
    floor, idle,
    report::{Idle, Machine, Process, Report},
    scenarios::{self, Away, Rounds},
    target::{federated, names},
    world::{BOUND, World},
};
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

/// Creates and deletes in flight to the host.
const IN_FLIGHT: usize = 32;

/// What to measure with.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Member clusters, at least 2, as one of them has to be away at times.
    pub members: usize,
    /// Federated objects.
    pub objects: usize,
    /// Fewer changes and edits, and a short idle time.
    pub quick: bool,
}

struct Sizes {
    changes: usize,
    pairs: usize,
    edits: usize,
    absent: usize,
    idle: Duration,
    in_flight: &'static [usize],
}

impl Options {
    fn sizes(self) -> Sizes {
        if self.quick {
            let idle = Duration::from_secs(10);
            Sizes { changes: 20, pairs: 5, edits: 10, absent: 10, idle, in_flight: &[16] }
        } else {
            let idle = Duration::from_mins(1);
            Sizes { changes: 100, pairs: 20, edits: 50, absent: 50, idle, in_flight: &[4, 8, 16, 32] }
        }
    }
}

/// Measures everything. Says on standard error what it does.
///
/// # Errors
/// Too few members or objects, clusters that do not start, and whatever is not seen within two minutes, with the end of the operator's log.
pub async fn run(options: Options) -> Result<Report> {
    ensure!(options.members >= 2, "at least 2 members are needed, as one is stopped at times");
    ensure!(options.objects >= 10, "at least 10 objects are needed for the changes");
    let machine = Machine {
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        load_before: load().unwrap_or(0.0),
    };
    note("starting the clusters");
    let mut world = World::start(options.members, IN_FLIGHT).await?;
    let result = measure(&mut world, options, machine).await;
    let result = result.with_context(|| {
        format!(
            "the operator's log ends with\n{}\nall logs: {}",
            world.log_tail(),
            world.bed.logs().display()
        )
    });
    world.stop_operator().await.ok();
    world.bed.shutdown().await;
    result
}

async fn measure(world: &mut World, options: Options, machine: Machine) -> Result<Report> {
    let sizes = options.sizes();
    let mut report =
        Report { members: options.members, objects: options.objects, machine, ..Report::default() };
    note("the floor: a bare client");
    report.floor = floor::measure(world, options.objects, sizes.changes, sizes.in_flight).await?;
    note("what is asked of idle clusters without the operator");
    let without = idle::requests(world, sizes.idle).await?;
    start(world).await?;
    report.operator.empty_rss_mb = world.rss_mb()?;
    let objects = names("vs", options.objects);
    let mut rounds = Rounds::new();
    operate(world, &mut report, &objects, &sizes, &mut rounds).await?;
    note("nothing happens");
    report.idle = idle_time(world, sizes.idle, &without).await?;
    report.operator.idle_rss_mb = world.rss_mb()?;
    note("one member is down");
    report.down = scenarios::absent(world, &objects, sizes.absent, Away::Stopped, &mut rounds).await?;
    world.steady().await?;
    note("one member is hung");
    report.hung = scenarios::absent(world, &objects, sizes.absent, Away::Hung, &mut rounds).await?;
    world.steady().await?;
    note("deleting everything");
    let mut all = objects;
    all.extend(["first", "after-restart", "fresh"].map(str::to_owned));
    report.delete = scenarios::delete(world, &all).await?;
    report.operator =
        Process { cpu_seconds: world.cpu_seconds()?, peak_rss_mb: world.peak_rss_mb()?, ..report.operator };
    report.compare();
    Ok(report)
}

/// Starts the operator, joins the members and waits for a first object, so that all watches are open.
async fn start(world: &mut World) -> Result<()> {
    note("starting the operator and joining the members");
    world.start_operator().await?;
    world.join().await?;
    world.host.create("first", &federated("first", 1)).await?;
    let everywhere = world.everywhere();
    world.sight.at_round(BOUND, &everywhere, &["first".to_owned()], 1).await?;
    world.steady().await.map(drop)
}

/// What happens while all members are there.
async fn operate(
    world: &mut World,
    report: &mut Report,
    objects: &[String],
    sizes: &Sizes,
    rounds: &mut Rounds,
) -> Result<()> {
    note("bulk propagation");
    let before = member_requests(world).await?;
    report.bulk = scenarios::bulk(world, objects).await?;
    let after = member_requests(world).await?;
    report.bulk.member_requests = after.iter().zip(before).map(|(after, before)| after - before).collect();
    note("one change after the other");
    let everywhere = world.everywhere();
    report.change = scenarios::changes(world, objects, sizes.changes, &everywhere, rounds).await?;
    report.second_change = scenarios::second_changes(world, objects, sizes.pairs, rounds).await?;
    note("drift");
    report.drift = scenarios::drift(world, objects, sizes.edits).await?;
    note("restarts");
    report.restart = scenarios::restart(world).await?;
    world.steady().await.map(drop)
}

/// Writes of `virtualservices` that each member has counted.
async fn member_requests(world: &World) -> Result<Vec<u64>> {
    let mut all = Vec::new();
    for member in &world.bed.members {
        let requests = member.write_requests().await?;
        let of_type = requests.counts.iter().filter(|((_, resource), _)| resource == "virtualservices");
        all.push(of_type.map(|(_, count)| count).sum());
    }
    Ok(all)
}

async fn idle_time(
    world: &World,
    time: Duration,
    without: &(idle::Requests, idle::Requests),
) -> Result<Idle> {
    let cpu = world.cpu_seconds()?;
    let (host, members) = idle::requests(world, time).await?;
    Ok(Idle {
        seconds: time.as_secs_f64(),
        cpu_seconds_per_minute: (world.cpu_seconds()? - cpu) * 60.0 / time.as_secs_f64(),
        host_requests_per_minute: idle::added(host, &without.0, time),
        member_requests_per_minute: idle::added(members, &without.1, time),
    })
}

/// Load average of a minute.
fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

fn note(text: &str) {
    eprintln!("bench: {text}");
}

//! How many records a second each sink takes out of a full queue, and at what cost: `make sinks`. A plain run has few of them, and only sees that all
//! arrive. Where there is a yardstick, it is a client written by hand that does the same in the same run.

use std::time::{Duration, Instant};

use hookline_integration_tests::api::over_socket;
use hookline_integration_tests::broker::{Broker, run};
use hookline_integration_tests::{eventually, kafka, mysql, postgres, publish_all, services, unique};
use hookline_mqtt::client::Options;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};

use super::servers::{self, Server};

/// How long all may take.
const LIMIT: Duration = Duration::from_secs(600);
/// Rows of a statement, and records of a batch where nothing else is said.
const BATCH: usize = 1000;

/// So many records: `HOOKLINE_RECORDS`.
fn records() -> usize {
    std::env::var("HOOKLINE_RECORDS").map_or(3000, |records| records.parse().expect("a number"))
}

/// User and system time of a process, from the fields 14 and 15 of `/proc/PID/stat`, in ticks of 10 ms.
fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, fields) = stat.rsplit_once(") ").expect("a name");
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}

/// Fills the queue of a paused action, lets it go, and tells how fast it empties. Records a second.
fn measure(name: &str, connector: &str, parameters: &str) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let config = format!(
        "[connectors.server]\n{connector}\n[actions.sink]\nconnector = \"server\"\n[actions.sink.parameters]\n{parameters}\n\
         [rules.all]\nsql = 'SELECT payload.n AS n, payload.word AS word, payload.n AS same, clientid FROM \"s/#\"'\nactions = [\"sink\"]"
    );
    let broker = Broker::start(folder.path(), &config);
    let control = |command: &[&str]| {
        let (code, _, error) = run(&[command, &["--data", data.to_str().expect("UTF-8")]].concat());
        assert_eq!(code, Some(0), "{name}: {error}");
    };
    control(&["ctl", "pause", "sink"]);
    let mut client = broker.connect(&Options::new("device"));
    let count = records();
    publish_all(&mut client, "s/1", (0..count).map(|n| format!("{{\"n\": {n}, \"word\": \"w{}\"}}", n % 1000)));
    let (began, before) = (Instant::now(), cpu(broker.pid()));
    control(&["ctl", "resume", "sink"]);
    // Not by a command: starting that often would take a good part of a processor.
    let account = eventually(name, LIMIT, || {
        std::thread::sleep(Duration::from_millis(20));
        let (_, account) = over_socket(folder.path(), "/actions/sink");
        (account["ledger"]["pending"] == 0).then_some(account)
    });
    let (took, used) = (began.elapsed(), cpu(broker.pid()) - before);
    assert_eq!(account["ledger"]["delivered"].as_u64(), Some(count as u64), "{name}: {account}");
    assert!(broker.stop().success());
    let rate = count as f64 / took.as_secs_f64();
    println!("{name}: {count} records, {rate:.0} a second, CPU {:.1} us each", used.as_secs_f64() * 1e6 / count as f64);
    rate
}

fn of(server: &dyn Server) -> f64 {
    let address = server.proxy().server().to_string();
    measure(server.name(), &server.connector(&address, true), &server.parameters())
}

/// Prints what a client written by hand reaches, and the ratio.
fn by_hand(name: &str, ours: f64, work: impl FnOnce(usize)) {
    let (count, began) = (records(), Instant::now());
    work(count);
    let rate = count as f64 / began.elapsed().as_secs_f64();
    println!("{name}, by hand: {rate:.0} a second; ours is {:.0} % of it", ours / rate * 100.0);
}

#[test]
fn into_kafka() {
    let _server = services::stay();
    let (ours, theirs) = (unique("rates"), unique("rates"));
    kafka::create_topic(&ours, 1);
    kafka::create_topic(&theirs, 1);
    let by_client = |count| {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", kafka::hosts()).set("enable.idempotence", "true").set("acks", "all");
        config.set("linger.ms", "5").set("batch.size", "1000000");
        let producer: ThreadedProducer<_> = config.create().expect("a producer");
        for n in 0..count {
            let payload = format!("{{\"n\":{n},\"word\":\"w{}\",\"same\":{n},\"clientid\":\"device\"}}", n % 1000);
            let id = format!("node:1:{n:016x}");
            let headers = OwnedHeaders::new().insert(Header { key: "hookline_id", value: Some(&id) });
            let mut record = BaseRecord::to(&theirs).key("device").payload(&payload).headers(headers);
            loop {
                match producer.send(record) {
                    Ok(()) => break,
                    // Its queue is full.
                    Err((_, back)) => record = back,
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        producer.flush(LIMIT).expect("all arrive");
    };
    // Kafka's machine compiles as it goes: without that, whoever comes second is ahead.
    by_client(records());
    let rate = measure("kafka", &format!("type = \"kafka\"\nbootstrap_hosts = \"{}\"", kafka::hosts()), &format!("topic = \"{ours}\""));
    by_hand("kafka", rate, by_client);
}

#[test]
fn into_databases() {
    let _server = services::stay();
    let table = unique("rates");
    // As the action writes them, literally.
    let statements = |count: usize, head: &str, tail: &str| -> Vec<String> {
        let numbers: Vec<usize> = (0..count).collect();
        let row = |n: &usize| format!("('node:1:{n:016x}',{n},'w{}')", n % 1000);
        let rows = |chunk: &[usize]| format!("{head} {} {tail}", chunk.iter().map(row).collect::<Vec<_>>().join(","));
        numbers.chunks(BATCH).map(rows).collect()
    };
    let server = servers::postgres();
    let rate = of(&server);
    server.clean();
    postgres::execute(&format!("CREATE TABLE {table} (id text PRIMARY KEY, place bigserial, n int8, word varchar(5))"));
    by_hand("postgres", rate, |count| {
        let statements = statements(count, &format!("INSERT INTO {table} (id, n, word) VALUES"), "ON CONFLICT (id) DO NOTHING");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&postgres::url(), tokio_postgres::NoTls).await.expect("connects");
            tokio::spawn(connection);
            for statement in statements {
                client.batch_execute(&statement).await.expect("written");
            }
        });
    });
    postgres::execute(&format!("DROP TABLE {table}"));
    for server in [&servers::postgres_copy() as &dyn Server, &servers::postgres_copy_plain()] {
        let copied = of(server);
        server.clean();
        println!("{}: {:.2} times as fast as INSERT with ON CONFLICT", server.name(), copied / rate);
    }
    let server = servers::mysql();
    let rate = of(&server);
    server.clean();
    mysql::query(&format!(
        "CREATE TABLE {table} (id VARCHAR(255) PRIMARY KEY, place BIGINT NOT NULL AUTO_INCREMENT, n BIGINT, word VARCHAR(5), UNIQUE (place))"
    ));
    by_hand("mysql", rate, |count| {
        let head = format!("INSERT INTO {table} (id, n, word) VALUES");
        // One client for all of them, which reads the statements from its standard input.
        mysql::feed(&statements(count, &head, "ON DUPLICATE KEY UPDATE id = id").join(";\n"));
    });
    mysql::query(&format!("DROP TABLE {table}"));
    let server = servers::mongodb();
    of(&server);
    server.clean();
    measure(
        "sqlite",
        "type = \"sqlite\"\npath = \"t.db\"",
        "setup = \"CREATE TABLE IF NOT EXISTS t (id TEXT PRIMARY KEY, n INTEGER, word TEXT)\"\n\
         sql = \"INSERT INTO t VALUES (${hookline_id}, ${n}, ${word}) ON CONFLICT (id) DO NOTHING\"",
    );
}

#[test]
fn into_the_others() {
    let _server = services::stay();
    let server = servers::redis();
    of(&server);
    server.clean();
    of(&servers::mqtt());
    of(&servers::http());
    measure("file", "type = \"file\"\nfolder = \"out\"", "name = \"events.ndjson\"");
}

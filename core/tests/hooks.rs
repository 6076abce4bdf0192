//! Every hook point is called, with its fields, and those that may refuse do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hookline_core::store::{Opened, Store};
use hookline_core::{Broker, Hooks};
use hookline_mqtt::client::{Client, Error, Options};
use hookline_mqtt::{QoS, ReasonCode, Version};
use hookline_schemas::config::{Config, Listener};
use hookline_schemas::gate::{Failed, Gate, Verdict};
use hookline_schemas::ports::{Hook, Outcome};
use hookline_schemas::{Event, HookPoint, HookSet, Message, Value};

/// Remembers the rows of all events, and refuses what is named `refused`.
#[derive(Default)]
struct Recorder {
    rows: Mutex<Vec<(HookPoint, Value)>>,
}

impl Hook for Recorder {
    fn points(&self) -> HookSet {
        HookPoint::TABLE.iter().map(|spec| spec.point).collect()
    }

    fn on(&self, event: &Event<'_>, outcome: &mut Outcome) {
        let row = event.to_row();
        let is = |column: &str, text: &str| row.path([column]).as_text() == Some(text);
        match event.point {
            HookPoint::ClientAuthenticate if is("username", "refused") => outcome.refuse(ReasonCode::BadUserNameOrPassword),
            HookPoint::ClientAuthorize if is("topic", "refused") => outcome.refuse(ReasonCode::NotAuthorized),
            HookPoint::MessagePublish if is("topic", "refused/by/publish") => outcome.refuse(ReasonCode::PayloadFormatInvalid),
            _ => {}
        }
        self.rows.lock().expect("lock").push((event.point, row));
    }
}

/// Fails what is named so, and lets it pass all the same.
struct Gatekeeper;

impl Gate for Gatekeeper {
    fn is_open(&self) -> bool {
        false
    }

    fn on_publish(&self, message: &mut Message, failed: Failed<'_>) -> Verdict {
        match &*message.topic {
            "invalid" => failed(HookPoint::SchemaValidationFailed, "v", message),
            "untransformable" => failed(HookPoint::MessageTransformationFailed, "t", message),
            _ => {}
        }
        Verdict::Pass
    }
}

impl Recorder {
    fn of(&self, point: HookPoint) -> Vec<Value> {
        self.rows.lock().expect("lock").iter().filter(|(other, _)| *other == point).map(|(_, row)| row.clone()).collect()
    }
}

struct Fixture {
    broker: Broker,
    store: Arc<Store>,
    recorder: Arc<Recorder>,
    _folder: tempfile::TempDir,
}

fn start() -> Fixture {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = Config::default();
    let listener = Listener { bind: Some("127.0.0.1:0".parse().expect("an address")), ..Listener::default() };
    config.listeners.tcp = BTreeMap::from([("default".to_owned(), listener)]);
    config.mqtt.mqueue_max = 1;
    config.mqtt.inflight_max = 1;
    config.node.workers = 2;
    let opened: Opened = Store::open(folder.path(), "n", &config.store).expect("opens");
    let (store, recorder) = (Arc::clone(&opened.store), Arc::<Recorder>::default());
    let hooks = Hooks::new("n", vec![Arc::<Recorder>::clone(&recorder)]).behind(Arc::new(Gatekeeper));
    let broker = Broker::start(&config, opened, hooks).expect("starts");
    Fixture { broker, store, recorder, _folder: folder }
}

fn eventually(what: &str, mut ask: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !ask() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn v5(id: &str) -> Options {
    Options::new(id).version(Version::V5)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hook_point_is_called_with_its_columns() {
    let Fixture { broker, store, recorder, _folder } = start();
    let address = broker.addresses()[0].1;
    let talk = tokio::task::spawn_blocking(move || {
        let mut keeper = Client::connect(address, &v5("keeper").persistent(100)).expect("connects");
        keeper.subscribe(&[("t/#", QoS::AtLeastOnce)]).expect("subscribed");
        let mut publisher = Client::connect(address, &v5("p")).expect("connects");
        publisher.publish("t/1", b"{}", QoS::AtLeastOnce, false).expect("published");
        keeper.receive(Duration::from_secs(5)).expect("holds").expect("arrives");
        keeper.unsubscribe(&["t/#"]).expect("unsubscribed");
        for topic in ["nobody", "invalid", "untransformable"] {
            publisher.publish(topic, b"", QoS::AtLeastOnce, false).expect("published");
        }
        publisher.ping().expect("answered");
        // Taken over, then discarded.
        let keeper = Client::connect(address, &v5("keeper").persistent(100)).expect("connects");
        assert!(keeper.session_present());
        let keeper = Client::connect(address, &v5("keeper")).expect("connects");
        assert!(!keeper.session_present());
        // A slow one whose queue has room for one message.
        let mut slow = Client::connect(address, &v5("slow")).expect("connects");
        slow.subscribe(&[("s", QoS::AtLeastOnce)]).expect("subscribed");
        for _ in 0..4 {
            publisher.publish("s", b"x", QoS::AtLeastOnce, false).expect("published");
        }
        for client in [publisher, slow, keeper] {
            client.disconnect().expect("leaves");
        }
    });
    talk.await.expect("all is said");
    broker.alarms().activate("test", "only a test", serde_json::json!({}));
    broker.alarms().deactivate("test");
    for spec in HookPoint::TABLE {
        eventually(spec.name, || !recorder.of(spec.point).is_empty());
        for row in recorder.of(spec.point) {
            assert_eq!(row.path(["event"]).as_text(), Some(spec.name));
            assert_eq!(row.path(["node"]).as_text(), Some("n"));
            let missing = spec.columns.iter().filter(|column| !["username", "from_username", "client_attrs"].contains(&column.name));
            let missing: Vec<_> = missing.filter(|column| *row.path([column.name]) == Value::Undefined).map(|column| column.name).collect();
            assert!(missing.is_empty(), "{} has no {missing:?}: {}", spec.name, row.to_json());
        }
    }
    let dropped = recorder.of(HookPoint::DeliveryDropped);
    assert_eq!(dropped[0].path(["reason"]).as_text(), Some("queue_full"));
    broker.stop().await;
    store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_may_refuse() {
    let Fixture { broker, store, recorder, _folder } = start();
    let address = broker.addresses()[0].1;
    let talk = tokio::task::spawn_blocking(move || {
        let mut options = v5("x");
        options.connect.username = Some("refused".into());
        assert!(matches!(Client::connect(address, &options), Err(Error::Refused(ReasonCode::BadUserNameOrPassword))));
        let mut client = Client::connect(address, &v5("y")).expect("connects");
        assert_eq!(client.subscribe(&[("refused", QoS::AtLeastOnce)]).expect("answered"), [ReasonCode::NotAuthorized]);
        assert_eq!(client.publish("refused", b"", QoS::AtLeastOnce, false).expect("answered"), ReasonCode::NotAuthorized);
        assert_eq!(client.publish("refused/by/publish", b"", QoS::ExactlyOnce, false).expect("answered"), ReasonCode::PayloadFormatInvalid);
        // MQTT 3.1.1 has no word for it: the connection ends without an ack.
        let mut older = Client::connect(address, &Options::new("z")).expect("connects");
        assert!(older.publish("refused", b"", QoS::AtLeastOnce, false).is_err());
    });
    talk.await.expect("all is said");
    eventually("the refused CONNACK is told", || {
        let answers = recorder.of(HookPoint::ClientConnack);
        answers.iter().any(|row| row.path(["reason_code"]).as_text() == Some("bad_username_or_password"))
    });
    broker.stop().await;
    store.close();
}

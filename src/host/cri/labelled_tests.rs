use proptest::prelude::*;
use prost::Message;

use super::*;

/// The shapes of k8s.io/cri-api, with what stands between the fields that count.
#[derive(Clone, PartialEq, Message)]
struct List {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Item>,
}

#[derive(Clone, PartialEq, Message)]
struct Item {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    metadata: Option<Metadata>,
    #[prost(int32, tag = "3")]
    state: i32,
    #[prost(int64, tag = "4")]
    created_at: i64,
    #[prost(btree_map = "string, string", tag = "5")]
    labels: std::collections::BTreeMap<String, String>,
    #[prost(btree_map = "string, string", tag = "6")]
    annotations: std::collections::BTreeMap<String, String>,
    #[prost(string, tag = "7")]
    runtime_handler: String,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
    #[prost(uint32, tag = "4")]
    attempt: u32,
}

fn item(id: &str, namespace: &str, labels: &[(&str, &str)]) -> Item {
    let pairs = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    Item {
        id: id.into(),
        metadata: Some(Metadata {
            name: format!("{id}-0"),
            uid: "u".into(),
            namespace: namespace.into(),
            attempt: 1,
        }),
        state: 0,
        created_at: 1_764_590_400_000_000_000,
        labels: pairs(labels),
        annotations: pairs(&[("name", "annotated"), ("kubernetes.io/config.source", "api")]),
        runtime_handler: "runc".into(),
    }
}

fn named(items: Vec<Item>) -> Vec<String> {
    let found = listed(&List { items }.encode_to_vec(), "name").unwrap();
    found.iter().map(|one| format!("{} {}.{}", one.id, one.label, one.namespace)).collect()
}

#[test]
fn pods_that_run_are_found_by_their_label() {
    let all = vec![
        item("a", "ns1", &[("app", "x"), ("name", "Broker"), ("io.kubernetes.pod.name", "b-0")]),
        item("b", "ns1", &[("app", "name")]),
        Item { state: 1, ..item("c", "ns1", &[("name", "ended")]) },
        item("d", "kube-system", &[("name", "proxy")]),
    ];
    assert_eq!(named(all), ["a broker.ns1", "d proxy.kube-system"]);
    assert_eq!(named(vec![]), [""; 0]);
}

#[test]
fn what_no_host_may_be_called_makes_no_name() {
    for value in ["", "a.b", "-a", "a_b", "*", "../x", "ä", &"x".repeat(64)] {
        assert_eq!(named(vec![item("a", "ns1", &[("name", value)])]), [""; 0], "{value:?}");
        assert_eq!(named(vec![item("a", value, &[("name", "web")])]), [""; 0], "{value:?}");
    }
    for id in ["", &"f".repeat(129)] {
        assert_eq!(named(vec![item(id, "ns1", &[("name", "web")])]), [""; 0], "{id:?}");
    }
    assert_eq!(named(vec![Item { metadata: None, ..item("a", "ns1", &[("name", "web")]) }]), [""; 0]);
}

#[test]
fn no_list_becomes_large() {
    let many = vec![item("a", "ns1", &[("name", "web")]); 2 * MOST];
    assert_eq!(named(many).len(), MOST);
    // Entries of two bytes, as many as fit into an answer.
    let empty = [10, 0].repeat(512 << 10);
    assert_eq!(listed(&empty, "name"), Ok(vec![]));
}

fn field(number: u8, inner: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(inner.len()).unwrap()], inner].concat()
}

/// A status with this as the options of its namespaces.
fn status(options: &[u8]) -> Vec<u8> {
    let linux = field(6, &field(1, &field(2, options)));
    field(1, &[field(1, b"id"), vec![4 << 3, 0xff, 0x7f], linux, field(7, b"")].concat())
}

#[test]
fn the_node_s_network_is_told_apart() {
    assert_eq!(is_of_the_node(&status(&[1 << 3, 2, 2 << 3, 1])), Ok(true));
    for other in [&[][..], &[1 << 3, 0], &[1 << 3, 3], &[2 << 3, 2]] {
        assert_eq!(is_of_the_node(&status(other)), Ok(false), "{other:?}");
    }
    assert_eq!(is_of_the_node(&[]), Ok(false));
}

#[test]
fn what_breaks_off_is_nonsense() {
    for broken in [&[10][..], &[10, 5, 1], &[10, 0xff, 0xff, 0xff, 0xff, 0x0f], &[0xff; 20], &[11], &[9, 1]] {
        assert_eq!(listed(broken, "name"), Err(Nonsense), "{broken:?}");
        assert_eq!(is_of_the_node(broken), Err(Nonsense), "{broken:?}");
    }
    // Of a kind that nobody here asks for.
    assert_eq!(listed(&[9, 1, 2, 3, 4, 5, 6, 7, 8, 13, 1, 2, 3, 4], "name"), Ok(vec![]));
}

proptest! {
    #[test]
    fn no_bytes_make_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = listed(&bytes, "name");
        let _ = is_of_the_node(&bytes);
        let _ = is_of_the_node(&status(&bytes));
        let _ = sandbox(&bytes, "");
    }
}

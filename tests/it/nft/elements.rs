//! Elements of sets and maps, many and one by one.

use smarter_cni::kernel::NetfilterSocket;
use smarter_cni::kernel::nft::{self, Command, DataType, Datum, Element, Set, TableFamily, Transaction};

use super::whole_table::whole_table;
use super::{address, commit, hostport, hostports, masq, ours};
use crate::sandbox::sandboxed;

#[test]
fn a_thousand_elements_go_in_one_transaction() {
    sandboxed(|| {
        let table = ours(TableFamily::Ip);
        let many = |from: u16, to: u16| -> Vec<Element> {
            (from..to)
                .map(|port| Element {
                    comment: Some("a comment that takes some space, as namespace/name of a pod would".into()),
                    ..hostport(6, port, "172.38.0.5", port)
                })
                .collect()
        };
        commit([
            Command::CreateTable { table: table.clone(), comment: None },
            Command::AddSet { table: table.clone(), set: hostports() },
            Command::AddElements { table: table.clone(), set: hostports(), elements: many(1, 1001) },
        ]);
        let mut socket = NetfilterSocket::open().unwrap();
        assert_eq!(nft::elements(&mut socket, &table, &hostports()).unwrap().len(), 1000);

        // More than the socket's default send buffer.
        let add = Command::AddElements { table: table.clone(), set: hostports(), elements: many(1001, 6001) };
        match nft::commit(&mut socket, &Transaction { commands: vec![add] }) {
            Ok(()) => assert_eq!(nft::elements(&mut socket, &table, &hostports()).unwrap().len(), 6000),
            // Enlarging the buffer takes a privilege that a user namespace does not give.
            Err(error) => assert_eq!(error.errno(), Some(rustix::io::Errno::MSGSIZE), "{error}"),
        }

        // A refusal in the middle undoes everything, also what came before it.
        let mut wrong = many(7001, 7101);
        wrong.push(hostport(6, 1, "172.38.0.99", 1));
        let add = Command::AddElements { table: table.clone(), set: hostports(), elements: wrong };
        let error = nft::commit(&mut socket, &Transaction { commands: vec![add] }).unwrap_err();
        assert!(error.is_exists(), "{error}");
        assert!(
            error.to_string().starts_with("nft add element ip smarter-cni hostports { tcp . 7001"),
            "{error}"
        );
        let key = [Datum::Protocol(6), Datum::Port(7001)];
        assert_eq!(nft::element(&mut socket, &table, &hostports(), &key).unwrap(), None);
    });
}

#[test]
fn elements_are_found_changed_and_deleted() {
    sandboxed(|| {
        let table = ours(TableFamily::Ip);
        let ranges =
            Set { interval: true, ..Set::new("ranges", &[DataType::Ipv4Addr, DataType::InetService]) };
        let range = Element {
            key_end: Some(vec![address("10.1.255.255"), Datum::Port(90)]),
            ..Element::of([address("10.1.0.0"), Datum::Port(80)])
        };
        commit(whole_table());
        commit([
            Command::AddSet { table: table.clone(), set: ranges.clone() },
            Command::AddElements { table: table.clone(), set: ranges.clone(), elements: vec![range.clone()] },
            Command::AddElements {
                table: table.clone(),
                set: masq(),
                elements: ["172.39.0.0/16", "10.0.0.0/8", "255.0.0.0/8"]
                    .map(|network| Element::network(network.parse().unwrap()))
                    .to_vec(),
            },
        ]);
        let mut socket = NetfilterSocket::open().unwrap();
        let key = [Datum::Protocol(6), Datum::Port(8080)];
        let web = Element { comment: Some("shop/web".into()), ..hostport(6, 8080, "172.38.0.5", 80) };
        assert_eq!(nft::element(&mut socket, &table, &hostports(), &key).unwrap(), Some(web.clone()));
        let absent = [Datum::Protocol(17), Datum::Port(8080)];
        assert_eq!(nft::element(&mut socket, &table, &hostports(), &absent).unwrap(), None);
        let missing = Set::new("missing", &[DataType::IfName]);
        assert_eq!(nft::elements(&mut socket, &table, &missing).unwrap(), []);
        assert_eq!(
            nft::element(&mut socket, &table, &missing, &[Datum::IfName("lo".parse().unwrap())]).unwrap(),
            None
        );
        assert_eq!(nft::elements(&mut socket, &ours(TableFamily::Bridge), &missing).unwrap(), []);

        // Ranges, also adjacent ones and the one without an end.
        for (inside, network) in
            [("172.38.1.2", "172.38.0.0/16"), ("172.39.0.0", "172.39.0.0/16"), ("255.1.1.1", "255.0.0.0/8")]
        {
            let found = nft::element(&mut socket, &table, &masq(), &[address(inside)]).unwrap();
            assert_eq!(found, Some(Element::network(network.parse().unwrap())));
        }
        assert_eq!(nft::element(&mut socket, &table, &masq(), &[address("172.40.0.0")]).unwrap(), None);
        assert_eq!(
            nft::elements(&mut socket, &table, &masq()).unwrap(),
            ["10.0.0.0/8", "172.38.0.0/16", "172.39.0.0/16", "255.0.0.0/8"]
                .map(|network| Element::network(network.parse().unwrap()))
        );
        assert_eq!(nft::elements(&mut socket, &table, &ranges).unwrap(), std::slice::from_ref(&range));
        let inside = [address("10.1.2.3"), Datum::Port(85)];
        assert_eq!(nft::element(&mut socket, &table, &ranges, &inside).unwrap(), Some(range.clone()));

        // Adding again is fine, another value is not; deleting twice is not.
        let add = |element| Command::AddElements {
            table: table.clone(),
            set: hostports(),
            elements: vec![element],
        };
        commit([add(web.clone())]);
        let other = Transaction { commands: vec![add(hostport(6, 8080, "172.38.0.9", 80))] };
        assert!(nft::commit(&mut socket, &other).unwrap_err().is_exists());
        let delete = |set: Set, element| Command::DeleteElements {
            table: table.clone(),
            set,
            elements: vec![element],
        };
        commit([
            delete(hostports(), Element::of(key)),
            delete(ranges.clone(), range),
            delete(masq(), Element::network("172.38.0.0/16".parse().unwrap())),
        ]);
        let again = Transaction { commands: vec![delete(hostports(), web)] };
        assert!(nft::commit(&mut socket, &again).unwrap_err().is_missing());
        assert_eq!(nft::elements(&mut socket, &table, &ranges).unwrap(), []);
        assert_eq!(nft::element(&mut socket, &table, &masq(), &[address("172.38.1.2")]).unwrap(), None);
    });
}

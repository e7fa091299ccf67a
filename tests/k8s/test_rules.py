"""The rules themselves: silent about what is right, and each of them able to complain."""

import copy
import unittest

import engines
import rules


def right(name="smartercni_ds.yaml"):
    return next(obj for obj in engines.manifest(name) if obj["kind"] == "DaemonSet")


class Rules(unittest.TestCase):
    def test_every_rule_is_silent_about_the_manifest_and_complains_about_a_spoiled_one(self):
        for name in ("smartercni_ds.yaml", "smarterdns_ds.yaml"):
            for rule in rules.rules_of(right(name)):
                self.assertEqual(list(rule.complaints(right(name))), [], f"{name}: {rule.sentence}")
                self.assertTrue(rule.spoilers, f"nobody tried to break: {rule.sentence}")
                for number, spoil in enumerate(rule.spoilers):
                    spoiled = right(name)
                    spoil(spoiled)
                    self.assertNotEqual(spoiled, right(name), f"{rule.sentence}: spoiler {number} changes nothing")
                    self.assertTrue(list(rule.complaints(spoiled)), f"{name}: {rule.sentence}: spoiler {number} goes unnoticed")

    def test_complaints_name_the_daemon_set_and_the_rule(self):
        self.assertEqual(list(rules.complaints(engines.manifest("smarter.yaml"))), [])
        for name in ("smartercni_ds.yaml", "smarterdns_ds.yaml"):
            spoiled = right(name)
            rules.spoil_security("privileged", value=True)(spoiled)
            (said,) = rules.complaints([spoiled])
            self.assertIn(f"{spoiled['metadata']['name']}: no container is privileged: ", said)

    def test_the_name_server_looks_where_the_program_does(self):
        source = (engines.ROOT / "src/dns/data/hostname.rs").read_text() + (engines.ROOT / "src/dns/upstreams.rs").read_text()
        for path in rules.HOSTNAMES | rules.UPSTREAMS:
            self.assertIn(f'"{path}', source)

    def test_every_program_of_the_tables_is_in_a_manifest(self):
        daemonsets = [obj for name in ("smarter.yaml", "uninstall.yaml") for obj in engines.manifest(name)
                      if obj["kind"] == "DaemonSet"]
        programs = {rules.program(container) for daemonset in daemonsets for container in rules.containers(daemonset)}
        self.assertEqual(programs, set(rules.CAPABILITIES))
        self.assertEqual(programs, set(rules.PROPAGATION))

    def test_objects_that_do_not_belong_together_are_noticed(self):
        objects = engines.manifest("smartercni_ds.yaml")
        self.assertEqual(list(rules.do_not_belong_together(objects)), [])
        for spoil in (
            lambda spoiled: spoiled.pop(0),
            lambda spoiled: spoiled.append(spoiled[0]),
            lambda spoiled: spoiled[0]["metadata"].update({"namespace": "default"}),
            lambda spoiled: spoiled[0]["metadata"].update({"name": "Smarter_CNI"}),
            lambda spoiled: spoiled[1]["metadata"]["labels"].update({"version": "0.1.0+x"}),
            lambda spoiled: spoiled[1]["spec"]["template"]["metadata"]["labels"].update({"version": "-"}),
            lambda spoiled: rules.last(spoiled[1]).update({"name": "install"}),
        ):
            spoiled = copy.deepcopy(objects)
            spoil(spoiled)
            self.assertTrue(list(rules.do_not_belong_together(spoiled)))

    def test_the_schema_knows_unknown_fields_and_wrong_types(self):
        self.assertEqual(engines.against_schema(right()), "")
        spoiled = right()
        rules.pod(spoiled)["hostnetwork"] = True
        self.assertIn("hostnetwork", engines.against_schema(spoiled))
        spoiled = right()
        rules.last(spoiled)["securityContext"]["runAsUser"] = "0"
        self.assertIn("runAsUser", engines.against_schema(spoiled))
        self.assertNotEqual(engines.against_schema({**right(), "apiVersion": "apps/v9"}), "")
